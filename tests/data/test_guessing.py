"""Which column is the text and which the label, and what the labels are."""

import datasets
import numpy as np
import pandas as pd
import pytest

from workbench import data
from workbench.data.guessing import guess
from workbench.data.table import Table
from workbench.errors import DataError
from workbench.plan import choices

SENTENCES = [f"a sentence of some length, number {i}" for i in range(40)]
WORDS = [f"word{i}" for i in range(40)]
FEW = ["yes", "no"] * 20


def guessed(columns, **choice):
    return guess(Table("x.csv", columns), choices.Data(**choice))


def load(columns, **choice):
    return data.load(choices.Data(**choice), table=pd.DataFrame(columns, dtype=object))


@pytest.mark.parametrize(
    ("columns", "text", "label"),
    [
        ({"id": WORDS, "label": FEW, "text": SENTENCES}, "text", "label"),
        ({"Title": SENTENCES, "Review Text": SENTENCES, "Star Rating": [1, 2] * 20}, "Review Text", "Star Rating"),
        ({"reviewBody": SENTENCES, "url": SENTENCES, "isSpam": FEW}, "reviewBody", "isSpam"),
        ({"a": WORDS, "b": SENTENCES, "c": FEW}, "b", "c"),
        ({"b": SENTENCES, "c": [True, False] * 20, "d": list(range(40))}, "b", "c"),
        ({"sentiment": FEW, "tweet": WORDS}, "tweet", "sentiment"),
        ({"sentence": SENTENCES, "label_text": FEW, "label": [0, 1] * 20}, "sentence", "label"),
        ({"SentimentText": SENTENCES, "Sentiment": [0, 1] * 20, "Source": WORDS}, "SentimentText", "Sentiment"),
        ({"text": SENTENCES, "score": [i / 7 for i in range(40)], "kind": FEW}, "text", "kind"),
        ({"text": SENTENCES, "tags": [["a"]] * 40, "y": [0, 1] * 20}, "text", "y"),
        ({"2023-01-01": ["2023-01-01 00:00:00.000000000 0000"] * 40, "said": WORDS, "y": FEW}, "said", "y"),
    ],
)
def test_columns_are_told_by_name_then_by_values(columns, text, label):
    found = guessed(columns)
    assert found.task == "text-classification"
    assert found.columns == {"text": text, "label": label}
    assert set(found.guessed) == {"text", "label", "task"}


def test_text_alone_is_for_language_modeling():
    found = guessed({"text": SENTENCES, "id": list(range(40))})
    assert (found.task, found.columns) == ("language-modeling", {"text": "text"})
    assert found.guessed == {"text": "its name says so", "task": "there is no label column"}


def test_every_guess_has_its_reason():
    found = guessed({"said": SENTENCES, "kind": FEW})
    assert found.guessed["text"] == "its texts are the longest"
    assert found.guessed["label"] == "it has the fewest different values"
    assert guessed({"text": SENTENCES, "stars": FEW}).guessed["label"] == "its name says so"


def test_chosen_columns_win_and_are_no_guess():
    columns = {"text": SENTENCES, "label": FEW, "other": SENTENCES[::-1], "user": WORDS}
    found = guessed(columns, text_column="other", label_column="user", group_column="label", task="text-classification")
    assert found.columns == {"text": "other", "label": "user", "group": "label"}
    assert found.guessed == {}


def test_language_modeling_needs_no_label():
    assert "label" not in guessed({"text": SENTENCES, "label": FEW}, task="language-modeling").columns


@pytest.mark.parametrize("field", ["text_column", "label_column", "group_column"])
def test_a_wrong_column_names_the_nearest(field):
    with pytest.raises(DataError) as caught:
        guessed({"review": SENTENCES, "stars": FEW}, **{field: "star"})
    assert "'star'" in caught.value.what
    assert "review, stars" in caught.value.what
    assert "'stars'" in caught.value.hint


@pytest.mark.parametrize(
    ("columns", "task", "words"),
    [
        (
            {"text": SENTENCES, "id": WORDS},
            "text-classification",
            "which text-classification needs; its columns are text, id",
        ),
        ({"n": list(range(40)), "label": FEW}, "text-classification", "no text column"),
        ({"text": SENTENCES, "label": FEW}, "image-classification", "no image column"),
    ],
)
def test_what_lacks_is_said_with_the_columns(columns, task, words):
    with pytest.raises(DataError) as caught:
        guessed(columns, task=task)
    assert words in caught.value.what
    assert caught.value.hint


@pytest.mark.parametrize(
    ("values", "labels"),
    [
        ([10, 9, 2, 1], ("1", "2", "9", "10")),
        (["10", "9", "2", "1"], ("1", "2", "9", "10")),
        ([4.0, 5.0, 1.0, 2.0], ("1", "2", "4", "5")),
        (["4.0", "5.0", "1.0", "10.0"], ("1", "4", "5", "10")),
        ([3.5, 4.0, 0.5, 1.0], ("0.5", "1", "3.5", "4")),
        ([True, False, True, False], ("False", "True")),
        (["b", "A", "c", " b "], ("A", "b", "c")),
        (["none", "null", "none", "x"], ("none", "null", "x")),
        ([np.int64(3), "3", 3.0, "x"], ("3", "x")),
        (["-1", "0", "+1", "01"], ("-1", "0", "+1", "01")),
    ],
)
def test_class_names_and_their_order(values, labels):
    frame = pd.DataFrame({"text": SENTENCES, "label": pd.Series(values * 10, dtype=object)})
    split = data.load(choices.Data(), table=frame)
    assert split.labels == labels
    by_row = {
        row["row"]: split.labels[row["label"]] for part in ("train", "validation", "test") for row in split.part(part)
    }
    assert all(by_row[i] == by_row[i % 4] for i in range(40))


def test_missing_labels_and_texts_are_left_out_and_counted(tmp_path):
    path = tmp_path / "x.csv"
    rows = [f"{text},{label}" for text, label in zip(WORDS, FEW, strict=True)]
    rows[2], rows[5], rows[6], rows[7] = ",yes", "  ,no", "x,", "x,NaN"
    path.write_text("\n".join(["text,label", *rows]))
    split = data.load(choices.Data(source=str(path)))
    assert split.rows == 36
    assert "2 rows without text left out (line 4, line 7)" in split.notes
    assert "2 rows without label left out (line 8, line 9)" in split.notes


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"text": SENTENCES, "label": ["a"] * 40}, "only one class, 'a'"),
        ({"text": SENTENCES, "label": WORDS}, "40 different values in 40 rows"),
        ({"text": SENTENCES, "label": [i / 7 for i in range(40)]}, "40 different values"),
        ({"text": SENTENCES, "label": [None] * 40}, "no row that can be used"),
        ({"text": [""] * 40, "label": FEW}, "no row that can be used"),
        ({"text": SENTENCES, "label": [["a", "b"], ["a"]] * 20}, "row 0, column 'label': the label is ['a', 'b']"),
        ({"text": [*SENTENCES[:-1], {"a": 1}], "label": FEW}, "row 39: 'text' has a dict"),
        ({"text": [*SENTENCES[:-1], "\ud800"], "label": FEW}, "row 39: the text contains half a character"),
        ({"text": SENTENCES, "label": [*FEW[:-2], "\ud800", "\ud800"]}, "half a character"),
    ],
)
def test_unusable_values_are_refused_with_their_place(columns, words):
    with pytest.raises(DataError) as caught:
        load(columns, text_column="text", label_column="label", task="text-classification")
    assert words in caught.value.what


def test_numbers_are_read_as_text_where_text_is_asked_for():
    split = load({"n": list(range(1000, 1040)), "label": FEW}, text_column="n")
    assert split.train[0]["text"].isdigit()


def test_not_labelled_is_missing():
    features = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["no", "yes"])})
    table = datasets.Dataset.from_dict({"text": SENTENCES, "label": [0, 1, -1, 0] * 10}, features=features)
    split = data.load(choices.Data(), table=table)
    assert split.rows == 30
    assert split.labels == ("no", "yes")

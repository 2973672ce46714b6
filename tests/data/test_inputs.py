import io
import re
from pathlib import Path

import datasets
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from workbench.data import load
from workbench.data.inputs import read_inputs
from workbench.data.pictures import PictureFrame
from workbench.errors import DataError
from workbench.plan.choices import Data

TEXT, IMAGE = "text-classification", "image-classification"
PIXELS = np.random.default_rng(0).integers(0, 255, (6, 8, 3), dtype=np.uint8)


def texts(inputs, columns=()):
    return list(read_inputs(inputs, TEXT, columns).rows["text"])


@pytest.mark.parametrize(
    "inputs",
    [
        ["good film", "7"],
        ("good film", 7),
        np.array(["good film", "7"]),
        np.array(["good film", 7], dtype=object),
        pd.Series(["good film", "7"], index=["a", "b"]),
        pd.DataFrame({"review": ["good film", "7"], "label": ["x", "y"]}),
        datasets.Dataset.from_dict({"review": ["good film", "7"]}),
        iter(["good film", "7"]),
    ],
    ids=lambda value: type(value).__name__,
)
def test_texts_are_read_from_whatever_holds_them(inputs):
    assert texts(inputs, ("review",)) == ["good film", "7"]


def test_one_text_is_one_row_and_an_index_stays():
    assert texts("good film") == ["good film"]
    assert texts(np.array("good film")) == ["good film"]
    assert list(read_inputs(pd.Series(["a b", "c d"], index=[7, 9]), TEXT, ()).index) == [7, 9]


def test_texts_of_several_columns_are_joined_as_the_run_joined_them():
    table = pd.DataFrame(
        {"title": ["A film", None, "A play"], "body": ["It is good.", "It is bad.", " "], "year": [1, 2, 3]}
    )
    found = read_inputs(table, TEXT, ("title", "body"), " | ")
    assert list(found.rows["text"]) == ["A film | It is good.", "It is bad.", "A play"]
    choice = Data(text_column=("title", "body"), text_separator=" | ", label_column="year")
    assert {*load(choice, table=pd.concat([table] * 6, ignore_index=True)).train["text"]} <= {*found.rows["text"]}
    table.loc[1, "body"] = ""
    with pytest.raises(DataError, match="row 1 is None; expected a text"):
        read_inputs(table, TEXT, ("title", "body"), " | ")
    with pytest.raises(DataError, match="expected 'body'"):
        read_inputs(table[["title"]], TEXT, ("title", "body"))


def saved(folder: Path):
    Image.fromarray(PIXELS).save(folder / "one.png")
    return folder / "one.png"


def as_bytes():
    memory = io.BytesIO()
    Image.fromarray(PIXELS).save(memory, format="PNG")
    return memory.getvalue()


@pytest.mark.parametrize(
    "make",
    [
        lambda folder: saved(folder),
        lambda folder: str(saved(folder)),
        lambda folder: Image.fromarray(PIXELS),
        lambda folder: PIXELS,
        lambda folder: PIXELS[None],
        lambda folder: as_bytes(),
        lambda folder: [saved(folder)],
        lambda folder: pd.Series([Image.fromarray(PIXELS)]),
        lambda folder: pd.DataFrame({"photo": [str(saved(folder))]}),
        lambda folder: datasets.Dataset.from_dict({"photo": [Image.fromarray(PIXELS)]}),
        lambda folder: [{"bytes": as_bytes(), "path": None}],
    ],
)
def test_images_are_read_from_whatever_holds_them(tmp_path, make):
    found = read_inputs(make(tmp_path), IMAGE, ("photo",))
    assert [np.array(image).tolist() for image in found.rows["image"]] == [PIXELS.tolist()]
    (given,) = found.given
    assert isinstance(given, (str, Path)) or np.array(given).tolist() == PIXELS.tolist()


def test_grey_arrays_are_images():
    for array in (PIXELS[..., 0], PIXELS[..., :1]):
        assert np.array(read_inputs(array, IMAGE, ()).rows["image"][0]).tolist() == PIXELS[..., 0].tolist()
    assert len(read_inputs(np.stack([PIXELS[..., 0]] * 3)[..., :7], IMAGE, ()).given) == 3


@pytest.mark.parametrize(
    ("inputs", "task", "words"),
    [
        ([], TEXT, "nothing to predict: expected at least one text"),
        (pd.DataFrame({"text": []}), TEXT, "nothing to predict"),
        (["good", None], TEXT, "row 1 is None; expected a text"),
        (pd.Series(["good", float("nan")]), TEXT, "row 1 is nan; expected a text"),
        (pd.Series(["good", pd.NA], dtype="string"), TEXT, "row 1 is <NA>; expected a text"),
        (["good", "  "], TEXT, "row 1 is an empty text"),
        (["good", "\ud800"], TEXT, "row 1: the text contains half a character"),
        ([["good"]], TEXT, "row 0 is of type list; this run reads texts"),
        (Image.fromarray(PIXELS), TEXT, "row 0 is an image; this run reads texts"),
        (PIXELS, TEXT, "row 0 is an image; this run reads texts"),
        (None, TEXT, "nothing to predict: got None; expected at least one text"),
        ([1, 2], TEXT, "row 0 is the number 1; this run reads texts"),
        (np.array([1.5]), TEXT, "row 0 is the number 1.5; this run reads texts"),
        (Path("a.png"), TEXT, "row 0 is an image; this run reads texts"),
        (pd.DataFrame({"words": ["good"]}), TEXT, "the table has the columns words; expected 'text'"),
        ("what a film", IMAGE, "row 0 is 'what a film', and there is no such file; this run reads images"),
        ([PIXELS, None], IMAGE, "row 1 is None; expected an image"),
        ([7], IMAGE, "row 0 is of type int; this run reads images"),
        (PIXELS / 255, IMAGE, r"row 0 is an array of float64 \(6, 8, 3\); expected uint8"),
        (b"no image", IMAGE, "row 0: the image can't be read: not an image of a known format"),
        (as_bytes()[:80], IMAGE, "row 0: the image can't be read"),
    ],
)
def test_what_can_not_be_read_is_said_with_its_row(inputs, task, words):
    with pytest.raises(DataError, match=words):
        read_inputs(inputs, task, ())


def test_the_path_of_something_else_is_said_to_be_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    saved(tmp_path)
    (tmp_path / "rows.csv").write_text("text\ngood\n")
    (tmp_path / "photos").mkdir()
    for inputs, task, what, hint in (
        ("one.png", TEXT, "row 0 is 'one.png', which is an image file; this run reads texts", "'first text'"),
        (["good", "rows.csv"], TEXT, "row 1 is 'rows.csv', which is a CSV file", r"pandas\.read_csv\('rows.csv'\)\["),
        (str(tmp_path / "photos"), TEXT, "which is a folder; this run reads texts", "'first text'"),
        ("rows.csv", IMAGE, "which is a CSV file; this run reads images, so expected the path of each", "read_csv"),
        (Path("photos"), IMAGE, "row 0 is 'photos', which is a folder", r"Path\('photos'\)\.iterdir\(\)"),
    ):
        with pytest.raises(DataError, match=what) as caught:
            read_inputs(inputs, task, ())
        assert re.search(hint, caught.value.hint)
    frame = pd.DataFrame({"text": ["one.png", 7]})  # a column of a table may have it
    assert texts(frame) == ["one.png", "7"]


def test_a_frame_shows_its_images_as_pictures_and_its_texts_as_text():
    evil = "<img src=x onerror=hacked()>"
    frame = PictureFrame({"image": [Image.fromarray(PIXELS)] * 2, "text": [evil, evil]})
    html = frame.head(1)._repr_html_()
    assert html.count('<img alt="" src="data:image/png;base64,') == 1
    assert "<img src=x" not in html
    assert "&lt;img src=x" in html
    assert "1 rows" in html

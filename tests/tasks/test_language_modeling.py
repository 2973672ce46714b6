import pytest
import tiny
import torch
from datasets import Dataset
from hypothesis import given
from hypothesis import strategies as st

from workbench.errors import PlanError
from workbench.plan.choices import Data
from workbench.tasks import TABLE
from workbench.tasks.language_modeling import windows


@given(st.integers(0, 60), st.integers(2, 12), st.data())
def test_every_token_but_the_first_is_a_target_exactly_once(length, limit, data):
    overlap = data.draw(st.integers(1, limit - 1))
    document = list(range(length))
    cut = windows(document, limit, overlap)
    assert [token for ids, first in cut for token in ids[first:]] == document[1:]
    assert all(2 <= len(ids) <= limit and 1 <= first < len(ids) for ids, first in cut)
    assert all(ids == document[ids[0] : ids[0] + len(ids)] for ids, _ in cut)  # the tokens before are those that were
    assert all(first == overlap for _, first in cut[1:])


def test_an_overlap_that_leaves_no_new_token_is_refused():
    backbone = tiny.backbone("gpt2")
    with pytest.raises(PlanError, match="window_overlap is 8 tokens and a window has 8"):
        TABLE["language-modeling"].encode(tiny.rows("gpt2", 3), backbone, Data(max_length=8, window_overlap=8))


def test_labels_are_the_next_tokens_and_padding_is_none():
    backbone = tiny.backbone("gpt2")
    examples = TABLE["language-modeling"].encode(tiny.rows("gpt2", 6), backbone, Data(max_length=8))
    batch = examples.batch(range(len(examples)))
    for ids, mask, labels in zip(*(batch[n].tolist() for n in ("input_ids", "attention_mask", "labels")), strict=True):
        length = sum(mask)
        assert labels[: length - 1] == ids[1:length]
        assert set(labels[length - 1 :]) == {-100}


def test_a_pad_token_that_is_also_the_end_token_is_still_a_target():
    backbone = tiny.backbone("gpt2")
    tokenizer = backbone.preprocessor
    tokenizer.pad_token = tokenizer.eos_token
    examples = TABLE["language-modeling"].encode(tiny.rows("gpt2", 4), backbone, Data(max_length=8))
    with_end = [(torch.tensor([5, 6, tokenizer.eos_token_id]), 1), (torch.tensor([5, 6, 7, 8, 9]), 1)]
    batch = examples.collate(with_end)
    assert batch["labels"].tolist() == [[6, tokenizer.eos_token_id, -100, -100, -100], [6, 7, 8, 9, -100]]


def test_texts_without_a_target_are_counted_and_said():
    backbone = tiny.backbone("gpt2")
    for texts, note in (
        (["good", "so dull it was"], "1 text of fewer than two tokens has no target and was left out"),
        (["good", "so dull", "bad"], "2 texts of fewer than two tokens have no target and were left out"),
    ):
        examples = TABLE["language-modeling"].encode(Dataset.from_dict({"text": texts}), backbone, Data(max_length=8))
        assert (examples.notes, len(examples), examples.row(0)) == ((note,), 1, 1)


def test_each_window_knows_its_row():
    backbone = tiny.backbone("gpt2")
    rows = Dataset.from_dict({"text": [" ".join(tiny.WORDS[:9]), "bad", " ".join(tiny.WORDS[9:14])]})
    examples = TABLE["language-modeling"].encode(rows, backbone, Data(max_length=4))
    assert [examples.row(index) for index in range(len(examples))] == [0, 0, 0, 2, 2]
    drawn = examples.sample(2, seed=1)
    known = [id(item) for item in examples.items]
    assert [examples.row(known.index(id(item))) for item in drawn.items] == [drawn.row(0), drawn.row(1)]
    assert drawn.row(1) == 2

import tiny
from hypothesis import given
from hypothesis import strategies as st

from workbench.choices import Data
from workbench.tasks import TABLE
from workbench.tasks.language_modeling import windows


@given(st.lists(st.integers(3, 20), max_size=60), st.integers(2, 12))
def test_every_token_but_the_first_is_a_target_exactly_once(document, limit):
    cut = windows(document, limit)
    assert [token for window in cut for token in window[1:]] == document[1:]
    assert all(2 <= len(window) <= limit for window in cut)


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
    with_end = [[5, 6, tokenizer.eos_token_id], [5, 6, 7, 8, 9]]
    batch = examples.collate(with_end)
    assert batch["labels"].tolist() == [[6, tokenizer.eos_token_id, -100, -100, -100], [6, 7, 8, 9, -100]]


def test_texts_without_a_target_are_counted_and_said():
    backbone = tiny.backbone("gpt2")
    rows = tiny.rows("gpt2", 3).map(lambda row, i: {"text": "good" if i == 0 else row["text"]}, with_indices=True)
    examples = TABLE["language-modeling"].encode(rows, backbone, Data(max_length=8))
    assert examples.notes == ("1 texts of fewer than two tokens have no target and were left out",)

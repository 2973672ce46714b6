import re
from pathlib import Path

import pytest

import workbench as wb
from widgets import panel
from workbench.glossary import GLOSSARY

# fmt: off
WORDS = {
    "backbone", "head", "block", "frozen", "fine-tuning", "LoRA", "adapter", "nat", "loss", "perplexity", "token",
    "epoch", "step", "batch", "learning rate", "warm-up", "checkpoint", "fork", "validation rows", "test rows",
    "early stopping", "unfreezing", "seed", "dropout", "weight decay",
}
# fmt: on


@pytest.mark.parametrize("word", GLOSSARY)
def test_a_meaning_is_one_or_two_short_sentences(word):
    meaning = GLOSSARY[word]
    assert meaning[0].isupper()
    assert meaning.endswith(".")
    assert len(meaning) <= 200
    assert len(re.findall(r"[.!?](?= [A-Z0-9]|$)", meaning)) <= 3


@pytest.mark.parametrize(("asked", "word"), [("LORA", "LoRA"), ("Warm up", "warm-up"), ("epochs", "epoch")])
def test_a_word_is_found_however_it_is_written(asked, word):
    assert wb.explain(asked) == GLOSSARY[word]


def test_without_a_word_all_words_are_listed():
    assert all(word in wb.explain() for word in GLOSSARY)


def test_an_unknown_word_gets_the_nearest_one():
    with pytest.raises(wb.WorkbenchError, match="'perplexity'"):
        wb.explain("perplexty")


def test_every_word_that_a_page_explains_is_in_the_glossary_and_sent_with_it():
    for script in Path(panel.STATIC).glob("*.js"):
        words = panel.TERM.findall(script.read_text(encoding="utf-8"))
        assert set(words) <= set(GLOSSARY), script.name

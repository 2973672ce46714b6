"""Guesses what people mean who write in their own words which blocks are trainable."""

import re

from workbench.errors import QUESTION

_WORDS = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
_NUMBERS = {word: number for number, word in enumerate(_WORDS, 1)}
_ALL = r"full|fully|every|everything|entire|whole|total|complete|any|unfrozen|all \w+|(full|whole) .+|true|fine-?tun\w+"
_HEAD = r"classifier|classification|heads?|top|linear|probe|linear prob\w+|output|feature extraction|none|nothing|false"
_LAST = r"(?:the )?(?:last|lst|top|final|upper|highest)?[\s_-]*(\d+|[a-z]+)(?: (?:blocks?|layers?|stages?))?"


def meant(value: str) -> str:
    """Return a hint with the spelling of a plan: 'head', 'all' or 'last 2'."""
    words = " ".join(value.lower().replace("_", " ").replace("-", " ").split())
    if words in ("lora", "adapter", "adapters", "peft"):
        return "use method='lora', and choose with trainable which blocks get adapters"
    if re.fullmatch(_ALL, words):
        return f"{QUESTION} 'all'?"
    if re.fullmatch(_HEAD, words) or re.fullmatch(rf"(?:the )?(?:{_HEAD})(?: only| layers?| head)?", words):
        return f"{QUESTION} 'head'?"
    found = re.fullmatch(_LAST, words)
    number = _NUMBERS.get(found[1], int(found[1]) if found[1].isdecimal() else 0) if found else 0
    if found and found[1] in ("block", "layer", "stage"):
        number = 1
    return f"{QUESTION} 'last {min(number, 9999)}'?" if number else "use 'head', 'last 2', 'all', or names of blocks"

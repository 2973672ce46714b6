"""Says types, numbers and values of a plan in words, for error messages and the reference of the fields."""

import dataclasses
import math
import re
import types
import typing
from typing import Any, Literal


def options(hint: Any) -> tuple[Any, ...]:
    """Return the types of a union, or the one type of anything else."""
    return typing.get_args(hint) if typing.get_origin(hint) in (types.UnionType, typing.Union) else (hint,)


def literals(hint: Any) -> list[str]:
    """Return the words that a type allows, if it allows only some."""
    return [word for option in options(hint) if is_literal(option) for word in typing.get_args(option)]


def is_literal(option: Any) -> bool:
    """Whether a type allows only some words."""
    return typing.get_origin(option) is Literal


def kind(entry: "dataclasses.Field[Any]") -> str:
    """Return which values a field can have, for example "a whole number from 1 to 9, or None (all rows)"."""
    about = entry.metadata
    limits = f" from {number(about['low'])} to {number(about['high'])}" if "low" in about else ""
    numbers = {int: f"a whole number{limits}", float: f"a number{limits}"}
    words: dict[Any, str] = numbers | {str: about["text"], types.NoneType: f"None ({about['none']})"}
    others = [words.get(option, "a list of names") for option in options(entry.type) if not is_literal(option)]
    *first, last = [*map(repr, literals(entry.type)), *others]
    return f"{', '.join(first)} or {last}" if first else last


def number(value: float) -> str:
    """Return a number as people write it: 1e-8, 0.001, 65,536."""
    if math.isfinite(value) and value == int(value) and abs(value) < 10**10:
        return f"{value:,.0f}"
    return re.sub(r"e([+-])0*", lambda sign: "e" + sign[1].strip("+"), f"{value:g}")

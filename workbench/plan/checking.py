"""Checks the values of a plan: types, ranges, names, and text that every file and panel can represent.

Values may come from anybody: a file sent by mail, a form, a sweep. An invalid value raises a `PlanError` that shows it
shortened, however long or strange it is. The fields themselves are in choices/.
"""

import dataclasses
import math
import numbers
import types
import typing
from collections.abc import Mapping
from typing import Any

from workbench.errors import PlanError, nearest
from workbench.plan import aliases, block_words, words
from workbench.untrusted import shown, text_fault

_MAX_NAMES = 4096


def typed(entry: "dataclasses.Field[Any]", value: Any, hint: Any) -> Any:
    """Return `value` as the type `hint`; a JSON integer may stand for a float, and a JSON list for a tuple.

    Raises:
        PlanError: It has another type, or is text that can't be a name or a path.
    """
    for option in words.options(hint):
        found = _as(entry.name, value, option)
        if found is not None or (value is None and option is types.NoneType):
            return found
    raise _wrong_type(entry, value)


def _as(name: str, value: Any, option: Any) -> Any:
    """Return `value` as one type, or None if it does not have that type."""
    if words.is_literal(option):
        return value if isinstance(value, str) and value in typing.get_args(option) else None
    if typing.get_origin(option) is tuple:
        return _names(name, value)
    if option in (int, float):
        return _number(value, option)
    if option is str and isinstance(value, str):
        return _text(name, value)
    return None


def _names(name: str, value: Any) -> tuple[str, ...] | None:
    if not isinstance(value, (list, tuple)) or not all(isinstance(item, str) for item in value):
        return None
    if len(value) > _MAX_NAMES:
        raise PlanError(f"{name} has {len(value):,} names; expected at most {_MAX_NAMES:,}")
    return tuple(_text(name, item) for item in value)


def _text(name: str, value: str) -> str:
    if fault := text_fault(value):
        raise PlanError(f"{name} is {shown(value)}, which {fault}", hint="write plain text")
    return str(value)


def _number(value: Any, kind: type) -> Any:
    """Return a finite number, NumPy scalars included, as `kind`; None for anything else."""
    wanted = numbers.Integral if kind is int else numbers.Real
    if isinstance(value, bool) or not isinstance(value, wanted):
        return None
    try:
        return kind(value) if math.isfinite(value) else None
    except OverflowError:  # an integer too large for a float
        return math.inf if value > 0 else -math.inf  # type: ignore[operator]


def _wrong_type(entry: "dataclasses.Field[Any]", value: Any) -> PlanError:
    known = words.literals(entry.type)
    hint = nearest(value, known) if known and isinstance(value, str) else ""
    if isinstance(value, str) and {int, float} & {*words.options(entry.type)} and _is_number(value):
        hint = f"write {value.strip()} without quotes"
    if isinstance(value, int) and "last 2" in entry.metadata["text"]:  # a number of blocks
        hint = block_words.meant(str(value))
    return PlanError(f"{entry.name} is {shown(value)}; expected {words.kind(entry)}", hint=hint)


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def in_range(entry: "dataclasses.Field[Any]", value: Any) -> Any:
    """Return `value` if it is in the range of the field's metadata, or if that has none.

    Raises:
        PlanError: It is out of range.
    """
    if value is None or "low" not in entry.metadata:
        return value
    low, high = entry.metadata["low"], entry.metadata["high"]
    if not low <= value <= high:
        what = f"{entry.name} is {words.number(value)}; it must be between {words.number(low)} and {words.number(high)}"
        raise PlanError(what, hint=f"use {entry.default}, the default")
    return value


def known_only(where: str, tree: Any, known: typing.Collection[str]) -> None:
    """Check that `tree` is a JSON object with no other names than `known`.

    Raises:
        PlanError: It is not; the message gives the nearest known name.
    """
    if not isinstance(tree, Mapping):
        raise PlanError(f"{where} is {shown(tree)}; expected an object of {', '.join(sorted(known))}")
    for name in tree:
        if not isinstance(name, str) or name not in known:
            raise PlanError(f"{where} has no {shown(name)}", hint=aliases.meant(shown(name).strip("'"), known))


def without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return the pairs of a JSON object as a dictionary.

    Raises:
        PlanError: A name occurs twice; one of its values would be lost silently.
    """
    tree = dict(pairs)
    if len(tree) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise PlanError(f"the plan has {shown(twice)} twice; expected each name once", hint="keep one of them")
    return tree

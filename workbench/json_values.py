"""Values of typed fields to JSON and back: numbers that JSON lacks, tuples, mappings, text that a page can hold.

What is read may come from anybody: a value of another type than its field is refused, not passed on to where it would
break something. Which fields there are is said where they are (events.py).
"""

import math
import types
import typing
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

_LARGEST = 2**63  # no count, step or size comes near

Reader = Callable[[Any], Any]


def to_json(value: Any) -> Any:
    """Return a value as JSON has it; numbers that it lacks become "nan", "inf" or "-inf", tuples lists."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, Mapping):
        return {key: to_json(item) for key, item in value.items()}
    return [to_json(item) for item in value] if isinstance(value, tuple | list) else value


@cache
def reader(hint: Any) -> Reader:
    """Return what turns a JSON value into one of the type `hint`; it raises TypeError or ValueError where it can't."""
    kind, inner = typing.get_origin(hint), typing.get_args(hint)
    if kind in (types.UnionType, typing.Union):  # of one type and None
        item = reader(next(option for option in inner if option is not types.NoneType))
        return lambda value: None if value is None else item(value)
    if kind is tuple:
        item = reader(inner[0])
        return lambda value: tuple(item(one) for one in _of(list, value))
    if kind is Mapping:
        item = reader(inner[1])
        return lambda value: {_text(name): item(one) for name, one in _of(dict, value).items()}
    return _READERS[hint]


def _of(kind: type, value: Any) -> Any:
    if type(value) is not kind:
        raise TypeError(f"expected {kind.__name__}, got {type(value).__name__}")
    return value


def _text(value: Any) -> str:
    text: str = _of(str, value)
    return text.encode(errors="backslashreplace").decode()  # half a character would be refused by every page


def _whole(value: Any) -> int:
    number: int = _of(int, value)
    if not -_LARGEST <= number < _LARGEST:
        raise ValueError("a whole number beyond all counts")
    return number


def _real(value: Any) -> float:
    if type(value) not in (float, int) and value not in ("nan", "inf", "-inf"):
        raise TypeError(f"expected a number, got {type(value).__name__}")
    return float(value)


def _plain(value: Any) -> Any:
    """Return a value of no given type: lists become tuples, as in a plan."""
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, dict):
        return {_text(name): _plain(item) for name, item in value.items()}
    return tuple(_plain(item) for item in value) if isinstance(value, list) else value


_READERS: dict[Any, Reader] = {
    str: _text,
    int: _whole,
    float: _real,
    bool: lambda value: _of(bool, value),
    Any: _plain,
}

"""Reads what a stranger may have written: small files, text, and the JSON values of typed fields.

Plans, logs and run folders are passed around. A value of another type than its field is refused here, before it can
break something elsewhere, and no file is read that could block or fill the memory. Which fields there are is said where
they are (plan/choices.py, events/kinds.py). Left out: logs and tables, which may be as long as they like.
"""

import math
import reprlib
import types
import typing
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

_LARGEST_FILE = 4 << 20  # bytes; a plan has 2,000
_LARGEST_COUNT = 2**63  # no count, step or size comes near
_LONGEST_TEXT = 4096  # characters, as long as a path may be

_SHORT = reprlib.Repr()
_SHORT.maxlevel = 2
_SHORT.maxstring = _SHORT.maxother = 80  # characters

Reader = Callable[[Any], Any]


def shown(value: Any) -> str:
    """Return a value as an error shows it: short, whatever it is."""
    try:
        return _SHORT.repr(value)
    except Exception:  # a number of 5,000 digits, an object whose own repr fails
        return f"<{type(value).__name__}>"


def text_fault(text: str) -> str:
    """Return why a text can't be a name in a plan, a path or a line of a message; "" if it can."""
    if len(text) > _LONGEST_TEXT:
        return f"has {len(text):,} characters; expected {_LONGEST_TEXT:,} at most"
    if "\0" in text:
        return "holds a zero byte"
    return "holds half a character (a lone surrogate)" if any("\ud800" <= sign <= "\udfff" for sign in text) else ""


def check_ordinary(path: Path) -> None:
    """Check that `path` is an ordinary file, or a link to one.

    Raises:
        OSError: It is not there, or a folder, a pipe or a device.
    """
    if not path.is_file():
        path.stat()  # says so if there is nothing
        raise OSError(0, "it is not an ordinary file", str(path))


def read_text(path: Path) -> str:
    """Return the text of a small file.

    Raises:
        OSError: It is not there, can't be read, is no ordinary file, or is larger than any file of its kind.
        ValueError: It is not UTF-8.
    """
    check_ordinary(path)
    if path.stat().st_size > _LARGEST_FILE:
        raise OSError(0, f"it is larger than {_LARGEST_FILE >> 20} MB", str(path))
    return path.read_text(encoding="utf-8")


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
    if not -_LARGEST_COUNT <= number < _LARGEST_COUNT:
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

"""Reads files that a stranger may have written: small files, text, and the JSON values of typed fields.

People pass plans, logs and run folders on. A value of another type than its field is refused here, before it can break
something elsewhere, and no file is read that could block or fill the memory. The fields themselves are defined in
plan/choices/ and events/kinds.py. Logs and tables are not read here, because they may have any length.
"""

import math
import reprlib
import types
import typing
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

_LARGEST_FILE = 4 << 20  # bytes; a plan has about 2,000
_LARGEST_COUNT = 2**63  # far above any real count, step or size
_LONGEST_TEXT = 4096  # characters; the longest path on Linux

_SHORT = reprlib.Repr()
_SHORT.maxlevel = 2
_SHORT.maxstring = _SHORT.maxother = 80  # characters

Reader = Callable[[Any], Any]


def shown(value: Any) -> str:
    """Return a short representation of any value, for error messages."""
    try:
        return _SHORT.repr(value)
    except Exception:  # a number with 5,000 digits, or an object whose own repr fails
        return f"<{type(value).__name__}>"


def text_fault(text: str) -> str:
    """Return why a text can't be a name in a plan, a path or a line of a message, or "" if it can."""
    if len(text) > _LONGEST_TEXT:
        return f"has {len(text):,} characters; expected {_LONGEST_TEXT:,} at most"
    if "\0" in text:
        return "contains a zero byte"
    return "contains half a character (a lone surrogate)" if any("\ud800" <= sign <= "\udfff" for sign in text) else ""


def check_ordinary(path: Path) -> None:
    """Check that `path` is an ordinary file, or a link to one.

    Raises:
        OSError: The path does not exist, or is a folder, a pipe or a device.
    """
    if not path.is_file():
        path.stat()  # raises FileNotFoundError if the path does not exist
        raise OSError(0, "it is not an ordinary file", str(path))


def read_text(path: Path) -> str:
    """Return the text of a small file.

    Raises:
        OSError: The file does not exist, can't be read, is not an ordinary file, or is larger than 4 MB.
        ValueError: The file is not UTF-8.
    """
    check_ordinary(path)
    if path.stat().st_size > _LARGEST_FILE:
        raise OSError(0, f"it is larger than {_LARGEST_FILE >> 20} MB", str(path))
    return path.read_text(encoding="utf-8")


def to_json(value: Any) -> Any:
    """Return a value that JSON can represent: tuples become lists, and NaN and infinities "nan", "inf" and "-inf"."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, Mapping):
        return {key: to_json(item) for key, item in value.items()}
    return [to_json(item) for item in value] if isinstance(value, tuple | list) else value


@cache
def reader(hint: Any) -> Reader:
    """Return a function that converts a JSON value to the type `hint`, or raises TypeError or ValueError."""
    kind, inner = typing.get_origin(hint), typing.get_args(hint)
    if kind in (types.UnionType, typing.Union):  # always one type and None
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
    return text.encode(errors="backslashreplace").decode()  # a browser can't show half a character


def _integer(value: Any) -> int:
    number: int = _of(int, value)
    if not -_LARGEST_COUNT <= number < _LARGEST_COUNT:
        raise ValueError("the integer is too large")
    return number


def _float(value: Any) -> float:
    if type(value) not in (float, int) and value not in ("nan", "inf", "-inf"):
        raise TypeError(f"expected a number, got {type(value).__name__}")
    return float(value)


def _plain(value: Any) -> Any:
    """Return a value of any type; lists become tuples, as in a plan."""
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, dict):
        return {_text(name): _plain(item) for name, item in value.items()}
    return tuple(_plain(item) for item in value) if isinstance(value, list) else value


_READERS: dict[Any, Reader] = {
    str: _text,
    int: _integer,
    float: _float,
    bool: lambda value: _of(bool, value),
    Any: _plain,
}

"""Turns a label column into class names: strings, integers, booleans, floats, or integers with known names.

A float without a fraction counts as an integer (4.0 becomes "4"), in a text as well. The order of the classes is the
one that the source gives; without one it is numeric if all names are numbers, else alphabetical. Each row has one
class: lists are refused, and so are columns with nearly as many distinct values as rows.
"""

import re
from collections.abc import Callable, Sequence
from typing import Any

from workbench.data.table import Table
from workbench.errors import DataError, counted

_MISSING = frozenset({"", "nan", "<na>", "-100"})  # "none" and "null" are left out: they may be real classes
IGNORED = -100  # torch's `ignore_index`: this row is not a target
_WHOLE_NUMBER = re.compile(r"([-+]?\d+)\.0+")


def class_names(table: Table, column: str) -> list[str | None]:
    """Return the class name of every row of `table`; None where it is missing.

    Raises:
        DataError: A value can't be a class; the message says where it is.
    """
    known = table.class_names.get(column)
    names: dict[Any, str | None] = {}
    found: list[str | None] = []
    for row, value in enumerate(table.values(column)):
        key = (type(value), value) if isinstance(value, (str, int, float)) else None
        if key is None or key not in names:
            name = _name(value, known, lambda row=row: f"{table.name}, {table.place(row)}, column {column!r}")  # type: ignore[misc]
            if key is None:
                found.append(name)
                continue
            names[key] = name
        found.append(names[key])
    return found


def in_order(table: Table, column: str, names: Sequence[str]) -> tuple[str, ...]:
    """Return the distinct names; the position of a name is its class id.

    Raises:
        DataError: There are fewer than two classes, or too many for a class column.
    """
    distinct = set(names)
    if len(distinct) < 2:
        what = f"{table.name}: the column {column!r} has only one class, {names[0]!r}; expected at least two"
        raise DataError(what, hint="choose another label_column, or the task language-modeling")
    if len(distinct) > max(2, len(names) / 2):
        values = f"{len(distinct):,} different values in {counted(len(names), 'row')}"
        what = f"{table.name}: the column {column!r} has {values}"
        raise DataError(f"{what}; expected classes that repeat", hint="choose another label_column")
    known = table.class_names.get(column, ())
    return tuple([name for name in dict.fromkeys(known) if name in distinct] or sorted(distinct, key=_order(distinct)))


def _name(value: Any, known: Sequence[str] | None, where: Callable[[], str]) -> str | None:
    if hasattr(value, "item") and not isinstance(value, (str, bytes)):
        value = value.item()  # a NumPy scalar
    if value is None or value == IGNORED or (isinstance(value, float) and value != value):
        return None
    if known is not None and isinstance(value, int):
        return known[value] if 0 <= value < len(known) else None  # by convention, -1 means "not labelled"
    if isinstance(value, str):
        text = value.strip()
        whole = _WHOLE_NUMBER.fullmatch(text)
        return None if text.lower() in _MISSING else whole[1] if whole else _encodable(text, where)
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() else f"{value:g}"
    if isinstance(value, (list, tuple, dict, set, bytes)):
        what = f"{where()}: the label is {str(value)[:40]}; expected one class"
        raise DataError(what, hint="give each row one class")
    return str(value)


def _encodable(text: str, where: Callable[[], str]) -> str:
    """Return `text`. Raises DataError if it can't be written as UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError:
        what = f"{where()}: the label contains half a character (a lone surrogate)"
        raise DataError(what, hint="correct or remove it") from None
    return text


def _order(names: set[str]) -> Callable[[str], Any]:
    try:
        numbers = {name: float(name) for name in names}
    except ValueError:
        numbers = {}
    if any(value != value for value in numbers.values()) or not numbers:  # "-nan" can't be sorted as a number
        return lambda name: (name.casefold(), name)
    return lambda name: (numbers[name], name)

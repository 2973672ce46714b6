"""Class names out of whatever a label column holds: strings, integers, booleans, whole floats, integers with names.

Floats that are whole are integers (4.0 is "4"), also in text. Names are in numeric order where all are numbers, else
in alphabetical order, else in the order the source gives. A class is one per row: lists are refused, and so are
columns with nearly as many values as rows.
"""

import re
from collections.abc import Callable, Sequence
from typing import Any

from workbench.data.table import Table
from workbench.errors import DataError

_MISSING = frozenset({"", "nan", "<na>", "-100"})  # "none" and "null" may well be classes
IGNORED = -100  # the field's label for "no target"
_WHOLE = re.compile(r"([-+]?\d+)\.0+")


def class_names(table: Table, column: str) -> list[str | None]:
    """Return the class name of every row of `table`; None where it is missing.

    Raises:
        DataError: A value that can't be a class; its place is named.
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
    """Return the distinct names in the order of their ids.

    Raises:
        DataError: Fewer than two classes, or too many to be classes.
    """
    distinct = set(names)
    if len(distinct) < 2:
        what = f"{table.name}: the column {column!r} has only one class, {names[0]!r}; expected at least two"
        raise DataError(what, hint="choose another label_column, or the task language-modeling")
    if len(distinct) > max(2, len(names) / 2):
        what = f"{table.name}: the column {column!r} has {len(distinct):,} different values in {len(names):,} rows"
        raise DataError(f"{what}; that is not a class", hint="choose a label_column whose values repeat")
    known = table.class_names.get(column, ())
    return tuple([name for name in dict.fromkeys(known) if name in distinct] or sorted(distinct, key=_order(distinct)))


def _name(value: Any, known: Sequence[str] | None, where: Callable[[], str]) -> str | None:
    if hasattr(value, "item") and not isinstance(value, (str, bytes)):
        value = value.item()  # a NumPy scalar
    if value is None or value == IGNORED or (isinstance(value, float) and value != value):
        return None
    if known is not None and isinstance(value, int):
        return known[value] if 0 <= value < len(known) else None  # -1 is the custom for "not labelled"
    if isinstance(value, str):
        text = value.strip()
        whole = _WHOLE.fullmatch(text)
        return None if text.lower() in _MISSING else whole[1] if whole else _sound(text, where)
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() else f"{value:g}"
    if isinstance(value, (list, tuple, dict, set, bytes)):
        raise DataError(f"{where()}: the label is {str(value)[:40]}; expected one class", hint="one class a row")
    return str(value)


def _sound(text: str, where: Callable[[], str]) -> str:
    """Return `text` if it can be written as UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise DataError(f"{where()}: holds half a character (a lone surrogate)", hint="correct or remove it") from None
    return text


def _order(names: set[str]) -> Callable[[str], Any]:
    try:
        numbers = {name: float(name) for name in names}
    except ValueError:
        numbers = {}
    if any(value != value for value in numbers.values()) or not numbers:  # "-nan" has no place among numbers
        return lambda name: (name.casefold(), name)
    return lambda name: (numbers[name], name)

"""Reads JSON Lines (one object per line), and .json files that contain a list of objects.

Nested values are kept, and refused only as a text or a label (`rows.py`, `labels.py`). A row that lacks a key has a
missing value in that column.
"""

import json
from pathlib import Path
from typing import Any

from workbench.data.table import Table
from workbench.data.text_files import read_text, split_lines
from workbench.errors import DataError

_HINT = 'write one object per line, such as {"text": "Good.", "label": "positive"}'


def read(path: Path) -> Table:
    """Read a file of objects; a file that starts with "[" is one list.

    Raises:
        DataError: The file can't be decoded, is empty, is not JSON, or contains something other than objects. The
            message gives the line or the row.
    """
    text = read_text(path)
    if text.lstrip().startswith("["):
        return _from_list(path.name, _loads(path.name, text))
    if path.suffix == ".json" and (found := _wrapped_list(text)) is not None:
        return _from_list(path.name, found)
    return _from_lines(path.name, text)


def _from_lines(name: str, text: str) -> Table:
    numbered = [(number, line) for number, line in enumerate(split_lines(text), start=1) if line.strip()]
    rows = [_object(f"{name}, line {number}", _loads(f"{name}, line {number}", line)) for number, line in numbered]
    return Table(name, _columns(name, rows), lambda row: f"line {numbered[row][0]}")


def _from_list(name: str, items: list[Any]) -> Table:
    rows = [_object(f"{name}, row {number}", item) for number, item in enumerate(items)]
    return Table(name, _columns(name, rows))


def _wrapped_list(text: str) -> list[Any] | None:
    """Return the list in a file such as {"version": 1, "data": [...]}, or None if there is not exactly one."""
    try:
        tree = json.loads(text)
    except (ValueError, RecursionError):
        return None
    lists = [value for value in tree.values() if isinstance(value, list)] if isinstance(tree, dict) else []
    return lists[0] if len(lists) == 1 else None


def _loads(where: str, text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        at = f"line {error.lineno}, column {error.colno}" if "\n" in text.strip() else f"column {error.colno}"
        raise DataError(f"{where}: not JSON: {error.msg} ({at})", hint=_HINT) from None
    except (ValueError, RecursionError) as error:  # a number with 5,000 digits, brackets nested 1,000 deep
        raise DataError(f"{where}: can't be read: {error}", hint=_HINT) from None


def _object(where: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise DataError(f"{where}: expected an object, got {json.dumps(value)[:60]}", hint=_HINT)
    return value


def _columns(name: str, rows: list[dict[str, Any]]) -> dict[str, list[Any]]:
    columns = dict.fromkeys(key for row in rows for key in row)
    if not columns:
        raise DataError(f"{name} contains no values", hint=_HINT)
    return {column: [row.get(column) for row in rows] for column in columns}

"""Reads CSV and similar files: columns separated by comma, tab, semicolon or bar; the first line has the column names.

Quoting is strict, because a quote that is never closed would otherwise silently swallow the rest of the file. Every
value stays text. Files without a header line are not supported.
"""

import csv
import io
import itertools
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from workbench.data.table import Table, unique
from workbench.data.text_files import read_text
from workbench.errors import DataError, counted

_DELIMITERS = ",\t;|"
_NO_DELIMITER = "\x1f"  # the ASCII unit separator, which no text contains: for files with a single column
_LONGEST_FIELD = 2**31 - 1  # characters; the default limit of `csv`, 131,072, would refuse long documents
_LONG_NAME = 60  # characters; a longer column name is probably a text
_limit_lock = threading.Lock()  # the field limit of `csv` is global to the process

Record = tuple[int, list[str]]  # (number of its first line, fields)


def read(path: Path) -> Table:
    """Read a CSV or TSV file.

    Raises:
        DataError: The file can't be decoded, is empty or has only a header; two columns have the same name; a row has
            more or fewer fields than the header; or the quoting is broken. The message gives the line.
    """
    text = read_text(path)
    with _long_fields():
        delimiter = _delimiter(text)
        records, notes = _parse(path.name, text, delimiter)
    if not records:
        raise DataError(f"{path.name} has no column names", hint="write the names of the columns into line 1")
    (_, header), *rows = records
    names = [name.strip() or f"unnamed {i}" for i, name in enumerate(header, start=1)]
    _check(path.name, names, rows)
    lines = [line for line, _ in rows]
    columns = {
        name: list(values) for name, values in zip(names, zip(*(row for _, row in rows), strict=True), strict=True)
    }
    return Table(path.name, columns, lambda row: f"line {lines[row]}", notes=(*notes, *_header_notes(columns)))


def _parse(name: str, text: str, delimiter: str) -> tuple[list[Record], tuple[str, ...]]:
    """Return every record that is not blank, the header first, and notes for the user."""
    try:
        return list(_records(text, delimiter)), ()
    except _BrokenQuotingError as broken:
        if delimiter != "\t":
            raise DataError(f"{name}, {broken}", hint='double every quote inside a quoted text: ""') from None
    note = "quotes are read as plain characters, as is usual in tab-separated files"
    try:
        return list(_records(text, delimiter, quoting=csv.QUOTE_NONE)), (note,)
    except _BrokenQuotingError as broken:
        raise DataError(f"{name}, {broken}") from None


class _BrokenQuotingError(Exception):
    """The quoting of a file is broken; the message gives the line and the reason."""


def _records(text: str, delimiter: str, *, quoting: int = csv.QUOTE_MINIMAL) -> Iterator[Record]:
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, quoting=quoting, strict=True)  # type: ignore[arg-type]
    line = 1
    try:
        for record in reader:
            if any(record):
                yield line, record
            line = reader.line_num + 1
    except csv.Error as error:
        reason = "a quote is opened and never closed" if "end of data" in str(error) else str(error)
        raise _BrokenQuotingError(f"line {line}: {reason}") from None


def _delimiter(text: str) -> str:
    """Return the delimiter with which most of the first 50 records have as many columns as the header."""

    def score(delimiter: str) -> tuple[float, int]:
        widths: list[int] = []
        try:
            widths.extend(len(record) for _, record in itertools.islice(_records(text, delimiter), 50))
        except _BrokenQuotingError:
            return (0.0, 0)
        share = sum(width == widths[0] for width in widths) / len(widths) if widths else 0.0
        return (share, widths[0]) if widths and widths[0] > 1 else (0.0, 0)

    header = text.lstrip("\r\n").partition("\n")[0]
    return max((delimiter for delimiter in _DELIMITERS if delimiter in header), key=score, default=_NO_DELIMITER)


def _check(name: str, header: list[str], rows: list[Record]) -> None:
    unique(name, header)
    if not rows:
        raise DataError(f"{name} has the columns {', '.join(header)} but no rows", hint="choose a file that has rows")
    ragged = [(line, len(row)) for line, row in rows if len(row) != len(header)]
    if ragged:
        line, width = ragged[0]
        others = (
            f"; {counted(len(ragged) - 1, 'more row has', 'more rows have')} the same problem"
            if len(ragged) > 1
            else ""
        )
        what = f"{name}, line {line}: expected {len(header)} columns as in the header, got {width}{others}"
        raise DataError(what, hint="put every text that contains the delimiter or a line break in double quotes")


def _header_notes(columns: dict[str, list[str]]) -> tuple[str, ...]:
    """Return a warning if a column name is as long as a text, or is also a value of its column."""
    odd = [name for name, values in columns.items() if len(name) > _LONG_NAME or name in values]
    advice = "if this is not a name, add a line of column names above it"
    return (f"line 1 was read as the column names, with {odd[0][:40]!r} among them; {advice}",) if odd else ()


@contextmanager
def _long_fields() -> Iterator[None]:
    """Allow fields of any length within the block; restore the limit of `csv` afterwards."""
    with _limit_lock:
        before = csv.field_size_limit(_LONGEST_FIELD)
        try:
            yield
        finally:
            csv.field_size_limit(before)

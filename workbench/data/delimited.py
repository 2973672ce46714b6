"""CSV and its relatives: comma, tab, semicolon or bar between the columns, column names in the first line.

Quoting is read strictly: a quote that is never closed would otherwise swallow the rest of the file without a word.
Every value stays text. Files without a line of column names are left out.
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
from workbench.errors import DataError

_DELIMITERS = ",\t;|"
_NONE = "\x1f"  # ASCII's own unit separator: "splits" a file of one column, whatever its texts hold
_LONGEST_FIELD = 2**31 - 1  # characters; csv's own limit of 131,072 refuses long documents
_LONG_NAME = 60  # characters; a longer column name is probably a text
_limit = threading.Lock()  # the limit is global to the process

Record = tuple[int, list[str]]  # (line it starts in, fields)


def read(path: Path) -> Table:
    """Read a CSV or TSV file.

    Raises:
        DataError: Undecodable, empty, only a header, two columns of one name, a row with more or fewer fields than the
            header, or broken quoting; the message names the line.
    """
    text = read_text(path)
    with _long_fields():
        delimiter = _delimiter(text)
        records, notes = _parse(path.name, text, delimiter)
    if not records:
        raise DataError(f"{path.name} has no line of column names", hint="write the names of the columns into line 1")
    (_, header), *rows = records
    names = [name.strip() or f"unnamed {i}" for i, name in enumerate(header, start=1)]
    _check(path.name, names, rows)
    lines = [line for line, _ in rows]
    columns = {
        name: list(values) for name, values in zip(names, zip(*(row for _, row in rows), strict=True), strict=True)
    }
    return Table(path.name, columns, lambda row: f"line {lines[row]}", notes=(*notes, *_header_notes(columns)))


def _parse(name: str, text: str, delimiter: str) -> tuple[list[Record], tuple[str, ...]]:
    """Return every record that is not blank, the header first."""
    try:
        return list(_records(text, delimiter)), ()
    except _BrokenQuotingError as broken:
        if delimiter != "\t":
            raise DataError(f"{name}, {broken}", hint='write a quote inside a quoted text twice: ""') from None
    note = "quotes are read as plain characters, as usual between tabs"
    try:
        return list(_records(text, delimiter, quoting=csv.QUOTE_NONE)), (note,)
    except _BrokenQuotingError as broken:
        raise DataError(f"{name}, {broken}") from None


class _BrokenQuotingError(Exception):
    """Carries the line and the reason."""


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
    """Return the delimiter of the header under which most of the first rows are as wide as the header."""

    def fit(delimiter: str) -> tuple[float, int]:
        widths: list[int] = []
        try:
            widths.extend(len(record) for _, record in itertools.islice(_records(text, delimiter), 50))
        except _BrokenQuotingError:
            return (0.0, 0)
        alike = sum(width == widths[0] for width in widths) / len(widths) if widths else 0.0
        return (alike, widths[0]) if widths and widths[0] > 1 else (0.0, 0)

    header = text.lstrip("\r\n").partition("\n")[0]
    return max((delimiter for delimiter in _DELIMITERS if delimiter in header), key=fit, default=_NONE)


def _check(name: str, header: list[str], rows: list[Record]) -> None:
    unique(name, header)
    if not rows:
        raise DataError(f"{name} has the columns {', '.join(header)} and no rows", hint="choose a file with rows in it")
    ragged = [(line, len(row)) for line, row in rows if len(row) != len(header)]
    if ragged:
        line, width = ragged[0]
        others = f"; {len(ragged) - 1} more rows are off too" if len(ragged) > 1 else ""
        what = f"{name}, line {line}: expected {len(header)} columns as in the header, got {width}{others}"
        raise DataError(what, hint="put a text that holds the delimiter or a line break in double quotes")


def _header_notes(columns: dict[str, list[str]]) -> tuple[str, ...]:
    """Doubt the header if a name in it is as long as a text, or is a value of its own column too."""
    odd = [name for name, values in columns.items() if len(name) > _LONG_NAME or name in values]
    doubt = "are these really names? If not, add a line of column names above"
    return (f"line 1 was taken as the names of the columns, with {odd[0][:40]!r} among them: {doubt}",) if odd else ()


@contextmanager
def _long_fields() -> Iterator[None]:
    """Lift csv's limit on the length of a field, and put it back."""
    with _limit:
        before = csv.field_size_limit(_LONGEST_FIELD)
        try:
            yield
        finally:
            csv.field_size_limit(before)

"""Text files: bytes to text, and a .txt file to one row per paragraph.

UTF-8 is read with or without a byte order mark, UTF-16 with one. Other encodings are refused by the place of the first
byte that does not fit, never guessed: a guess that is wrong damages texts without a word.
"""

import codecs
import re
from pathlib import Path

from workbench.data.table import Table
from workbench.errors import DataError

_FEW = 10  # fewer paragraphs than this, and the lines of a .txt file are its rows


def read_text(path: Path) -> str:
    """Return the whole text of a file, line endings as they are.

    Raises:
        DataError: Empty, or bytes that are neither UTF-8 nor marked UTF-16; the message names offset and line.
    """
    content = path.read_bytes()
    encoding = "utf-16" if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8-sig"
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        raise _undecodable(path, content, error) from None
    if not text.strip():
        raise DataError(f"{path.name} is empty", hint="choose a file with rows in it")
    return text


def split_lines(text: str) -> list[str]:
    r"""Return the lines of a text without their ends.

    Only \n and \r end a line: `str.splitlines` would also cut at characters that belong inside a text.
    """
    return re.split(r"\r\n|\n|\r", text)


def read_paragraphs(path: Path) -> Table:
    """Read a .txt file: blank lines end a row; a file with hardly any blank lines has one row a line.

    Raises:
        DataError: As `read_text` does.
    """
    lines = split_lines(read_text(path))
    starts = [i for i, line in enumerate(lines) if line.strip() and (i == 0 or not lines[i - 1].strip())]
    rows = ["\n".join(lines[a:b]).strip() for a, b in zip(starts, [*starts[1:], len(lines)], strict=True)]
    note = "one row a paragraph"
    if len(rows) < _FEW:
        starts = [i for i, line in enumerate(lines) if line.strip()]
        rows, note = [lines[i].strip() for i in starts], "one row a line"
    return Table(path.name, {"text": rows}, lambda row: f"line {starts[row] + 1}", notes=(f"{path.name}: {note}",))


def _undecodable(path: Path, content: bytes, error: UnicodeDecodeError) -> DataError:
    line = content.count(b"\n", 0, error.start) + 1
    what = f"{path.name} is not UTF-8: byte 0x{content[error.start]:02x} at offset {error.start}, line {line}"
    return DataError(what, hint="save the file again with the encoding UTF-8")

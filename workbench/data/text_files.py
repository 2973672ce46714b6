"""Reads text files: bytes to text, and a .txt file to one row per paragraph.

UTF-8 is read with or without a byte order mark, UTF-16 only with one. Other encodings are refused, and the error says
where the first byte is that does not fit. They are never guessed, because a wrong guess silently damages texts.
"""

import codecs
import re
from pathlib import Path

from workbench.data.table import Table
from workbench.errors import DataError

_FEW_PARAGRAPHS = 10  # a .txt file with fewer paragraphs than this is read line by line


def read_text(path: Path) -> str:
    """Return the text of a file, with its line endings unchanged.

    Raises:
        DataError: The file is empty, or is neither UTF-8 nor UTF-16 with a byte order mark; the message gives the
            offset and the line.
    """
    content = path.read_bytes()
    encoding = "utf-16" if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8-sig"
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        raise _undecodable(path, content, error) from None
    if not text.strip():
        raise DataError(f"{path.name} is empty", hint="choose a file that has rows")
    return text


def split_lines(text: str) -> list[str]:
    r"""Return the lines of a text without their line endings.

    Only \n, \r\n and \r end a line; `str.splitlines` would also split at characters that occur inside texts.
    """
    return re.split(r"\r\n|\n|\r", text)


def read_paragraphs(path: Path) -> Table:
    """Read a .txt file: one row per paragraph, or one row per line if there are fewer than 10 paragraphs.

    Raises:
        DataError: The file can't be decoded, as in `read_text`.
    """
    lines = split_lines(read_text(path))
    starts = [i for i, line in enumerate(lines) if line.strip() and (i == 0 or not lines[i - 1].strip())]
    rows = ["\n".join(lines[a:b]).strip() for a, b in zip(starts, [*starts[1:], len(lines)], strict=True)]
    note = "one row per paragraph"
    if len(rows) < _FEW_PARAGRAPHS:
        starts = [i for i, line in enumerate(lines) if line.strip()]
        rows, note = [lines[i].strip() for i in starts], "one row per line"
    return Table(path.name, {"text": rows}, lambda row: f"line {starts[row] + 1}", notes=(f"{path.name}: {note}",))


def _undecodable(path: Path, content: bytes, error: UnicodeDecodeError) -> DataError:
    line = content.count(b"\n", 0, error.start) + 1
    what = f"{path.name} is not UTF-8: byte 0x{content[error.start]:02x} at offset {error.start}, line {line}"
    return DataError(what, hint="save the file again with the encoding UTF-8")

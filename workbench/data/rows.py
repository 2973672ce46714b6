"""Turns a Table into clean Rows: texts or images that can be used, class ids, groups, and a digest of each content.

Rows that lack a text or a label are left out; a note counts them and says where the first few are. A value of a wrong
type raises an error that says where it is. Only a few image formats are decoded, because Pillow passes some others,
such as PostScript, to external programs. `splitting.py` splits the rows.
"""

import hashlib
import io
import numbers
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workbench.data import labels, splitting
from workbench.data.guessing import Guess
from workbench.data.table import Table
from workbench.errors import DataError, a, counted
from workbench.plan import choices

Numbers = NDArray[np.int64]
_FORMATS = ("BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")
_DEEP_MODES = ("I", "F")  # Pillow modes with more than 8 bits per channel; converted to 8, most pixels become white


@dataclass(frozen=True, eq=False)
class Rows:
    """Rows that can be used for training, in the order of the source.

    Attributes:
        numbers: The 0-based number of each row in the source.  # (row,)
        contents: The texts, or the images as {"bytes", "path"} of their files.
        digests: sha256 of each content.
        classes: Class ids; all 0 for language modeling.  # (row,)
        labels: Class names, sorted by class id; () for language modeling.
        groups: The group of each row, if there is a group column.
        given: The split of each row, if the source came with splits.
        notes: What was left out and why.
    """

    numbers: Numbers
    contents: list[Any]
    digests: list[bytes]
    classes: Numbers
    labels: tuple[str, ...]
    groups: list[str] | None
    given: list[str] | None
    notes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.numbers)


def clean(table: Table, guess: Guess, choice: choices.Data) -> Rows:
    """Return the rows of `table` that can be used: all, or a seeded sample of `max_rows`, stratified by class.

    Raises:
        DataError: A value has a wrong type (the message says where), an image can't be read, no row is left, or there
            are fewer than two classes or too many for a label column.
    """
    kind = "image" if "image" in guess.columns else "text"
    contents = (
        table.values(guess.columns["image"])
        if kind == "image"
        else texts(table, (guess.columns["text"], *guess.joined), choice.text_separator)
    )
    names = labels.class_names(table, guess.columns["label"]) if "label" in guess.columns else None
    kept, notes = _kept(table, {kind: contents, "label": names} if names else {kind: contents})
    found = labels.in_order(table, guess.columns["label"], [str(names[row]) for row in kept]) if names else ()
    ids = {name: i for i, name in enumerate(found)}
    classes = np.array([ids[str(names[row])] if names else 0 for row in kept], dtype=np.int64)
    chosen = _sample(table, kept, classes, choice.max_rows, choice.split_seed)
    if len(chosen) < len(kept):
        notes = (*notes, f"{len(chosen):,} of {len(kept):,} rows were sampled (max_rows)")
    return _assemble(table, guess, kept[chosen], classes[chosen], contents, found, notes)


def _assemble(
    table: Table,
    guess: Guess,
    kept: Numbers,
    classes: Numbers,
    contents: list[Any],
    names: tuple[str, ...],
    notes: tuple[str, ...],
) -> Rows:
    """Return Rows of the table's rows `kept`; only their images are opened."""
    rows = kept.tolist()
    open_content = _open_image if "image" in guess.columns else _open_text
    opened = [open_content(table, row, contents[row]) for row in rows]
    groups = table.values(guess.columns["group"]) if "group" in guess.columns else None
    return Rows(
        numbers=kept,
        contents=[content for content, _ in opened],
        digests=[digest for _, digest in opened],
        classes=classes,
        labels=names,
        groups=None if groups is None else [_group(groups[row], row) for row in rows],
        given=None if table.given is None else [table.given[row] for row in rows],
        notes=notes,
    )


def _kept(table: Table, columns: dict[str, list[Any]]) -> tuple[Numbers, tuple[str, ...]]:
    """Return the numbers of the complete rows, and a note for each column with missing values."""
    present = np.ones(len(table), dtype=bool)
    notes = []
    for kind, values in columns.items():
        missing = [row for row, value in enumerate(values) if value is None]
        present[missing] = False
        if missing:
            notes.append(f"{counted(len(missing), 'row')} without {kind} left out ({table.places(missing)})")
    if not present.any():
        raise DataError(
            f"{table.name} has no row that can be used", hint="; ".join(notes) or "choose a source that has rows"
        )
    return np.flatnonzero(present).astype(np.int64), tuple(notes)


def _sample(table: Table, kept: Numbers, classes: Numbers, most: int | None, seed: int) -> Numbers:
    """Return positions in `kept`: a sample of at most `most` rows, stratified by class and given split."""
    if most is None or len(kept) <= most:
        return np.arange(len(kept), dtype=np.int64)
    given = np.array([splitting.NAMES.index(table.given[row]) if table.given else 0 for row in kept])
    _, strata = np.unique(classes * len(splitting.NAMES) + given, return_inverse=True)
    keys = splitting.shuffled_keys([b"%d" % row for row in kept], seed)
    return np.flatnonzero(splitting.sample(strata, keys, most)).astype(np.int64)


def texts(table: Table, names: Sequence[str], separator: str) -> list[str | None]:
    """Return the text of each row: those of these columns that are not empty, joined; None if there is none."""
    columns = [[_text(table, name, row, value) for row, value in enumerate(table.values(name))] for name in names]
    if len(columns) == 1:
        return columns[0]
    return [separator.join(part for part in parts if part) or None for parts in zip(*columns, strict=True)]


def _text(table: Table, column: str, row: int, value: Any) -> str | None:
    """Return the value as a text, or None if it is missing; numbers become text."""
    if isinstance(value, str):
        return value if value.strip() else None
    if value is None or (isinstance(value, float) and value != value):
        return None
    if isinstance(value, numbers.Number):
        return str(value)
    found = f"{a(type(value).__name__)}, {str(value)[:40]}"
    what = f"{table.name}, {table.place(row)}: {column!r} has {found}; expected text"
    raise DataError(what, hint="choose another text_column, or join the parts into one text first")


def _open_text(table: Table, row: int, text: str) -> tuple[str, bytes]:
    try:
        return text, hashlib.sha256(text.encode()).digest()
    except UnicodeEncodeError:
        what = f"{table.name}, {table.place(row)}: the text contains half a character (a lone surrogate)"
        raise DataError(what, hint="correct or remove it") from None


def _open_image(table: Table, row: int, value: Any) -> tuple[dict[str, Any], bytes]:
    """Decode an image completely, so that a truncated file is noticed; return {"bytes", "path"} and its digest."""
    from PIL import Image

    try:
        stored: dict[str, Any] = value if isinstance(value, dict) else {"bytes": _png(value), "path": None}
        content, path = _file_of(stored)
        with Image.open(io.BytesIO(content), formats=_FORMATS) as image:
            if image.mode.startswith(_DEEP_MODES):
                raise ValueError(f"it has more than 8 bits per channel (mode {image.mode}); save it with 8")
            image.draft(image.mode, (32, 32))  # decodes a JPEG at an eighth of its size, but still to its end
            image.load()
    except Exception as error:  # decoders raise errors of any type for a damaged file
        reason = "not an image of a known format" if "cannot identify" in str(error) else str(error)
        what = f"{table.name}, {table.place(row)}: the image can't be read: {reason}"
        raise DataError(what, hint="remove or replace this image") from None
    return {"bytes": stored["bytes"], "path": path}, hashlib.sha256(content).digest()


def _file_of(stored: dict[str, Any]) -> tuple[bytes, str | None]:
    """Return the bytes of an image file and its path.

    A table may contain any path, even that of a device that never ends, so only ordinary files are read.
    """
    if stored["bytes"] is not None:
        return stored["bytes"], stored["path"]
    path = Path(stored["path"]).absolute()  # absolute, because `datasets` would download a web address
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    return path.read_bytes(), str(path)


def _png(image: Any) -> bytes:
    """Return a PIL image as PNG, which is lossless."""
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return buffer.getvalue()


def _group(value: Any, row: int) -> str:
    """Return the name of the group; a row without a group is a group of its own."""
    if value is None or (isinstance(value, float) and value != value) or not str(value).strip():
        return f"row {row}"
    return str(value).encode(errors="replace").decode()

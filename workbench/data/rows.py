"""From a Table to clean Rows: texts or images that can be used, class ids, groups, and a digest of each content.

Rows that lack a text or a label are left out and counted, with the first places. Anything of a wrong kind is refused
by its place. Images are decoded in a few formats only: Pillow would hand others to programs outside, PostScript for
one. Splitting is elsewhere.
"""

import hashlib
import io
import numbers
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workbench.data import labels, splitting
from workbench.data.guessing import Guess
from workbench.data.table import Table
from workbench.errors import DataError

Numbers = NDArray[np.int64]
_FORMATS = ("BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")
_DEEP = ("I", "F")  # modes of more than 8 bits a channel begin so; made 8 bits wide, nearly every pixel becomes white


@dataclass(frozen=True, eq=False)
class Rows:
    """Rows that can be learnt from, in the order of the source.

    Attributes:
        numbers: 0-based row in the source of each.  # (row,)
        contents: The texts, or the images as {"bytes", "path"} of their files.
        digests: sha256 of each content.
        classes: Class ids; all 0 for language modeling.  # (row,)
        labels: Class names in id order; () for language modeling.
        groups: The group of each row, if a column says.
        given: The split that each row came with, if the source is split already.
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


def clean(table: Table, guess: Guess, *, max_rows: int | None = None, seed: int = 0) -> Rows:
    """Return the rows of `table` that can be used, at most `max_rows` of them: a seeded sample, stratified by class.

    Raises:
        DataError: A value of a wrong kind (its place is named), an image that can't be read, nothing left, fewer than
            two classes, or so many that the label is none.
    """
    kind = "image" if "image" in guess.columns else "text"
    values = table.values(guess.columns[kind])
    contents = values if kind == "image" else [_text(table, row, value) for row, value in enumerate(values)]
    names = labels.class_names(table, guess.columns["label"]) if "label" in guess.columns else None
    kept, notes = _kept(table, {kind: contents, "label": names} if names else {kind: contents})
    found = labels.in_order(table, guess.columns["label"], [str(names[row]) for row in kept]) if names else ()
    ids = {name: i for i, name in enumerate(found)}
    classes = np.array([ids[str(names[row])] if names else 0 for row in kept], dtype=np.int64)
    chosen = _sample(table, kept, classes, max_rows, seed)
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
    """Return the Rows numbered `kept`; only their images are opened."""
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
    """Return the rows that miss nothing, and a note for each kind of value that is missing somewhere."""
    present = np.ones(len(table), dtype=bool)
    notes = []
    for kind, values in columns.items():
        missing = [row for row, value in enumerate(values) if value is None]
        present[missing] = False
        if missing:
            count = f"{len(missing):,} row{'s' if len(missing) > 1 else ''}"
            notes.append(f"{count} without {kind} left out ({table.places(missing)})")
    if not present.any():
        raise DataError(
            f"{table.name} has no row that can be used", hint="; ".join(notes) or "choose a source with rows in it"
        )
    return np.flatnonzero(present).astype(np.int64), tuple(notes)


def _sample(table: Table, kept: Numbers, classes: Numbers, most: int | None, seed: int) -> Numbers:
    """Return the positions in `kept` of at most `most` rows, each class and given split in proportion."""
    everything = np.arange(len(kept), dtype=np.int64)
    if most is None or len(kept) <= most:
        return everything
    given = np.array([splitting.NAMES.index(table.given[row]) if table.given else 0 for row in kept])
    _, strata = np.unique(classes * len(splitting.NAMES) + given, return_inverse=True)
    keys = splitting.shuffled_keys([b"%d" % row for row in kept], seed)
    return np.flatnonzero(splitting.sample(strata, keys, most)).astype(np.int64)


def _text(table: Table, row: int, value: Any) -> str | None:
    """Return a text, None where it is missing; numbers become text."""
    if isinstance(value, str):
        return value if value.strip() else None
    if value is None or (isinstance(value, float) and value != value):
        return None
    if isinstance(value, numbers.Number):
        return str(value)
    what = f"{table.name}, {table.place(row)}: the text is a {type(value).__name__}, {str(value)[:40]}; expected text"
    raise DataError(what, hint="choose another text_column, or join the parts into one text first")


def _open_text(table: Table, row: int, text: str) -> tuple[str, bytes]:
    try:
        return text, hashlib.sha256(text.encode()).digest()
    except UnicodeEncodeError:
        what = f"{table.name}, {table.place(row)}: the text holds half a character (a lone surrogate)"
        raise DataError(what, hint="correct or remove it") from None


def _open_image(table: Table, row: int, value: Any) -> tuple[dict[str, Any], bytes]:
    """Read an image to its end, which a cut-off file does not survive; return where it is and its digest."""
    from PIL import Image

    try:
        stored: dict[str, Any] = value if isinstance(value, dict) else {"bytes": _png(value), "path": None}
        content, path = _file_of(stored)
        with Image.open(io.BytesIO(content), formats=_FORMATS) as image:
            if image.mode.startswith(_DEEP):
                raise ValueError(f"it has more than 8 bits a channel (mode {image.mode}); save it with 8")
            image.draft(image.mode, (32, 32))  # a JPEG is decoded at an eighth of its size, and still to the end
            image.load()
    except Exception as error:  # decoders raise what they like on a damaged file
        reason = "not an image of a known format" if "cannot identify" in str(error) else str(error)
        what = f"{table.name}, {table.place(row)}: the image can't be read: {reason}"
        raise DataError(what, hint="remove or replace this file") from None
    return {"bytes": stored["bytes"], "path": path}, hashlib.sha256(content).digest()


def _file_of(stored: dict[str, Any]) -> tuple[bytes, str | None]:
    """Return the content of an image and where it is; a table may name any path, a device that never ends too."""
    if stored["bytes"] is not None:
        return stored["bytes"], stored["path"]
    path = Path(stored["path"]).absolute()  # an address would be fetched by who decodes it later
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    return path.read_bytes(), str(path)


def _png(image: Any) -> bytes:
    """Return a PIL image in a lossless form."""
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return buffer.getvalue()


def _group(value: Any, row: int) -> str:
    """Return the name of a group; a row without one is a group of its own."""
    if value is None or (isinstance(value, float) and value != value) or not str(value).strip():
        return f"row {row}"
    return str(value).encode(errors="replace").decode()

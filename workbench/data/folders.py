"""Reads folders: images or texts by class (`folder/class/*.png`), and plain folders of .txt documents.

Subfolders named train, validation (valid, val, dev) and test are kept as given splits. Other files are counted and left
out, as are broken links, pipes and devices. Folders that are symbolic links are not entered. Images are opened later
(`rows.py`), and only those that are used.
"""

import os
from collections.abc import Collection
from pathlib import Path
from typing import Any

from workbench.data.table import Table
from workbench.data.text_files import read_text
from workbench.errors import DataError, counted

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff"})
SPLIT_NAMES = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("validation", "valid", "val", "dev", "eval"), "validation"),
    **dict.fromkeys(("test", "testing"), "test"),
}
_HINT = "make one subfolder per class and put its images (or .txt files) into it, as in photos/cat/1.png"


def read(folder: Path, *, table_suffixes: Collection[str] = ()) -> Table:
    """Read a folder of images by class, of .txt files by class, or of .txt documents.

    Args:
        folder: The folder.
        table_suffixes: The suffixes of tables, such as ".csv", so that the error can suggest a table in the folder.

    Raises:
        DataError: The folder has no images or texts, or both, or images that are in no class folder.
    """
    files, others = _files(folder)
    kinds = {_kind(file) for file in files}
    if len(kinds) != 1:
        raise _unusable(folder, kinds, others, table_suffixes)
    splits = _given(folder, files)
    inner = [file.relative_to(folder).parts[0 if splits is None else 1 : -1] for file in files]
    columns = _columns(folder, kinds.pop(), files, [parts[0] if parts else None for parts in inner])
    return Table(
        folder.name,
        columns,
        lambda row: files[row].relative_to(folder).as_posix(),
        given=splits,
        roles={"label" if column == "folder" else column: column for column in columns},
        notes=_notes(folder, files, others),
    )


def _files(folder: Path) -> tuple[list[Path], list[Path]]:
    """Return (images and texts, other files) without hidden files, in an order that is the same on every system."""
    found = [Path(root, name) for root, _, names in os.walk(folder, onerror=_refuse) for name in names]
    shown = [file for file in found if not any(part.startswith(".") for part in file.relative_to(folder).parts)]
    shown.sort(key=lambda file: file.relative_to(folder).as_posix())
    wanted = [file for file in shown if _kind(file) and file.is_file()]
    return wanted, sorted(set(shown).difference(wanted))


def _refuse(error: OSError) -> None:
    """Raise the error if a folder can't be listed; `os.walk` would silently skip its rows."""
    raise error


def _notes(folder: Path, files: list[Path], others: list[Path]) -> tuple[str, ...]:
    notes = [f"{counted(len(others), 'file')} left out: neither an image nor .txt"] if others else []
    full = {file.relative_to(folder).parts[0] for file in files}
    empty = sorted(entry.name for entry in folder.iterdir() if entry.is_dir() and entry.name not in full)
    if empty := [name for name in empty if not name.startswith(".")]:
        listed = f"{', '.join(empty[:5])}{' …' if len(empty) > 5 else ''}"
        notes.append(f"nothing was found in {listed}: these folders are empty or contain only links to other folders")
    return tuple(notes)


def _kind(file: Path) -> str:
    suffix = file.suffix.lower()
    return "image" if suffix in IMAGE_SUFFIXES else "text" if suffix == ".txt" else ""


def _given(folder: Path, files: list[Path]) -> list[str] | None:
    """Return the split of each file, if every top folder has the name of a split and one of them is train."""
    tops = [file.relative_to(folder).parts[0].lower() for file in files]
    splits = [SPLIT_NAMES.get(top, "") for top in tops]
    return splits if "train" in splits and all(splits) else None


def _columns(folder: Path, kind: str, files: list[Path], classes: list[str | None]) -> dict[str, list[Any]]:
    if kind == "text":
        texts: dict[str, list[Any]] = {"text": [read_text(file) if file.stat().st_size else None for file in files]}
        return texts if None in classes else {**texts, "folder": classes}
    if None in classes:
        stray = files[classes.index(None)].relative_to(folder).as_posix()
        raise DataError(f"{folder.name} has images that are in no class folder, for example {stray}", hint=_HINT)
    return {"image": [{"bytes": None, "path": str(file.absolute())} for file in files], "folder": classes}


def _unusable(folder: Path, kinds: set[str], others: list[Path], table_suffixes: Collection[str]) -> DataError:
    if kinds:
        return DataError(f"{folder.name} contains both images and .txt files; expected one kind", hint=_HINT)
    tables = [file for file in others if file.suffix.lower() in table_suffixes]
    hint = f"choose the file itself: {tables[0]}" if tables else _HINT
    return DataError(
        f"{folder.name} contains no images and no .txt files ({counted(len(others), 'other file')})", hint=hint
    )

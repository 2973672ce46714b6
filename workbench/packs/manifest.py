"""The manifest of a folder lists the files that must be in it, with size, times and sha256, and where they came from.

It is written last, so a folder without a manifest is incomplete. Files that it does not list are ignored.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from workbench.errors import PackError

NAME = "pack.json"
_FORMAT = 1


def write(folder: Path, origin: Mapping[str, str | int]) -> None:
    """Hash every file below `folder` and write its manifest.

    Raises:
        PackError: The folder has no files.
    """
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != NAME)
    if not paths:
        raise PackError("there are no files to put into the cache")
    files = {path.relative_to(folder).as_posix(): {"sha256": sha256(path), "stamp": _stamp(path)} for path in paths}
    _put(folder, {"format": _FORMAT, "origin": dict(origin), "files": files})


def flaw(folder: Path, origin: Mapping[str, str | int], *, verify: bool = False) -> str:
    """Return a description of how a folder differs from its manifest, or "" if it does not.

    A file with the right size but other times (a copied cache, or a file that was written to) is hashed. If its content
    is unchanged, the manifest is updated with the new times.

    Args:
        folder: The folder with its manifest.
        origin: Where its files must have come from.
        verify: Whether to hash every file, even if its times are unchanged.
    """
    try:
        tree = json.loads((folder / NAME).read_text(encoding="utf-8"))
        if tree["format"] != _FORMAT or tree["origin"] != origin:
            return "it was made from another version of the pack"
        return _first_flaw(folder, tree, verify)
    except FileNotFoundError:
        return "its manifest is missing"
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return "its manifest can't be read"


def _first_flaw(folder: Path, tree: dict[str, Any], verify: bool) -> str:
    is_updated = False
    for name, entry in tree["files"].items():
        try:
            stamp = _stamp(folder / name)
        except OSError:
            return f"{name[:200]} is missing"
        if stamp[0] != entry["stamp"][0]:
            return f"{name} has {stamp[0]:,} bytes instead of {entry['stamp'][0]:,}"
        if verify or stamp != entry["stamp"]:
            if sha256(folder / name) != entry["sha256"]:
                return f"the content of {name} has changed"
            entry["stamp"], is_updated = stamp, True
    if is_updated and os.access(folder, os.W_OK):
        _put(folder, tree)
    return ""


def _stamp(path: Path) -> list[int]:
    """Return the size in bytes, the modification time and the change time of a file, both in nanoseconds.

    A program can't set the change time, so an edit that restores the modification time is noticed too.
    """
    status = path.stat()
    return [status.st_size, status.st_mtime_ns, status.st_ctime_ns]


def sha256(path: Path) -> str:
    """Return the sha256 of a file's content in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _put(folder: Path, tree: Mapping[str, object]) -> None:
    unfinished = folder / f".{NAME}.{os.getpid()}"
    unfinished.write_text(json.dumps(tree, indent=1), encoding="utf-8")
    unfinished.replace(folder / NAME)

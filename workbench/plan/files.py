"""Plans as JSON files: saves, reads and lists them. Nothing is overwritten unless that is asked for."""

import difflib
import json
import os
import secrets
from collections.abc import Collection
from pathlib import Path

from workbench.errors import QUESTION, PlanError
from workbench.untrusted import read_text, shown, text_fault

_LARGEST = 1 << 16  # bytes of a file that is listed as a plan; a plan has about 2,000
_MOST = 200  # files that are looked at to find the plans in a folder


def save(text: str, path: Path | str, *, replace: bool = False) -> Path:
    """Write the JSON text of a plan to a file, and return its path.

    Raises:
        PlanError: The file exists and `replace` is not set (then its cause is a FileExistsError), or it can't be
            written.
    """
    path = _expanded(path)
    partial = path.with_name(f".{path.name}-{os.getpid()}-{secrets.token_hex(4)}")
    try:
        if replace:
            partial.write_text(text, encoding="utf-8")
            partial.replace(path)  # so that the earlier plan is not lost if writing fails
        else:
            with path.open("x", encoding="utf-8") as file:
                file.write(text)
    except FileExistsError as error:
        raise PlanError(f"{path} exists already", hint="choose another name, or set replace=True") from error
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise PlanError(f"{path} can't be written: {error.strerror}", hint="choose another folder or name") from None
    return path


def read(path: Path | str) -> str:
    """Return the text of a plan's file.

    Raises:
        PlanError: There is no such file, or it can't be read, is no ordinary file, not UTF-8, or larger than 4 MB.
    """
    path = _expanded(path)
    try:
        return read_text(path)
    except FileNotFoundError as error:
        here = {other.stem: other.name for other in path.parent.glob("*.json")}
        near = difflib.get_close_matches(path.stem, here, n=1)
        hint = f"{QUESTION} {here[near[0]]!r}?" if near else "save one with plan.save(path)"
        raise PlanError(f"there is no file {str(path)!r}", hint=hint) from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise PlanError(f"the plan {path} can't be read: {reason}", hint="save one with plan.save(path)") from None


def _expanded(path: Path | str) -> Path:
    """Return a path to a file; "~" is the home folder. Raises PlanError."""
    if fault := text_fault(str(path)):
        raise PlanError(f"{shown(str(path))} is no name of a file: it {fault}", hint="choose another name")
    try:
        full = Path(path).expanduser()
    except RuntimeError:  # the home of a user who does not exist
        full = Path(path)
    if not full.name:
        raise PlanError(f"{shown(str(path))} is no name of a file", hint="choose a name such as plan.json")
    return full


def listed(folder: Path | str, sections: Collection[str]) -> tuple[str, ...]:
    """Return the names of the JSON files in a folder that contain some of these sections of a plan and nothing else."""
    try:
        paths = sorted(Path(folder).glob("*.json"))[:_MOST]
    except OSError:
        return ()
    return tuple(path.name for path in paths if _is_plan(path, sections))


def _is_plan(path: Path, sections: Collection[str]) -> bool:
    try:
        tree = json.loads(read_text(path)) if path.stat().st_size <= _LARGEST else None
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(tree, dict) and bool(tree) and set(tree) <= set(sections)

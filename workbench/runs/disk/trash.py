"""Deletes runs and brings them back: a deleted run is moved to `.trash` in the folder of the runs."""

import os
from pathlib import Path

from workbench.errors import RunError, nearest
from workbench.runs.disk.run_folder import RunFolder
from workbench.untrusted import shown, text_fault

TRASH = ".trash"


def delete_run(name: str, runs: Path | str = "runs") -> Path:
    """Move a run to the trash, and return its new folder.

    Runs that were forked from it stay complete, but nobody can go back in them to a step before the fork.

    Args:
        name: Name of the run.
        runs: The folder that has the run folders.

    Raises:
        RunError: There is no such run, a process executes it, or the folder can't be written.
    """
    folder = _run_in(Path(runs), name)
    if folder.is_executed:
        raise RunError(f"{name} is in progress, so it can't be deleted", hint="stop it first")
    return _move(folder.path, Path(runs) / TRASH / name)


def restore_run(name: str, runs: Path | str = "runs") -> Path:
    """Move a run from the trash back to the other runs, and return its folder.

    Raises:
        RunError: There is no such run in the trash, or the folder can't be written.
    """
    return _move(_run_in(Path(runs) / TRASH, name).path, Path(runs) / name)


def deleted_runs(runs: Path | str = "runs") -> list[str]:
    """Return the names of the runs in the trash, the one that was deleted last first."""
    found = [path.parent for path in (Path(runs) / TRASH).glob("*/plan.json") if not text_fault(path.parent.name)]
    return [path.name for path in sorted(found, key=_deleted_at, reverse=True)]


def _run_in(root: Path, name: str) -> RunFolder:
    """Return a run by its name; a path would lead elsewhere."""
    if Path(name).name == name and (root / name / "plan.json").is_file():
        return RunFolder(root / name)
    names = [path.parent.name for path in root.glob("*/plan.json")]
    raise RunError(f"there is no run {shown(name)} in {root}", hint=nearest(name, names) if names else "")


def _move(source: Path, target: Path) -> Path:
    """Rename a folder, and note the time. On one disk, a rename happens completely or not at all."""
    try:
        if target.exists():
            raise FileExistsError(17, "there is a folder of that name", str(target))
        target.parent.mkdir(exist_ok=True)
        source.rename(target)
        os.utime(target)
    except OSError as error:
        raise RunError(f"{source} can't be moved to {target}: {error.strerror}", hint="look at both folders") from error
    return target


def _deleted_at(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:  # restored meanwhile
        return 0.0

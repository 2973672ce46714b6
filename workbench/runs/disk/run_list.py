"""The runs in a folder: one line about each, and one by its name. Free of torch."""

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from workbench.errors import RunError, WorkbenchError, nearest
from workbench.events.run_state import RunState
from workbench.runs.disk.run_folder import RunFolder
from workbench.untrusted import shown, text_fault


@dataclass(frozen=True)
class Summary:
    """One line in the list of runs."""

    name: str
    path: Path
    started: float  # seconds since the epoch
    state: str  # preparing | running | paused | completed | stopped | failed | died | unreadable
    backbone: str
    source: str
    step: int
    steps: int
    best_loss: float | None  # nats per target
    metrics: Mapping[str, float]  # of the last evaluation


def summarize(folder: RunFolder) -> Summary:
    """Read a run folder for the list of runs. "died" is a run that has not ended, but that no process executes."""
    plan, run = folder.plan(), RunState(folder.events())
    has_died = not run.is_over and folder.was_started and not folder.is_executed
    return Summary(
        folder.name,
        folder.path,
        folder.path.stat().st_mtime if run.began is None else run.began,
        "died" if has_died else run.phase,
        plan.baseline.backbone,
        plan.data.source,
        run.step,
        run.steps,
        run.best_loss,
        run.metrics,
    )


def list_runs(root: Path | str = "runs") -> list[Summary]:
    """Return the runs under `root`, oldest first; other folders are ignored.

    A run whose plan or log can't be read is listed as "unreadable", so that it does not hide the others.
    """
    folders = [path.parent for path in sorted(Path(root).glob("*/plan.json"))]
    return [_summary_or_unreadable(folder) for folder in folders if not text_fault(folder.name)]


def _summary_or_unreadable(path: Path) -> Summary:
    try:
        return summarize(RunFolder(path))
    except (WorkbenchError, OSError):  # for example deleted meanwhile
        return Summary(path.name, path, path.stat().st_mtime, "unreadable", "", "", 0, 0, None, {})


def find(name: str, root: Path | str = "runs") -> RunFolder:
    """Return a run by its name or path, or the newest run for "last".

    Raises:
        RunError: There is no such run; the message gives the nearest name.
    """
    names = sorted(path.parent.name for path in Path(root).glob("*/plan.json"))
    if name == "last" and names:
        return RunFolder(Path(root) / names[-1])
    if name in names:
        return RunFolder(Path(root) / name)
    with contextlib.suppress(OSError):  # a name too long for a path
        if (Path(name) / "plan.json").exists():
            return RunFolder(name)
    raise RunError(
        f"there is no run {shown(name)} in {Path(root)}", hint=nearest(name, names) if names else "start a run first"
    )

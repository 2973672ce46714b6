"""The runs in a folder: one line about each, and one by its name. Free of torch."""

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from workbench.errors import RunError, WorkbenchError, nearest
from workbench.events.run_state import UNFINISHED, RunState
from workbench.plan.plan import Plan
from workbench.runs.disk.run_folder import RunFolder
from workbench.untrusted import shown, text_fault

FILES = ("plan.json", "events.jsonl")  # what a summary is read from


@dataclass(frozen=True)
class Summary:
    """One line in the list of runs."""

    name: str
    path: Path
    started: float  # seconds since the epoch
    state: str  # preparing | running | paused | completed | stopped | failed | died | unreadable
    plan: Plan | None = None  # with all changes that have taken effect; None if it can't be read
    step: int = 0
    steps: int = 0
    best_loss: float | None = None  # nats per target
    best_step: int | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)  # of the last evaluation
    best_metrics: Mapping[str, float] = field(default_factory=dict)  # of the best evaluation
    parent: str = ""  # the run that it was forked from
    parent_step: int = 0  # after how many steps

    @property
    def backbone(self) -> str:
        """The backbone of the plan."""
        return self.plan.baseline.backbone if self.plan else ""

    @property
    def source(self) -> str:
        """The data of the plan."""
        return self.plan.data.source if self.plan else ""

    @property
    def is_live(self) -> bool:
        """Whether a process executes the run."""
        return self.state in UNFINISHED

    @property
    def can_resume(self) -> bool:
        """Whether the run has begun to train, and can go on from there."""
        return self.state in ("stopped", "failed", "died") and (self.steps > 0 or self.parent != "")

    @property
    def score(self) -> tuple[str, float] | None:
        """The metric that says most about the run, and its value at the best step; None before an evaluation."""
        goal = self.plan.monitoring.stop_metric if self.plan else None
        names = (goal, "accuracy", "perplexity", "loss")
        return next(((name, self.best_metrics[name]) for name in names if name and name in self.best_metrics), None)


_READ: dict[Path, tuple[Any, Plan, RunState]] = {}  # folder -> (size and time of its files, what they say)


def summarize(folder: RunFolder) -> Summary:
    """Read a run folder for the list of runs. "died" is a run that no process executes, although it has not ended."""
    plan, run = _read(folder)
    has_died = not run.is_over and folder.was_started and not folder.is_executed
    return Summary(
        folder.name,
        folder.path,
        folder.path.stat().st_mtime if run.began is None else run.began,
        "died" if has_died or run.is_interrupted else run.phase,
        plan,
        run.step,
        run.steps,
        run.best_loss,
        run.best_step,
        run.metrics,
        run.best.metrics if run.best else {},
        run.parent.parent if run.parent else "",
        run.parent.step if run.parent else 0,
    )


def _read(folder: RunFolder) -> tuple[Plan, RunState]:
    """Return the plan and the state of a run; its files are read again only if they have changed."""
    path = folder.path.resolve()
    version = [(file.stat().st_size, file.stat().st_mtime_ns) for name in FILES if (file := path / name).exists()]
    if path not in _READ or _READ[path][0] != version:
        run = RunState(folder.milestones())
        _READ[path] = (version, folder.plan().change(**run.changed), run)
    return _READ[path][1:]


def summaries(root: Path | str = "runs") -> list[Summary]:
    """Return the runs under `root`, oldest first; other folders are ignored.

    A run whose plan or log can't be read is listed as "unreadable", so that it does not hide the others.
    """
    folders = [path.parent for path in sorted(Path(root).glob("*/plan.json"))]
    return [summary_of(folder) for folder in folders if not text_fault(folder.name)]


def summary_of(path: Path) -> Summary:
    """Return what is known of the run in a folder; its state is "unreadable" if that is nothing."""
    try:
        return summarize(RunFolder(path))
    except (WorkbenchError, OSError):  # for example deleted meanwhile
        return Summary(path.name, path, path.stat().st_mtime if path.exists() else 0.0, "unreadable")


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
    if name == "last":
        raise RunError(f"no runs in {Path(root)} yet")
    raise RunError(f"there is no run {shown(name)} in {Path(root)}", hint=nearest(name, names) if names else "")

"""The run folder: plan, event log, environment. Write, read, replay, list.

    runs/<time>-<backbone>-<4 letters>/
        plan.json          the plan, as `Plan.from_json` reads it
        environment.json   versions, platform, command, fingerprint of the data
        events.jsonl       append-only, one event a line, written before anybody is told
        checkpoints/       see checkpoints.py
        schedule.json      what a fork changes, and when; see run.py
        wishes.jsonl       what people want of it while it runs; see control.py
        run.lock           held by the process that carries the run out, and freed by the system if that dies

It holds no tensor and imports no torch. Reading a folder runs nothing, whoever wrote it.
"""

import contextlib
import dataclasses
import importlib.metadata
import json
import os
import platform
import re
import secrets
import string
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Self

from filelock import FileLock, Timeout

from workbench import events
from workbench.choices import Plan
from workbench.errors import RunError, WorkbenchError, nearest
from workbench.events import (
    CheckpointSaved,
    EvaluationEnded,
    Event,
    ModelSaved,
    RunEnded,
    RunFailed,
    RunPaused,
    RunResumed,
    RunStarted,
    StepEnded,
)

_LASTING = (CheckpointSaved, ModelSaved, RunEnded, RunFailed)
# versions that can change a number
_NOTED = ("finetune-workbench", "torch", "transformers", "peft", "datasets", "tokenizers", "numpy")


class RunFolder:
    """One run on disk.

    Attributes:
        path: The folder.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self._log: Any = None  # opened by the first append, so that reading never locks or touches a file
        self._lock = FileLock(self.path / "run.lock", is_singleton=False, thread_local=False)

    @classmethod
    def create(cls, plan: Plan, root: Path | str = "runs") -> Self:
        """Make a new folder under `root` with the plan and the environment in it.

        Raises:
            RunError: The folder can't be written.
        """
        slug = re.sub(r"[^a-z0-9]+", "-", plan.baseline.backbone.lower().rsplit("/", 1)[-1]).strip("-") or "run"
        letters = "".join(secrets.choice(string.ascii_lowercase) for _ in range(4))
        path = Path(root) / f"{time.strftime('%Y%m%d-%H%M%S')}-{slug[:40]}-{letters}"
        try:
            path.mkdir(parents=True)
            (path / "plan.json").write_text(plan.to_json(), encoding="utf-8")
            cls(path).note_environment()
        except OSError as error:
            raise RunError(
                f"the run folder {path} can't be written: {error.strerror}", hint="another runs= folder"
            ) from error
        return cls(path)

    @property
    def name(self) -> str:
        """The name of the run: that of its folder."""
        return self.path.name

    def note_environment(self, **facts: str) -> None:
        """Write what else a repetition would need: versions, platform, command, and these further facts."""
        versions = {name: importlib.metadata.version(name) for name in _NOTED}
        known = {
            "python": platform.python_version(),
            "platform": platform.platform(),
            "processors": os.cpu_count(),
            "command": sys.argv,
            "versions": versions,
        }
        text = json.dumps({**known, **facts}, indent=2)
        (self.path / "environment.json").write_text(text, encoding="utf-8")

    def append(self, event: Event) -> None:
        """Write one event to the log; it has left this process when this returns."""
        if self._log is None:
            _cut_half_line(self.path / "events.jsonl")
            self._log = (self.path / "events.jsonl").open("a", encoding="utf-8")
        self._log.write(json.dumps(events.to_dict(event), ensure_ascii=False, allow_nan=False) + "\n")
        self._log.flush()
        if isinstance(event, _LASTING):  # nothing that was said to be safe is lost with the power
            os.fsync(self._log.fileno())

    def close(self) -> None:
        """Close the log; a later append opens it again."""
        if self._log is not None:
            self._log.close()
            self._log = None

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Be the one process that carries this run out, within the block.

        Raises:
            RunError: Another one is.
        """
        try:
            self._lock.acquire(timeout=1)  # somebody may be looking whether it is free
        except Timeout:
            raise RunError(
                f"{self.name} is being carried out by another process", hint="attach to it, or stop it first"
            ) from None
        except OSError as error:
            raise RunError(f"{self.path} can't be written: {error.strerror}", hint="a folder of your own") from error
        try:
            yield
        finally:
            self._lock.release()

    @property
    def is_held(self) -> bool:
        """Whether a living process carries this run out, this one included."""
        if self._lock.is_locked:
            return True
        if not (self.path / "run.lock").exists():
            return False
        try:
            with FileLock(self.path / "run.lock", is_singleton=False).acquire(blocking=False):
                return False
        except (Timeout, OSError):
            return True

    def plan(self) -> Plan:
        """Read the plan.

        Raises:
            RunError: There is none to read.
            PlanError: It is not a plan.
        """
        try:
            return Plan.from_json((self.path / "plan.json").read_text(encoding="utf-8"))
        except OSError:
            raise RunError(f"{self.path} is no run folder: it has no plan.json", hint="`runs` lists them") from None

    def events(self) -> Iterator[Event]:
        """Read the log from its beginning; a last line that was cut off in the writing is left out.

        Raises:
            RunError: A line that is not an event; names its number.
        """
        path = self.path / "events.jsonl"
        if not path.exists():
            return
        with path.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, start=1):
                if line.endswith("\n"):
                    yield _event(line, f"{path}, line {number}")


def _cut_half_line(path: Path) -> None:
    """Take away a last line that a crash or a full disk cut off, so that what comes next has its own line."""
    if not path.exists():
        return
    with path.open("rb+") as file:
        size = file.seek(0, os.SEEK_END)
        back = min(size, 1 << 20)
        file.seek(size - back)
        tail = file.read()
        if tail and not tail.endswith(b"\n"):
            file.truncate(size - back + tail.rfind(b"\n") + 1)


def _event(line: str, where: str) -> Event:
    try:
        return events.from_dict(json.loads(line))
    except (ValueError, TypeError, AttributeError) as error:
        raise RunError(f"{where} is not an event: {error}", hint="delete that line to read the rest") from None


@dataclasses.dataclass(frozen=True)
class Summary:
    """One line about a run."""

    name: str
    path: Path
    started: float  # seconds since the epoch
    state: str  # preparing | running | paused | completed | stopped | failed | unreadable, as the log says
    backbone: str
    source: str
    step: int
    steps: int
    best_loss: float | None  # nats per target
    metrics: Mapping[str, float]  # of the last evaluation


STATE_AFTER: dict[type[Event], str] = {
    RunStarted: "running",
    RunPaused: "paused",
    RunResumed: "running",
    RunEnded: "completed",
    RunFailed: "failed",
}


def state_after(event: Event, before: str) -> str:
    """Return the state of a run once this event is true."""
    if isinstance(event, RunEnded) and event.reason != "completed":
        return "stopped"
    return STATE_AFTER.get(type(event), before)


def summarize(folder: RunFolder) -> Summary:
    """Read a run folder into one line."""
    plan, state, step, steps, started = folder.plan(), "preparing", 0, 0, folder.path.stat().st_mtime
    best: float | None = None
    metrics: Mapping[str, float] = {}
    for number, event in enumerate(folder.events()):
        state = state_after(event, state)
        started = event.time if number == 0 else started
        step = event.step if isinstance(event, StepEnded) else step
        steps = event.steps if isinstance(event, RunStarted) else steps
        if isinstance(event, EvaluationEnded):
            metrics = event.metrics
            best = metrics["loss"] if event.best else best
    return Summary(
        folder.name, folder.path, started, state, plan.baseline.backbone, plan.data.source, step, steps, best, metrics
    )


def list_runs(root: Path | str = "runs") -> list[Summary]:
    """Return the runs under `root`, oldest first; folders that are no runs are passed over.

    A run whose plan or log can't be read is listed as "unreadable", so that one broken folder hides no other.
    """
    return [_summary_or_broken(path.parent) for path in sorted(Path(root).glob("*/plan.json"))]


def _summary_or_broken(path: Path) -> Summary:
    try:
        return summarize(RunFolder(path))
    except (WorkbenchError, OSError, ValueError, KeyError):  # bytes that are no text, or metrics without a loss
        return Summary(path.name, path, path.stat().st_mtime, "unreadable", "", "", 0, 0, None, {})


def find(name: str, root: Path | str = "runs") -> RunFolder:
    """Return the run of that name, a path to one, or the newest for "last".

    Raises:
        RunError: No such run; the nearest name is given.
    """
    names = sorted(path.parent.name for path in Path(root).glob("*/plan.json"))
    if name == "last" and names:
        return RunFolder(Path(root) / names[-1])
    if name in names:
        return RunFolder(Path(root) / name)
    if (Path(name) / "plan.json").exists():
        return RunFolder(name)
    raise RunError(f"there is no run {name!r} in {Path(root)}", hint=nearest(name, names) if names else "start one")

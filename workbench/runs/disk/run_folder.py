"""The run folder: plan, event log, environment. Write, read, replay, list.

    runs/<time>-<backbone>-<4 letters>/
        plan.json          the plan, as `Plan.from_json` reads it
        environment.json   versions, platform, command, fingerprint of the data
        events.jsonl       append-only, one event a line, written before anybody is told
        checkpoints/       see checkpoints.py
        schedule.json      what a fork changes, and when; see run.py
        wishes.jsonl       what people want of it while it runs; see control.py
        run.lock           held by the process that carries the run out, and freed by the system if that dies
        worker.json        the process of its own that carries it out, if one does; see process.py
        worker.log         what that process says beside the log

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

from workbench.errors import RunError, WorkbenchError, nearest
from workbench.events import Event
from workbench.events.run_state import RunState
from workbench.plan.choices import Plan
from workbench.runs.disk import process
from workbench.runs.disk.log import Log
from workbench.untrusted import read_text, shown, text_fault

# versions that can change a number
_NOTED = ("finetune-workbench", "torch", "transformers", "peft", "datasets", "tokenizers", "numpy")


class RunFolder:
    """One run on disk.

    Attributes:
        path: The folder.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self._log = Log(self.path / "events.jsonl")
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
            (path / "plan.json").write_text(plan.with_absolute_paths().to_json(), encoding="utf-8")
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

    def environment(self) -> dict[str, Any]:
        """Return what was noted of the environment; nothing of what can't be read."""
        try:
            tree = json.loads(read_text(self.path / "environment.json"))
        except (OSError, ValueError, RecursionError):
            return {}
        return tree if isinstance(tree, dict) else {}

    def note_environment(self, **facts: Any) -> None:
        """Write what else a repetition would need: versions, platform, command, and these facts beside earlier ones."""
        versions = {name: importlib.metadata.version(name) for name in _NOTED}
        known = {
            "python": platform.python_version(),
            "platform": platform.platform(),
            "processors": os.cpu_count(),
            "command": sys.argv,
            "versions": versions,
        }
        text = json.dumps({**self.environment(), **known, **facts}, indent=2)
        partial = self.path / f".environment-{os.getpid()}-{secrets.token_hex(4)}.json"
        try:
            partial.write_text(text, encoding="utf-8")
            partial.replace(self.path / "environment.json")  # whole, for whoever reads it at this moment
        finally:
            partial.unlink(missing_ok=True)  # where the disk is full

    def append(self, event: Event) -> None:
        """Write one event to the log; it has left this process when this returns. Raises RunError on a full disk."""
        self._log.append(event)

    def close(self) -> None:
        """Close the log; a later append opens it again."""
        self._log.close()

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Be the one process that carries this run out, within the block.

        Raises:
            RunError: Another one is, or what the run writes would land outside its folder.
        """
        try:
            self._refuse_links()
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

    def _refuse_links(self) -> None:
        """Refuse to write into a folder whose files are links: whoever sent it may have chosen where they lead."""
        for entry in [*self.path.iterdir(), *(self.path / "checkpoints").glob("*")]:
            if entry.is_symlink():
                what = f"{entry.relative_to(self.path)} in the run folder {self.path} is a link to elsewhere"
                raise RunError(f"{what}, so the run could write there", hint="put the file itself in its place")

    @property
    def is_locked(self) -> bool:
        """Whether a living process carries this run out, this one included."""
        if self._lock.is_locked:
            return True
        if not (self.path / "run.lock").is_file():
            return False
        try:
            with FileLock(self.path / "run.lock", is_singleton=False).acquire(blocking=False):
                return False
        except (Timeout, OSError):
            return True

    @property
    def is_executed(self) -> bool:
        """Whether a process carries this run out, or has been told to and lives."""
        worker = process.noted(self.path)
        return self.is_locked or (worker is not None and worker.is_living)

    @property
    def was_started(self) -> bool:
        """Whether any process was ever told to carry this run out."""
        return (self.path / "run.lock").exists() or process.noted(self.path) is not None

    def plan(self) -> Plan:
        """Read the plan.

        Raises:
            RunError: There is none to read.
            PlanError: It is not a plan.
        """
        try:
            text = read_text(self.path / "plan.json")
        except FileNotFoundError:
            raise RunError(f"{self.path} is no run folder: it has no plan.json", hint="`runs` lists them") from None
        except (OSError, ValueError) as error:
            raise RunError(f"the plan of {self.path} can't be read: {error}", hint="`runs` lists others") from None
        return Plan.from_json(text)

    def events(self) -> Iterator[Event]:
        """Read the log from its beginning; a last line that was cut off in the writing is left out.

        Raises:
            RunError: A line that is not an event; names its number.
        """
        return self._log.events()

    def events_since(self, start: int) -> tuple[list[Event], int]:
        """Read the whole lines of the log from byte `start` on; return their events and where to go on from.

        Raises:
            RunError: A line that is not an event.
        """
        return self._log.since(start)


@dataclasses.dataclass(frozen=True)
class Summary:
    """One line about a run."""

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
    """Read a run folder into one line; "died" is a run that never ended and that no process executes."""
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
    """Return the runs under `root`, oldest first; folders that are no runs are passed over.

    A run whose plan or log can't be read is listed as "unreadable", so that one broken folder hides no other.
    """
    folders = [path.parent for path in sorted(Path(root).glob("*/plan.json"))]
    return [_summary_or_broken(folder) for folder in folders if not text_fault(folder.name)]


def _summary_or_broken(path: Path) -> Summary:
    try:
        return summarize(RunFolder(path))
    except (WorkbenchError, OSError):  # deleted meanwhile, for one
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
    with contextlib.suppress(OSError):  # a name too long for a path
        if (Path(name) / "plan.json").exists():
            return RunFolder(name)
    raise RunError(
        f"there is no run {shown(name)} in {Path(root)}", hint=nearest(name, names) if names else "start one"
    )

"""The run folder: plan, event log and environment. It can be created, written, read, listed and found by name.

    runs/<time>-<backbone>-<4 letters>/
        plan.json          the plan, as `Plan.from_json` reads it
        environment.json   versions, platform, command, fingerprint of the data
        events.jsonl       append-only log, one event per line; an event is written before anybody gets it
        checkpoints/       see checkpoints.py
        test_scores.jsonl  scores on the test rows, if they were used; see test_scores.py
        schedule.json      what a fork changes, and when; see replay.py
        wishes.jsonl       requests to the run; see control.py
        run.lock           locked by the process that executes the run; the system unlocks it if that process dies
        worker.json        the worker process that executes the run, if there is one; see process.py
        worker.log         output of that process

This module reads no tensors and imports no torch. Reading a folder executes no code from it, whoever wrote it.
"""

import contextlib
import importlib.metadata
import json
import os
import platform
import re
import secrets
import shutil
import string
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

from filelock import FileLock, Timeout

from workbench.errors import RunError
from workbench.events import Event
from workbench.plan.plan import Plan
from workbench.runs.disk import process
from workbench.runs.disk.log import Log
from workbench.untrusted import read_text

# packages whose version can change a number
_PACKAGES = ("finetune-workbench", "torch", "transformers", "peft", "datasets", "tokenizers", "numpy")


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
        """Create a new folder under `root` and write the plan and the environment into it.

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
                f"the run folder {path} can't be written: {error.strerror}", hint="choose another runs= folder"
            ) from error
        return cls(path)

    def remove(self) -> None:
        """Delete the folder of a run that has nothing to keep."""
        self.close()
        shutil.rmtree(self.path, ignore_errors=True)

    @property
    def name(self) -> str:
        """The name of the run, which is the name of its folder."""
        return self.path.name

    def environment(self) -> dict[str, Any]:
        """Return the recorded environment; {} if it can't be read."""
        try:
            tree = json.loads(read_text(self.path / "environment.json"))
        except (OSError, ValueError, RecursionError):
            return {}
        return tree if isinstance(tree, dict) else {}

    def note_environment(self, **values: Any) -> None:
        """Record versions, platform and command, and add these values to the ones recorded before."""
        versions = {name: importlib.metadata.version(name) for name in _PACKAGES}
        known = {
            "python": platform.python_version(),
            "platform": platform.platform(),
            "processors": os.cpu_count(),
            "command": sys.argv,
            "versions": versions,
        }
        text = json.dumps({**self.environment(), **known, **values}, indent=2)
        partial = self.path / f".environment-{os.getpid()}-{secrets.token_hex(4)}.json"
        try:
            partial.write_text(text, encoding="utf-8")
            partial.replace(self.path / "environment.json")  # so that a reader at the same time sees a complete file
        finally:
            partial.unlink(missing_ok=True)  # exists only if writing failed

    def append(self, event: Event) -> None:
        """Write one event to the log, so that a crash of this process can't lose it. Raises RunError on a full disk."""
        self._log.append(event)

    def close(self) -> None:
        """Close the log; a later append opens it again."""
        self._log.close()

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the lock of the run within the block, so that no other process executes it.

        Raises:
            RunError: Another process holds the lock, or the folder has links, through which the run could write
                elsewhere.
        """
        try:
            self._refuse_links()
            self._lock.acquire(timeout=1)  # `is_locked` holds the lock for an instant
        except Timeout:
            raise RunError(
                f"{self.name} is being executed by another process", hint="attach to it, or stop it first"
            ) from None
        except OSError as error:
            raise RunError(
                f"{self.path} can't be written: {error.strerror}", hint="choose a folder that you may write to"
            ) from error
        try:
            yield
        finally:
            self._lock.release()

    def _refuse_links(self) -> None:
        """Raise RunError if files in the folder are links: a stranger who sent it may have chosen where they point."""
        for entry in [*self.path.iterdir(), *(self.path / "checkpoints").glob("*")]:
            if entry.is_symlink():
                what = f"{entry.relative_to(self.path)} in the run folder {self.path} is a link to elsewhere"
                raise RunError(f"{what}, so the run could write there", hint="replace the link by the file itself")

    @property
    def is_locked(self) -> bool:
        """Whether a living process, perhaps this one, holds the lock of the run."""
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
        """Whether a living process executes this run, or is about to."""
        worker = process.noted(self.path)
        return self.is_locked or (worker is not None and worker.is_living)

    @property
    def was_started(self) -> bool:
        """Whether any process has started to execute this run, or was started for it."""
        return (self.path / "run.lock").exists() or process.noted(self.path) is not None

    def plan(self) -> Plan:
        """Read the plan.

        Raises:
            RunError: The file is missing or can't be read.
            PlanError: The file is not a plan.
        """
        try:
            text = read_text(self.path / "plan.json")
        except FileNotFoundError:
            raise RunError(
                f"{self.path} is no run folder: it has no plan.json",
                hint="list the runs with `python -m workbench runs`",
            ) from None
        except (OSError, ValueError) as error:
            raise RunError(
                f"the plan of {self.path} can't be read: {error}",
                hint="list other runs with `python -m workbench runs`",
            ) from None
        return Plan.from_json(text)

    def events(self) -> Iterator[Event]:
        """Read all events of the log; an incomplete last line is ignored.

        Raises:
            RunError: A line is not an event; the message gives its number.
        """
        return self._log.events()

    def milestones(self) -> Iterator[Event]:
        """Read the events of the log, but of successive steps only the last, which is much faster.

        Raises:
            RunError: A line is not an event; the lines that are left out are not checked.
        """
        return self._log.milestones()

    def events_since(self, start: int) -> tuple[list[Event], int]:
        """Read the complete lines of the log from byte `start` on; return their events and the next `start`.

        Raises:
            RunError: A line is not an event.
        """
        return self._log.since(start)

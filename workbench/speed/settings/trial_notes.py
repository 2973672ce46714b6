"""Notes about trials under way, so that a trial that ended its process is never repeated on that machine and shape.

A fault inside a kernel of torch (a segmentation fault, an abort) ends the process, and no Python code can catch it. A
note is therefore written to disk before a trial begins and deleted when the trial ends. If the process of a note is
gone, the trial took the process with it. Notes lie beside the remembered settings, one file for each trial under way.

Left out: a folder that can't be written. There, trials run without notes.
"""

import contextlib
import json
import math
import platform
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from workbench.speed.settings.remembered import memory_folder
from workbench.untrusted import read_text

TOLERANCE = 2.0  # seconds by which the start time of a living process may seem to move when the clock is set
LONGEST = 600.0  # seconds, far more than a trial takes; processes of other hosts can't be looked up, so age decides


class TrialNotes:
    """The notes about trials of one machine, model and shape.

    Attributes:
        crashed: Names of the trials that ended their process.
    """

    def __init__(self, key: str) -> None:
        self._key = key
        found = [_read(path) for path in memory_folder().glob(f"{key}.*.trial")]
        self.crashed = frozenset(note.trial for note in found if note and not note.is_under_way)

    def seconds(self, names: Sequence[str], measure: Callable[[], float]) -> float:
        """Return what `measure` returns, with a note on disk meanwhile; infinity if such a trial crashed before.

        Args:
            names: How this trial differs from the plain way; the note blames the last of these differences. The plain
                way has none and gets no note: without any trial, the run would compute that way.
            measure: Runs the trial and returns its time in seconds.
        """
        if not self.crashed.isdisjoint(names):
            return math.inf
        with self._noted(names[-1]) if names else contextlib.nullcontext():
            return measure()

    def corrected(self, said: Sequence[str]) -> tuple[str, ...]:
        """Return sentences about timings, with those about crashed trials replaced by one that says so."""
        crashed = sorted(self.crashed)
        rest = (text for text in said if not text.startswith(tuple(crashed)))
        return (*rest, *(f"{name} was not tried: an earlier trial of it ended the whole process" for name in crashed))

    @contextlib.contextmanager
    def _noted(self, trial: str) -> Iterator[None]:
        path = memory_folder() / f"{self._key}.{secrets.token_hex(8)}.trial"
        this = psutil.Process()
        note = Note(trial, this.pid, this.create_time(), platform.node(), time.time())
        with contextlib.suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(asdict(note)), encoding="utf-8")
        try:
            yield
        finally:
            with contextlib.suppress(OSError):
                path.unlink()


@dataclass(frozen=True)
class Note:
    """A trial that began.

    Attributes:
        trial: Its name.
        pid: The number of its process.
        started: When that process started, in seconds since the epoch: numbers of processes are reused.
        host: Where it runs.
        written: When the trial began, in seconds since the epoch.
    """

    trial: str
    pid: int
    started: float
    host: str
    written: float

    @property
    def is_under_way(self) -> bool:
        """Whether its process still runs; a process that crashed and was not collected by its parent does not."""
        if self.host != platform.node():
            return time.time() - self.written < LONGEST
        try:
            found = psutil.Process(self.pid)
            is_running = found.status() not in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)
            return is_running and abs(found.create_time() - self.started) <= TOLERANCE
        except (psutil.Error, ValueError, OverflowError):  # none of that number
            return False


def _read(path: Path) -> Note | None:
    """Return the note in a file; None if it was deleted meanwhile or is broken, as one that is being written is."""
    try:
        tree = json.loads(read_text(path))
        values = (tree["trial"], tree["pid"], tree["started"], tree["host"], tree["written"])
        return Note(*(kind(value) for kind, value in zip((str, int, float, str, float), values, strict=True)))
    except (OSError, ValueError, TypeError, KeyError, OverflowError, RecursionError):
        return None

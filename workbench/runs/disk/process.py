"""The process that carries a run out, as `worker.json` of its folder names it: whether it lives, what memory it takes.

A process is known by its number and by when it began, since numbers are used again.
"""

import json
import os
import platform
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from workbench.untrusted import read_text

FILE = "worker.json"
_TOLERANCE = 200  # hundredths of a second: the start of the system is known to a second, and moves with the clock


@dataclass(frozen=True)
class Process:
    """A process that carries a run out, or did."""

    pid: int
    began: int | None  # hundredths of a second after the start of the system; None if it was gone by then
    host: str

    @property
    def is_living(self) -> bool:
        """Whether it is there, on this machine; one that is stopped is, one that waits to be buried is not."""
        return self._found() is not None

    @property
    def memory_bytes(self) -> int | None:
        """What it holds in memory now; None if that can't be known."""
        try:
            found = self._found()
            return found.memory_info().rss if found else None
        except psutil.Error:
            return None

    def _found(self) -> psutil.Process | None:
        if self.host != platform.node():
            return None
        try:
            found = psutil.Process(self.pid)
            is_it = self.began is not None and abs(_began(found) - self.began) <= _TOLERANCE
            return found if is_it and found.status() not in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD) else None
        except (psutil.Error, ValueError):  # there is none, or there can be none of that number
            return None


def note(folder: Path, pid: int) -> Process:
    """Write down that this process carries out the run in `folder`."""
    try:
        began = _began(psutil.Process(pid))
    except psutil.Error:
        began = None
    process = Process(pid, began, platform.node())
    partial = folder / f".{FILE}-{os.getpid()}"
    partial.write_text(json.dumps(asdict(process)), encoding="utf-8")
    partial.replace(folder / FILE)
    return process


def noted(folder: Path) -> Process | None:
    """Return the process that was written down last; None if none was, or nothing that can be read."""
    try:
        tree = json.loads(read_text(folder / FILE))
        began = tree["began"]
        return Process(int(tree["pid"]), None if began is None else int(began), str(tree["host"]))
    except (OSError, ValueError, TypeError, KeyError, OverflowError, RecursionError):
        return None


def _began(process: psutil.Process) -> int:
    """Return when a process began, in hundredths of a second after the start of the system.

    Linux counts so itself, and run folders of 0.1.0 hold its count. The time of day would move when the clock is set.
    """
    return round(100 * (process.create_time() - psutil.boot_time()))

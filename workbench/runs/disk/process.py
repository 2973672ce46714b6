"""The process that carries a run out, as `worker.json` of its folder names it: whether it lives, what memory it takes.

A process is known by its number and by when it began, since numbers are used again. On systems without /proc only the
number is looked at, and memory is not known.
"""

import json
import os
import platform
from dataclasses import asdict, dataclass
from pathlib import Path

from workbench.untrusted import read_text

FILE = "worker.json"
_PROCESSES = Path("/proc")
_STATE, _BEGAN = 0, 19  # place of the fields in /proc/<pid>/stat, counted from behind the name


@dataclass(frozen=True)
class Process:
    """A process that carries a run out, or did."""

    pid: int
    began: int | None  # clock ticks after the start of the system
    host: str

    @property
    def is_living(self) -> bool:
        """Whether it is there, on this machine; one that is stopped is, one that waits to be buried is not."""
        if self.host != platform.node():
            return False
        if not _PROCESSES.is_dir():
            return _answers(self.pid)
        fields = _fields(self.pid)
        return bool(fields) and fields[_STATE] not in "ZX" and int(fields[_BEGAN]) == self.began

    @property
    def memory_bytes(self) -> int | None:
        """What it holds in memory now; None if that can't be known."""
        if not self.is_living:
            return None
        try:
            resident = int((_PROCESSES / str(self.pid) / "statm").read_text().split()[1])
        except (OSError, ValueError, IndexError):
            return None
        return resident * os.sysconf("SC_PAGE_SIZE")


def note(folder: Path, pid: int) -> Process:
    """Write down that this process carries out the run in `folder`."""
    fields = _fields(pid)
    process = Process(pid, int(fields[_BEGAN]) if fields else None, platform.node())
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


def _fields(pid: int) -> list[str]:
    """Return the fields of /proc/<pid>/stat behind the name, which may hold anything; empty if there are none."""
    try:
        text = (_PROCESSES / str(pid) / "stat").read_text(errors="replace")
    except OSError:
        return []
    return text.rpartition(")")[2].split()


def _answers(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        pass
    return True

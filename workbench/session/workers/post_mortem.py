"""What can be said of a run whose process died: how it ended, what memory it held, what it wrote last.

A process that is killed says nothing itself; who watched it tells, as a RunFailed in its log. That memory ran out is
a guess and is called one.
"""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import psutil

from workbench.events import RunFailed
from workbench.runs.disk import process

WORDS = "worker.log"
_INTERVAL = 1.0  # seconds between two looks
_SCARCE = 0.05  # of all memory: with less to be had, the system begins to kill
_LINES = 20
_CGROUP = Path("/sys/fs/cgroup/memory.events")


class Watch:
    """Looks at the process of a run now and then, so that something is known of it once it is gone."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._killed = _killed_for_memory()
        self._looked = 0.0
        self._was_scarce = False
        self.memory_bytes: int | None = None  # when it was last read

    def look(self) -> None:
        """Look, if the last look is a while ago."""
        if time.monotonic() - self._looked < _INTERVAL:
            return
        self._looked = time.monotonic()
        worker = process.noted(self._folder)
        self.memory_bytes = (worker.memory_bytes if worker else None) or self.memory_bytes
        memory = psutil.virtual_memory()
        self._was_scarce = memory.available < _SCARCE * memory.total

    @property
    def is_out_of_memory(self) -> bool:
        """Whether memory had run out on this machine, or something was killed for it, by the last look."""
        return self._was_scarce or _killed_for_memory() > self._killed


def tell(folder: Path, step: int, watch: Watch, exit_code: Callable[[], int | None]) -> RunFailed:
    """Return what is known of the end of the process that carried out the run in `folder`."""
    code = exit_code()
    what = f"{_ending(folder, code)} {f'after step {step}' if step else 'before the first step'}"
    if watch.memory_bytes:
        what += f"; it used {watch.memory_bytes / 1e9:.1f} GB of memory"
    hint = "run.resume() continues from the newest checkpoint"
    is_scarce = code in (None, -signal.SIGKILL) and watch.is_out_of_memory
    if is_scarce:
        what += ". Perhaps this machine ran out of memory; the system does not say so"
        hint += "; close other programs first, or start a run with a smaller batch_size"
    is_interruption = code is None and not is_scarce and process.noted(folder) is None
    return RunFailed(step=step, what=what, hint=hint, traceback=last_lines(folder), is_interruption=is_interruption)


def words_file(folder: Path, flags: int) -> int:
    """Open what the process of this run wrote; a link, which a stranger's folder may have there, is not followed.

    Raises:
        OSError: It can't be opened.
    """
    return os.open(folder / WORDS, flags | getattr(os, "O_NOFOLLOW", 0), 0o666)


def last_lines(folder: Path) -> str:
    """Return the last lines that the process of this run wrote, none if it wrote nothing."""
    try:
        with open(words_file(folder, os.O_RDONLY), "rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - 200 * _LINES))
            return "\n".join(file.read().decode(errors="replace").splitlines()[-_LINES:])
    except OSError:
        return ""


def _ending(folder: Path, code: int | None) -> str:
    who = "the worker process" if process.noted(folder) else "the notebook or program that trained it"
    if code is None:
        return f"{who} disappeared"
    if code >= 0:
        return f"{who} ended with exit code {code}"
    try:
        return f"{who} was killed ({signal.Signals(-code).name})"
    except ValueError:
        return f"{who} was killed (signal {-code})"


def _killed_for_memory() -> int:
    """Return how many processes of this container the system has killed for want of memory; 0 if it does not say."""
    try:
        counts = dict(line.split() for line in _CGROUP.read_text().splitlines())
        return int(counts.get("oom_kill", 0))
    except (OSError, ValueError):
        return 0

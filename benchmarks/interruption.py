"""Ways to interrupt a process during its work: kill it, fill its disk, damage the files that it has written.

Processes are forked from one that has imported everything, so that a new one takes milliseconds instead of seconds. The
parent must not have run a parallel torch operation. Only processes that were started here are ended. A kill is not a
power failure: the benefit of `fsync` can't be measured this way.
"""

import contextlib
import gc
import os
import random
import resource
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

POLL, SLOW_POLL = 0.0005, 0.004  # seconds between two checks, if the exact moment matters and if it does not


class Child:
    """A forked process that calls one function; its output and its traceback are written into the folder `notes`."""

    def __init__(self, work: Callable[[], None], notes: Path) -> None:
        self._status: int | None = None
        (notes / "error").unlink(missing_ok=True)
        sys.stdout.flush()
        gc.freeze()  # otherwise the first garbage collection of the child would copy all shared memory
        self.pid = os.fork()
        if self.pid == 0:
            _run(work, notes)

    def __enter__(self) -> "Child":
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    @property
    def is_alive(self) -> bool:
        """Whether the process is still running."""
        if self._status is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self._status = status if pid else None
        return self._status is None

    def kill(self) -> None:
        """Kill the process with SIGKILL."""
        if self.is_alive:
            os.kill(self.pid, signal.SIGKILL)
            _, self._status = os.waitpid(self.pid, 0)

    def wait_until(self, condition: Callable[[], bool], *, seconds: float = 60.0, poll: float = POLL) -> bool:
        """Wait until the condition is true and return True; return False if the process or the time ends before."""
        end = time.monotonic() + seconds
        while self.is_alive and time.monotonic() < end:
            if condition():
                return True
            time.sleep(poll)
        return False

    def finish(self, *, seconds: float = 60.0) -> bool:
        """Wait until the process ends, kill it if the time is over, and return whether it succeeded."""
        self.wait_until(lambda: False, seconds=seconds, poll=SLOW_POLL)
        self.kill()
        return self._status == 0

    def end(self) -> None:
        """Send SIGTERM, so that the process can clean up; kill it if it does not end within ten seconds."""
        if self.is_alive:
            os.kill(self.pid, signal.SIGTERM)
            self.finish(seconds=10)

    def limit_file_size(self, size_bytes: int) -> None:
        """From now on, let the system refuse any write beyond this file size."""
        with contextlib.suppress(ProcessLookupError):
            resource.prlimit(self.pid, resource.RLIMIT_FSIZE, (size_bytes, size_bytes))


def _run(work: Callable[[], None], notes: Path) -> None:
    status = 1
    try:
        output = os.open(notes / "output", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(output, 1), os.dup2(output, 2)
        work()
        status = 0
    except BaseException:
        (notes / "error").write_text(traceback.format_exc())
    finally:
        os._exit(status)  # without the cleanup that belongs to the parent


def truncate(file: Path, rng: random.Random) -> None:
    """Truncate the file at a random length."""
    os.truncate(file, rng.randrange(file.stat().st_size))


def flip(file: Path, rng: random.Random) -> None:
    """Flip one random bit of the file."""
    content = bytearray(file.read_bytes())
    content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    file.write_bytes(content)


def can_mount(place: Path) -> bool:
    """Return whether a small disk can be mounted here, which needs root."""
    try:
        with small_disk(place, 1 << 20):
            return True
    except (OSError, subprocess.CalledProcessError):
        return False


@contextlib.contextmanager
def small_disk(place: Path, size_bytes: int) -> Iterator[None]:
    """Mount a tmpfs of this size at `place` within the block."""
    place.mkdir(parents=True, exist_ok=True)
    _system("mount", "-t", "tmpfs", "-o", f"size={size_bytes}", "tmpfs", str(place))
    try:
        yield
    finally:
        _system("umount", "-l", str(place))


def enlarge(place: Path, size_bytes: int) -> None:
    """Enlarge a small disk to this size."""
    _system("mount", "-o", f"remount,size={size_bytes}", str(place))


def unmount_below(root: Path) -> None:
    """Unmount the small disks that killed processes have left."""
    places = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
    for place in places:
        if Path(place).is_relative_to(root):
            _system("umount", "-l", place)


def _system(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)

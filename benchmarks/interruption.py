"""Ways to interrupt a process in the middle of its work: kill it, fill its disk up, damage the files it left.

Processes are forked from one that has imported everything, so that a fresh one takes milliseconds, not seconds; the
parent must not have run a parallel torch operation. Only processes started here are ever ended. A kill takes a process
from the system, not the power from the disk: what `fsync` adds can't be measured this way.
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

POLL, PATIENT_POLL = 0.0005, 0.004  # seconds between two looks, where the moment matters and where it does not


class Child:
    """A forked process that does one piece of work; what it prints and what went wrong land beside its notes."""

    def __init__(self, work: Callable[[], None], notes: Path) -> None:
        self._status: int | None = None
        (notes / "error").unlink(missing_ok=True)
        sys.stdout.flush()
        gc.freeze()  # else the child's first collection would copy all that it shares with its parent
        self.pid = os.fork()
        if self.pid == 0:
            _do(work, notes)

    def __enter__(self) -> "Child":
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    @property
    def is_alive(self) -> bool:
        """Whether it has not ended yet."""
        if self._status is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self._status = status if pid else None
        return self._status is None

    def kill(self) -> None:
        """Take it from the system as it is (signal 9)."""
        if self.is_alive:
            os.kill(self.pid, signal.SIGKILL)
            _, self._status = os.waitpid(self.pid, 0)

    def wait_until(self, condition: Callable[[], bool], *, seconds: float = 60.0, poll: float = POLL) -> bool:
        """Return as soon as the condition holds; False if the process ended or the time was up before."""
        end = time.monotonic() + seconds
        while self.is_alive and time.monotonic() < end:
            if condition():
                return True
            time.sleep(poll)
        return False

    def finish(self, *, seconds: float = 60.0) -> bool:
        """Let it come to its end, and return whether that was a good one."""
        self.wait_until(lambda: False, seconds=seconds, poll=PATIENT_POLL)
        self.kill()
        return self._status == 0

    def end(self) -> None:
        """Ask it to end, so that it can clean up; kill it if it does not."""
        if self.is_alive:
            os.kill(self.pid, signal.SIGTERM)
            self.finish(seconds=10)

    def limit_file_size(self, size_bytes: int) -> None:
        """Let the system refuse it any file beyond this size from now on."""
        with contextlib.suppress(ProcessLookupError):
            resource.prlimit(self.pid, resource.RLIMIT_FSIZE, (size_bytes, size_bytes))


def _do(work: Callable[[], None], notes: Path) -> None:
    status = 1
    try:
        output = os.open(notes / "output", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(output, 1), os.dup2(output, 2)
        work()
        status = 0
    except BaseException:
        (notes / "error").write_text(traceback.format_exc())
    finally:
        os._exit(status)  # nothing of the parent's is to be cleaned up here


def truncate(file: Path, draw: random.Random) -> None:
    """Cut the file off at a random length."""
    os.truncate(file, draw.randrange(file.stat().st_size))


def flip(file: Path, draw: random.Random) -> None:
    """Turn over one random bit of the file."""
    content = bytearray(file.read_bytes())
    content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
    file.write_bytes(content)


def can_mount(place: Path) -> bool:
    """Return whether a small disk can be had here; it takes root."""
    try:
        with small_disk(place, 1 << 20):
            return True
    except (OSError, subprocess.CalledProcessError):
        return False


@contextlib.contextmanager
def small_disk(place: Path, size_bytes: int) -> Iterator[None]:
    """Let `place` be a disk of this size within the block."""
    place.mkdir(parents=True, exist_ok=True)
    _system("mount", "-t", "tmpfs", "-o", f"size={size_bytes}", "tmpfs", str(place))
    try:
        yield
    finally:
        _system("umount", "-l", str(place))


def enlarge(place: Path, size_bytes: int) -> None:
    """Make room on a small disk."""
    _system("mount", "-o", f"remount,size={size_bytes}", str(place))


def unmount_below(root: Path) -> None:
    """Take away small disks that a process which was killed has left."""
    places = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
    for place in places:
        if Path(place).is_relative_to(root):
            _system("umount", "-l", place)


def _system(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)

"""The event log of a run: one JSON object a line, only ever added to.

A line is there whole or not at all, whatever happens to the process or the disk. Reading locks and touches nothing, and
runs nothing, whoever wrote the log.
"""

import errno
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from workbench import events
from workbench.errors import RunError
from workbench.events import CheckpointSaved, Event, ModelSaved, RunEnded, RunFailed
from workbench.untrusted import check_ordinary

_ENCODER = json.JSONEncoder(ensure_ascii=False, allow_nan=False)
_LASTING = (CheckpointSaved, ModelSaved, RunEnded, RunFailed)


class Log:
    """The log at `path`; there is no file until something is appended."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: Any = None

    def append(self, event: Event) -> None:
        """Write one event; it has left this process when this returns.

        Raises:
            RunError: The disk is full; nothing of the line is written.
        """
        if self._file is None:
            _cut_half_line(self.path)
            self._file = self.path.open("ab", buffering=0)
        line = _ENCODER.encode(events.to_dict(event)) + "\n"
        _write_whole(self._file, line.encode("utf-8", "backslashreplace"))
        if isinstance(event, _LASTING):  # nothing that was said to be safe is lost with the power
            os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file; a later append opens it again."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def events(self) -> Iterator[Event]:
        """Read from the beginning; a last line that was cut off in the writing is left out.

        Raises:
            RunError: A line that is not an event; names its number.
        """
        if not self.path.exists():
            return
        try:
            check_ordinary(self.path)
            with self.path.open(encoding="utf-8") as lines:
                for number, line in enumerate(lines, start=1):
                    if line.endswith("\n"):
                        yield _event(line, f"{self.path}, line {number}")
        except (OSError, UnicodeDecodeError) as error:
            raise RunError(f"the log {self.path} can't be read: {error}", hint="the lines before can be kept") from None

    def since(self, start: int) -> tuple[list[Event], int]:
        """Read the whole lines from byte `start` on; return their events and where to go on from.

        Raises:
            RunError: A line that is not an event.
        """
        if not self.path.exists() or self.path.stat().st_size <= start:
            return [], start
        with self.path.open("rb") as file:
            file.seek(start)
            lines = file.read()
        whole = lines[: lines.rfind(b"\n") + 1]
        where = f"{self.path}, after byte {start:,}"
        return [_event(line, where) for line in whole.splitlines()], start + len(whole)


def _write_whole(file: Any, line: bytes) -> None:
    """Append a line, or nothing at all where the disk is full."""
    before = os.fstat(file.fileno()).st_size
    try:
        if file.write(line) == len(line):
            return
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    except OSError as error:
        os.ftruncate(file.fileno(), before)
        raise RunError(
            f"{file.name} can't be written: {error.strerror}", hint="free some space; run.resume() then goes on"
        ) from error


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


def _event(line: str | bytes, where: str) -> Event:
    try:
        return events.from_dict(json.loads(line))
    except (ValueError, RecursionError, RunError) as error:
        what = error.what if isinstance(error, RunError) else f"not JSON: {error}"
        raise RunError(f"{where} is not an event: {what}", hint="delete that line to read the rest") from None

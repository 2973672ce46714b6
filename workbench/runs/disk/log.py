"""The event log of a run: one JSON object per line; lines are only appended.

A line is written completely or not at all, whatever happens to the process or the disk. Reading takes no lock, changes
nothing, and runs no code from the log, whoever wrote it.
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
_STEP = '{"event": "StepEnded"'  # the beginning of the line of a step, as `append` writes it
_SYNCED = (CheckpointSaved, ModelSaved, RunEnded, RunFailed)  # must survive a power failure


class Log:
    """The log at `path`; the file is created with the first event."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: Any = None

    def append(self, event: Event) -> None:
        """Write one event; afterwards, a crash of this process can't lose it.

        Raises:
            RunError: The disk is full; nothing of the line is written.
        """
        if self._file is None:
            _remove_partial_line(self.path)
            self._file = self.path.open("ab", buffering=0)
        line = _ENCODER.encode(events.to_dict(event)) + "\n"
        _write_line(self._file, line.encode("utf-8", "backslashreplace"))
        if isinstance(event, _SYNCED):
            os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file; `append` opens it again."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def events(self) -> Iterator[Event]:
        """Read all events; an incomplete last line is ignored.

        Raises:
            RunError: A line is not an event; the message gives its number.
        """
        for number, line in self._lines():
            yield _event(line, f"{self.path}, line {number}")

    def milestones(self) -> Iterator[Event]:
        """Read the events like `events`, but of successive steps only the last: ten times as fast, for long lists.

        Raises:
            RunError: A line is not an event; the lines that are left out are not checked.
        """
        step: tuple[int, str] | None = None
        for number, line in self._lines():
            if line.startswith(_STEP):
                step = (number, line)
                continue
            if step is not None:
                yield _event(step[1], f"{self.path}, line {step[0]}")
                step = None
            yield _event(line, f"{self.path}, line {number}")
        if step is not None:
            yield _event(step[1], f"{self.path}, line {step[0]}")

    def _lines(self) -> Iterator[tuple[int, str]]:
        """Read the complete lines with their numbers."""
        if not self.path.exists():
            return
        try:
            check_ordinary(self.path)
            with self.path.open(encoding="utf-8") as lines:
                yield from ((number, line) for number, line in enumerate(lines, start=1) if line.endswith("\n"))
        except (OSError, UnicodeDecodeError) as error:
            hint = "check that it is a text file that you may read; the lines before the error can be kept"
            raise RunError(f"the log {self.path} can't be read: {error}", hint=hint) from None

    def since(self, start: int) -> tuple[list[Event], int]:
        """Read the complete lines from byte `start` on; return their events and the `start` of the next call.

        Raises:
            RunError: A line is not an event.
        """
        if not self.path.exists() or self.path.stat().st_size <= start:
            return [], start
        with self.path.open("rb") as file:
            file.seek(start)
            content = file.read()
        complete = content[: content.rfind(b"\n") + 1]
        where = f"{self.path}, after byte {start:,}"
        return [_event(line, where) for line in complete.splitlines()], start + len(complete)


def _write_line(file: Any, line: bytes) -> None:
    """Append a line, or nothing if the disk is full."""
    before = os.fstat(file.fileno()).st_size
    try:
        if file.write(line) == len(line):
            return
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    except OSError as error:
        os.ftruncate(file.fileno(), before)
        raise RunError(
            f"{file.name} can't be written: {error.strerror}", hint="free some space, then call run.resume()"
        ) from error


def _remove_partial_line(path: Path) -> None:
    """Remove an incomplete last line, left by a crash or a full disk, so that the next event gets its own line."""
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

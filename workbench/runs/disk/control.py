"""What people want of a run under way: pause, resume, stop, change. The run looks between two events.

A run in this process is told directly; one in another process through `wishes.jsonl` in its folder, a line a wish, so
that any number of notebooks can steer it and no port is open. Wishes are data from a file that anybody may have
written: what is no known wish is passed over, and nothing in one is run.
"""

import json
import os
import threading
import time
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any

LOOK = 0.05  # seconds between two looks of a paused run
WISHES = "wishes.jsonl"


class Control:
    """Wishes for one run. Safe to call from any thread.

    Args:
        folder: The run folder whose wishes are heard too; those written before are not meant for this carrying out.
    """

    def __init__(self, folder: Path | None = None, *, start: int | None = None) -> None:
        self._may_go_on = threading.Event()
        self._may_go_on.set()
        self._changes: deque[dict[str, Any]] = deque()
        self._path = folder / WISHES if folder else None
        self._read = wishes_size(folder) if start is None else start
        self.is_stopping = False

    @property
    def is_pausing(self) -> bool:
        """Whether the run is to wait (it may not have come to it yet); a run that is to stop never waits."""
        return not self.is_stopping and not self._may_go_on.is_set()

    def pause(self) -> None:
        """Let the run wait before its next event."""
        if not self.is_stopping:
            self._may_go_on.clear()

    def resume(self) -> None:
        """Let the run go on."""
        self._may_go_on.set()

    def stop(self) -> None:
        """Let the run end before its next event, paused or not, with a model that can be used."""
        self.is_stopping = True
        self._may_go_on.set()

    def change(self, /, **changes: Any) -> None:
        """Let the run obey these fields of the plan from its next step on."""
        self._changes.append(changes)

    def wait(self) -> None:
        """Return when the run may go on."""
        while not self._may_go_on.wait(LOOK):
            self.look()

    def look(self) -> None:
        """Take in what was wished through the folder since the last look."""
        if self._path is None or _size(self._path) <= self._read:
            return
        with self._path.open("rb") as file:
            file.seek(self._read)
            lines = file.read()
        whole = lines[: lines.rfind(b"\n") + 1]
        self._read += len(whole)
        for line in whole.splitlines():
            self._hear(line)

    def taken_changes(self) -> list[dict[str, Any]]:
        """Return the changes wished for since this was last asked, oldest first."""
        return [self._changes.popleft() for _ in range(len(self._changes))]

    def _hear(self, line: bytes) -> None:
        try:
            wish = json.loads(line)
            do, changes = wish["do"], wish.get("changes", {})
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            return
        if do == "change" and isinstance(changes, Mapping):
            self.change(**changes)
        elif do in ("pause", "resume", "stop"):
            getattr(self, do)()


def wish(folder: Path, do: str, /, **changes: Any) -> None:
    """Write a wish for whatever process carries the run in `folder` out: "pause", "resume", "stop" or "change"."""
    line = json.dumps({"do": do, "changes": changes, "time": time.time()}) + "\n"
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0)  # a link may lead anywhere
    handle = os.open(folder / WISHES, flags, 0o666)
    try:
        os.write(handle, line.encode())  # one write, so that lines of two notebooks never mix
    finally:
        os.close(handle)


def wishes_size(folder: Path | None) -> int:
    """Return how many bytes of wishes there are; where a carrying out that begins now reads on from."""
    return _size(folder / WISHES) if folder else 0


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0

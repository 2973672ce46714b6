"""Requests to a run that is running: pause, resume, stop, change. The run reads them between two events.

A run in this process gets them as method calls. A run in another process gets them through the file `wishes.jsonl` in
its folder, one request per line, so that several notebooks can control it and no port is open. Anybody may have written
that file, so unknown requests are ignored, and nothing in a request is executed as code.
"""

import json
import os
import threading
import time
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any

LOOK = 0.05  # seconds between two looks at the file while the run is paused
REQUESTS = "wishes.jsonl"


class Control:
    """The requests to one run. Its methods may be called from any thread.

    Args:
        folder: The run folder, to read requests from its file as well.
        start: The size of the file (bytes) from which to read on; by default its current size, because earlier requests
            were meant for an earlier process of the run.
    """

    def __init__(self, folder: Path | None = None, *, start: int | None = None) -> None:
        self._may_continue = threading.Event()
        self._may_continue.set()
        self._changes: deque[dict[str, Any]] = deque()
        self._path = folder / REQUESTS if folder else None
        self._bytes_read = requests_size(folder) if start is None else start
        self.is_stopping = False

    @property
    def is_pausing(self) -> bool:
        """Whether the run is paused or will pause before its next event; a run that is stopping never pauses."""
        return not self.is_stopping and not self._may_continue.is_set()

    def pause(self) -> None:
        """Pause the run before its next event."""
        if not self.is_stopping:
            self._may_continue.clear()

    def resume(self) -> None:
        """Let a paused run continue."""
        self._may_continue.set()

    def stop(self) -> None:
        """End the run before its next event, even if it is paused; its model is saved."""
        self.is_stopping = True
        self._may_continue.set()

    def change(self, /, **changes: Any) -> None:
        """Change these fields of the plan from the next step on."""
        self._changes.append(changes)

    def wait(self) -> None:
        """Block while the run is paused."""
        while not self._may_continue.wait(LOOK):
            self.look()

    def look(self) -> None:
        """Apply the requests that were written to the file since the last call."""
        if self._path is None or _size(self._path) <= self._bytes_read:
            return
        with self._path.open("rb") as file:
            file.seek(self._bytes_read)
            content = file.read()
        complete = content[: content.rfind(b"\n") + 1]  # the last line may still be being written
        self._bytes_read += len(complete)
        for line in complete.splitlines():
            self._apply(line)

    def taken_changes(self) -> list[dict[str, Any]]:
        """Remove and return the changes requested since the last call, oldest first."""
        return [self._changes.popleft() for _ in range(len(self._changes))]

    def _apply(self, line: bytes) -> None:
        try:
            request = json.loads(line)
            do, changes = request["do"], request.get("changes", {})
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            return
        if do == "change" and isinstance(changes, Mapping):
            self.change(**changes)
        elif do in ("pause", "resume", "stop"):
            getattr(self, do)()


def request(folder: Path, do: str, /, **changes: Any) -> None:
    """Write a request ("pause", "resume", "stop" or "change") for the process that runs the run in `folder`."""
    line = json.dumps({"do": do, "changes": changes, "time": time.time()}) + "\n"
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0)  # a link could point to any file
    handle = os.open(folder / REQUESTS, flags, 0o666)
    try:
        os.write(handle, line.encode())  # a single write, so that the lines of two notebooks never mix
    finally:
        os.close(handle)


def requests_size(folder: Path | None) -> int:
    """Return the size of the file of requests in bytes, as the `start` of a Control that ignores earlier requests."""
    return _size(folder / REQUESTS) if folder else 0


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0

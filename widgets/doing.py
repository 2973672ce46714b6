"""Doing: says what is being done, and for how many seconds, so that nobody waits before a panel that seems asleep."""

import time

from widgets import wording

STARTING = {"kernel": "starting", "process": "starting a process", "elsewhere": "starting"}  # where a run is -> words


class Doing:
    """A description of work, with the seconds since it was first given."""

    def __init__(self) -> None:
        self._what, self._since = "", 0.0

    def words(self, what: str) -> str:
        """Return "starting a process … 3 s"; the seconds begin when the description changes."""
        now = time.monotonic()
        if what != self._what:
            self._what, self._since = what, now
        seconds = now - self._since
        return f"{what} … {wording.duration(seconds)}" if seconds >= 1 else f"{what} …"

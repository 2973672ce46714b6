"""Doing: says what is being done, and for how many seconds, so that nobody waits before a panel that seems asleep."""

import time

from widgets import wording

STARTING = {"kernel": "starting", "process": "starting a process", "elsewhere": "starting"}  # where a run is -> words
PAUSE = 2.0  # seconds without being asked after which the same words are about other work


class Doing:
    """A description of work, with the seconds since it was first given."""

    def __init__(self) -> None:
        self._what, self._since, self._told = "", 0.0, 0.0

    def words(self, what: str) -> str:
        """Return "starting a process … 3 s"; the seconds begin when the description changes."""
        now = time.monotonic()
        if what != self._what or now - self._told > PAUSE:
            self._what, self._since = what, now
        self._told = now
        seconds = now - self._since
        return f"{what} … {wording.duration(seconds)}" if seconds >= 1 else f"{what} …"

"""Follows a run that another process carries out: its events as they reach the log, and its end.

Whoever follows reads whole lines from the beginning, so nothing is missed and nothing comes twice. That the process
died is told by its lock, which the system frees, and never by how long nothing happened: a slow or stopped process
holds on to it. The first to see it free takes it and writes one RunFailed; all others read that.
"""

import time
from collections.abc import Callable, Iterator

from workbench.errors import RunError
from workbench.events import Event
from workbench.events.run_state import RunState
from workbench.runs.disk.run_folder import RunFolder
from workbench.session.workers import post_mortem
from workbench.session.workers.post_mortem import Watch

POLL_SECONDS = 0.05  # seconds between two looks at the log


class LogReader:
    """Reads the log of a run from its beginning, a piece at a time.

    Attributes:
        folder: Of the run.
        state: What the log says so far.
    """

    def __init__(self, folder: RunFolder) -> None:
        self.folder = folder
        self.state = RunState()
        self._read = 0  # bytes of the log

    def read(self) -> list[Event]:
        """Return what is new in the log. Raises RunError for a line that is no event."""
        events, self._read = self.folder.events_since(self._read)
        for event in events:
            self.state.note(event)
        return events


def follow(log: LogReader, exit_code: Callable[[], int | None] = lambda: None) -> Iterator[Event]:
    """Yield each event once it is in the log, until the run is over and its process has let go of it.

    Args:
        log: Where to continue reading.
        exit_code: Tells how the process ended, where that is this one's child.

    Raises:
        RunError: What broke the run off, once that was yielded; or a log that can't be read.
    """
    watch, is_idle = Watch(log.folder.path), False
    while True:
        is_gone = is_idle and not log.folder.is_executed  # asked before reading: it has written all it ever will
        events = log.read()
        yield from events
        is_idle = not events
        if is_gone and is_idle:
            if log.state.is_over:
                break
            if log.folder.was_started:
                yield from _settled(log, watch, exit_code)
                is_idle = False
        watch.look()
        time.sleep(POLL_SECONDS if is_idle else POLL_SECONDS / 5)
    exit_code()
    if (failure := log.state.failure) is not None:
        raise RunError(failure.what, hint=failure.hint)


def _settled(log: LogReader, watch: Watch, exit_code: Callable[[], int | None]) -> list[Event]:
    """Write into the log that the run's process died, unless somebody else just did; return what is new there."""
    folder = log.folder
    try:
        with folder.locked():
            events = log.read()
            if not log.state.is_over:
                folder.append(post_mortem.tell(folder.path, log.state.step, watch, exit_code))
                folder.close()
                events += log.read()
            return events
    except RunError as error:
        if not isinstance(error.__cause__, OSError):
            return []  # somebody else is at it, or took the run up again
    except OSError:
        pass
    failed = post_mortem.tell(
        folder.path, log.state.step, watch, exit_code
    )  # a folder that can only be read, a full disk
    log.state.note(failed)
    return [failed]

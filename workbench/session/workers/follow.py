"""Follows a run that another process executes: yields its events as they reach the log, until it ends.

A follower reads complete lines from the start of the log, so it misses no event and gets none twice. It recognizes a
dead process by the lock of the run, which the system releases, never by the time without events: a slow or stopped
process still holds the lock. The first follower to see the lock free takes it and logs one RunFailed; the others read
that.
"""

import time
from collections.abc import Callable, Iterator

from workbench.errors import RunError
from workbench.events import Event
from workbench.events.run_state import RunState
from workbench.runs.disk.run_folder import RunFolder
from workbench.session.workers import post_mortem
from workbench.session.workers.post_mortem import Watch

POLL_SECONDS = 0.05  # between two reads of a log without new events


class LogReader:
    """Reads the log of a run from its start, in pieces.

    Attributes:
        folder: The run folder.
        state: The state of the run after the events that were read.
    """

    def __init__(self, folder: RunFolder) -> None:
        self.folder = folder
        self.state = RunState()
        self._read = 0  # bytes of the log that were read

    def read(self) -> list[Event]:
        """Return the new events in the log. Raises RunError if a line is not an event."""
        events, self._read = self.folder.events_since(self._read)
        for event in events:
            self.state.note(event)
        return events


def follow(log: LogReader, exit_code: Callable[[], int | None] = lambda: None) -> Iterator[Event]:
    """Yield the events that reach the log, until the run has ended and its process has released the lock.

    Args:
        log: The log, which may have been read in part.
        exit_code: Returns the exit code of the process, if it is a child of this one.

    Raises:
        RunError: The run failed (after the event that says so), its log can't be read, or its folder was deleted.
    """
    watch, is_idle = Watch(log.folder.path), False
    while True:
        is_gone = is_idle and not log.folder.is_executed  # checked before reading: it writes nothing more
        events = log.read()
        yield from events
        is_idle = not events
        if is_gone and is_idle:
            if log.state.is_over:
                break
            if not log.folder.path.exists():
                raise RunError(f"the folder of {log.folder.name} was deleted")
            if log.folder.was_started:
                yield from _log_death(log, watch, exit_code)
                is_idle = False
        watch.look()
        time.sleep(POLL_SECONDS if is_idle else POLL_SECONDS / 5)
    exit_code()
    if (failure := log.state.failure) is not None:
        raise RunError(failure.what, hint=failure.hint)


def _log_death(log: LogReader, watch: Watch, exit_code: Callable[[], int | None]) -> list[Event]:
    """Log that the process of the run died, unless another follower just did; return the new events."""
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
            return []  # another follower holds the lock, or somebody has resumed the run
    except OSError:
        pass
    # the log can't be written: the folder is read-only, or the disk is full
    failed = post_mortem.tell(folder.path, log.state.step, watch, exit_code)
    log.state.note(failed)
    return [failed]

"""Follows a run that another process carries out: its events as they reach the log, and its end.

Whoever follows reads whole lines from the beginning, so nothing is missed and nothing comes twice. That the process
died is told by its lock, which the system frees, and never by how long nothing happened: a slow or stopped process
holds on to it. The first to see it free takes it and writes one RunFailed; all others read that.
"""

import time
from collections.abc import Callable, Iterator

from workbench.errors import RunError
from workbench.events import Event, RunEnded, RunFailed, StepEnded
from workbench.runs.disk.run_folder import LIVE, RunFolder, state_after
from workbench.session.workers import post_mortem
from workbench.session.workers.post_mortem import Watch

LOOK = 0.05  # seconds between two looks at the log


class Story:
    """What the log of a run has told so far.

    Attributes:
        folder: Of the run.
        state: preparing | running | paused | stopped | completed | failed
        step: Optimizer steps taken.
        failure: What broke it off, if that is how it ended.
    """

    def __init__(self, folder: RunFolder) -> None:
        self.folder = folder
        self.state, self.step = "preparing", 0
        self.failure: RunFailed | None = None
        self._read = 0  # bytes of the log

    @property
    def is_over(self) -> bool:
        """Whether the log says that nothing more will come."""
        return self.state not in LIVE

    def read(self) -> list[Event]:
        """Return what is new in the log. Raises RunError for a line that is no event."""
        events, self._read = self.folder.events_since(self._read)
        for event in events:
            self.note(event)
        return events

    def note(self, event: Event) -> None:
        """Take one event in."""
        self.state = state_after(event, self.state)
        self.step = event.step if isinstance(event, (StepEnded, RunEnded, RunFailed)) else self.step
        self.failure = event if isinstance(event, RunFailed) else self.failure

    def reopen(self) -> None:
        """Expect more, although it was over: somebody takes the run up again."""
        self.state, self.failure = "preparing", None


def follow(story: Story, exit_code: Callable[[], int | None] = lambda: None) -> Iterator[Event]:
    """Yield each event once it is in the log, until the run is over and its process has let go of it.

    Args:
        story: Where to go on from.
        exit_code: Tells how the process ended, where that is this one's child.

    Raises:
        RunError: What broke the run off, once that was yielded; or a log that can't be read.
    """
    watch, is_idle = Watch(story.folder.path), False
    while True:
        is_gone = is_idle and not story.folder.is_carried  # asked before reading: it has written all it ever will
        events = story.read()
        yield from events
        is_idle = not events
        if is_gone and is_idle:
            if story.is_over:
                break
            if story.folder.was_begun:
                yield from _settled(story, watch, exit_code)
                is_idle = False
        watch.look()
        time.sleep(LOOK if is_idle else LOOK / 5)
    exit_code()
    if story.state == "failed" and story.failure is not None:
        raise RunError(story.failure.what, hint=story.failure.hint)


def _settled(story: Story, watch: Watch, exit_code: Callable[[], int | None]) -> list[Event]:
    """Write into the log that the run's process died, unless somebody else just did; return what is new there."""
    folder = story.folder
    try:
        with folder.held():
            events = story.read()
            if not story.is_over:
                folder.append(post_mortem.tell(folder.path, story.step, watch, exit_code))
                folder.close()
                events += story.read()
            return events
    except RunError as error:
        if not isinstance(error.__cause__, OSError):
            return []  # somebody else is at it, or took the run up again
    except OSError:
        pass
    failed = post_mortem.tell(folder.path, story.step, watch, exit_code)  # a folder that can only be read, a full disk
    story.note(failed)
    return [failed]

"""The slot of a session: which of its runs is shown, that only one is under way, and the workers that run them.

A handle asks the slot for room and reports events to it. Neither knows the session, which reads the slot.
"""

import threading
from collections.abc import Sequence
from typing import Generic, TypeVar

from workbench.errors import RunError
from workbench.events import Event, RunChosen
from workbench.events.bus import Bus
from workbench.session.record import Record
from workbench.session.workers.employer import Employer

Run = TypeVar("Run", bound=Record)


class Slot(Generic[Run]):
    """Room for one run at a time.

    Attributes:
        runs: Every run that was shown; the last one is the current one.
        employer: Keeps a worker process ready.
        lock: Held while a run is chosen, so that nothing of another one is published from then on.
    """

    def __init__(self, bus: Bus) -> None:
        self.runs: list[Run] = []
        self.employer = Employer()
        self.lock = threading.RLock()
        self._bus = bus

    @property
    def current(self) -> Run | None:
        """The run that is shown."""
        return self.runs[-1] if self.runs else None

    def refuse_if_busy(self) -> None:
        """Check that no other run is under way. Raises RunError."""
        if self.current is not None and not self.current.is_over:
            raise RunError(
                f"{self.current.name} is still {self.current.state}",
                hint="stop it first, or start it in another Session",
            )

    def choose(self, run: Run, *, instead_of: Run | None = None) -> None:
        """Show this run from now on; all of its events are published again, so that panels show it completely."""
        with self.lock:
            if self.current is not run:
                self.runs = [other for other in self.runs if other not in (run, instead_of)] + [run]
                events: Sequence[Event] = (RunChosen(name=run.name), *run.events)
                for event in events:
                    self._bus.publish(event)

    def report(self, run: Run, event: Event) -> None:
        """Let a run note an event, and publish it if that run is shown."""
        with self.lock:
            run.note(event)
            if self.current is run:
                self._bus.publish(event)

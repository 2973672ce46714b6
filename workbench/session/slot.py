"""The slot of a session: its runs, which of them is shown, the check that only one is live, and its workers.

A handle asks the slot whether it may run, and reports events to it. Neither of them knows the session, which reads the
slot.
"""

import threading
from collections.abc import Sequence
from typing import Generic, TypeVar

from workbench.errors import RunError
from workbench.events import Event, RunChosen
from workbench.events.bus import Bus
from workbench.session.record import Record
from workbench.session.workers.employer import Employer

R = TypeVar("R", bound=Record)


class Slot(Generic[R]):
    """The place of a session for one live run at a time.

    Attributes:
        runs: All runs that were shown; the last one is the current one.
        employer: Keeps a worker process ready.
        lock: Is held while another run is chosen, so that afterwards no event of the previous one is published.
    """

    def __init__(self, bus: Bus) -> None:
        self.runs: list[R] = []
        self.employer = Employer()
        self.lock = threading.RLock()
        self._bus = bus

    @property
    def current(self) -> R | None:
        """The run that is shown."""
        return self.runs[-1] if self.runs else None

    def refuse_if_busy(self) -> None:
        """Check that no run is in progress. Raises RunError."""
        if self.current is not None and not self.current.is_over:
            raise RunError(
                f"{self.current.name} is still {self.current.state}",
                hint="stop it first, or start it in another Session",
            )

    def choose(self, run: R, *, instead_of: R | None = None) -> None:
        """Show this run from now on, and publish all its events again, so that the panels are complete."""
        with self.lock:
            if self.current is not run:
                self.runs = [other for other in self.runs if other not in (run, instead_of)] + [run]
                events: Sequence[Event] = (RunChosen(name=run.name), *run.events)
                for event in events:
                    self._bus.publish(event)

    def report(self, run: R, event: Event) -> None:
        """Add an event to a run, and publish it if that run is shown."""
        with self.lock:
            run.note(event)
            if self.current is run:
                self._bus.publish(event)

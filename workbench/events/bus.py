"""The Bus passes events to watchers. An error in a watcher is stored and logged; it does not stop the run."""

import logging
from collections import deque
from collections.abc import Callable

from workbench.events import Event

Watcher = Callable[[Event], None]


class Bus:
    """Passes each event to every watcher, in the order of their subscriptions.

    Attributes:
        errors: The last 20 errors of watchers, each with its event.
    """

    def __init__(self) -> None:
        self._watchers: dict[int, Watcher] = {}
        self._last_key = 0
        self.errors: deque[tuple[Event, Exception]] = deque(maxlen=20)

    def subscribe(self, watcher: Watcher) -> Callable[[], None]:
        """Call `watcher(event)` for every event from now on; return a function that ends the subscription.

        Raises:
            TypeError: `watcher` can't be called.
        """
        if not callable(watcher):
            raise TypeError(f"expected a function that takes an event; got {watcher!r}")
        key = self._last_key = self._last_key + 1
        self._watchers[key] = watcher
        return lambda: self._watchers.pop(key, None) and None

    def publish(self, event: Event) -> None:
        """Call every watcher with the event; an error in one goes to `errors`, and the others are still called."""
        for watcher in list(self._watchers.values()):
            try:
                watcher(event)
            except Exception as error:
                if not self.errors:  # only the first is logged: a watcher may fail at every step
                    logging.getLogger("workbench").exception("a watcher failed at %s", event.kind)
                self.errors.append((event, error))

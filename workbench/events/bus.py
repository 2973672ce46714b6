"""The Bus passes events on. Watchers can't change what they watch: an error in one is kept and logged, nothing more."""

import logging
from collections import deque
from collections.abc import Callable

from workbench.events import Event

Watcher = Callable[[Event], None]


class Bus:
    """Passes each event to every watcher, in the order they subscribed."""

    def __init__(self) -> None:
        self._watchers: dict[int, Watcher] = {}
        self._next = 0
        self.errors: deque[tuple[Event, Exception]] = deque(maxlen=20)  # what watchers raised last; the run went on

    def subscribe(self, watcher: Watcher) -> Callable[[], None]:
        """Call `watcher(event)` for every event from now on; return the function that ends it.

        Raises:
            TypeError: `watcher` can't be called.
        """
        if not callable(watcher):
            raise TypeError(f"a watcher is a function of one event; got {watcher!r}")
        key = self._next = self._next + 1
        self._watchers[key] = watcher
        return lambda: self._watchers.pop(key, None) and None

    def publish(self, event: Event) -> None:
        """Tell every watcher; one that fails is noted in `errors` and the others still hear."""
        for watcher in list(self._watchers.values()):
            try:
                watcher(event)
            except Exception as error:
                if not self.errors:  # the first tells it all, and there may be thousands
                    logging.getLogger("workbench").exception("a watcher failed at %s", event.kind)
                self.errors.append((event, error))

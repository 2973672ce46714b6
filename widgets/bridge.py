"""Carries what happens in a session's worker threads to its panels, four times a second; nothing else knows threads.

A session has one pump: it notes each event as it is published (an append, nothing more), and a daemon thread hands
the notes to the panels and lets each of them redraw once. So training pays the same few milliseconds a second at any
speed. The thread sleeps while nothing happens and ends when the last panel is closed.

Left out on purpose: what a panel shows (the panels), and what training does (`workbench`).
"""

import threading
import time
import weakref
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from workbench.events import Event, RunChosen

if TYPE_CHECKING:
    from workbench.session.session import Session

INTERVAL = 0.25  # seconds between two updates of the panels
TICK = 1.0  # seconds until a panel with a clock on it is looked at again though nothing happened


class View(Protocol):
    """What the pump asks of a panel."""

    session: "Session"
    kinds: frozenset[type[Event]]  # the events it wants to be shown

    def show(self, event: Event) -> None:
        """Take note of an event."""

    def refresh(self) -> None:
        """Redraw if anything changed."""

    def alarm(self, error: Exception) -> None:
        """Keep an error to be shown at the next redraw."""

    @property
    def is_seen(self) -> bool:
        """Whether anybody can be looking at it."""

    @property
    def is_ticking(self) -> bool:
        """Whether what it shows changes with the clock alone."""


class Pump:
    """Hands the events of one session to its panels."""

    def __init__(self) -> None:
        self._views: list[View] = []
        self._heard: deque[Event] = deque()
        self._shown: dict[int, dict[int, Event]] = {}  # what a view was shown when it came, and may hear of again
        self._wake = threading.Event()
        self._turning = threading.RLock()  # one turn at a time; callbacks of buttons never wait for it
        self._unsubscribe: Callable[[], None] | None = None  # None: no thread is running

    def join(self, view: View) -> None:
        """Show `view` what already happened in the latest run, and everything from now on."""
        with self._turning:
            if self._unsubscribe is None:
                self._unsubscribe = view.session.subscribe(self._hear)
                threading.Thread(target=self._run, name="panels", daemon=True).start()
            self.turn()
            past = list(view.session.run.events) if view.session.run else []
            self._shown[id(view)] = {id(event): event for event in past}
            _show(view, past)
            self._views.append(view)
            view.refresh()
        self.wake()

    def leave(self, view: View) -> None:
        """Show `view` nothing more."""
        with self._turning:
            self._views = [other for other in self._views if other is not view]
            self._shown.pop(id(view), None)
        self.wake()

    def wake(self) -> None:
        """Have the panels looked at as soon as may be."""
        self._wake.set()

    def turn(self) -> None:
        """Hand out what was heard and let each panel that can be seen redraw."""
        with self._turning:
            events = [self._heard.popleft() for _ in range(len(self._heard))]
            for view in self._views:
                _show(view, self._new(view, events))
                if view.is_seen:
                    view.refresh()

    def _new(self, view: View, events: list[Event]) -> list[Event]:
        """Leave out what `view` was shown when it came; but where another run is chosen, all of its events follow."""
        shown = self._shown.get(id(view), {})
        chosen = next((place for place, event in enumerate(events) if isinstance(event, RunChosen)), len(events))
        new = [event for event in events[:chosen] if id(event) not in shown]
        if chosen < len(events):
            self._shown.pop(id(view), None)
        return [*new, *events[chosen:]]

    def _hear(self, event: Event) -> None:
        self._heard.append(event)
        if not self._wake.is_set():  # cheaper than setting it at each of thousands of steps a second
            self._wake.set()

    def _run(self) -> None:
        while not self._is_over():
            self._wake.wait(TICK if any(view.is_ticking for view in self._views) else None)
            self._wake.clear()
            self.turn()
            time.sleep(INTERVAL)

    def _is_over(self) -> bool:
        with self._turning:
            if self._views or self._unsubscribe is None:
                return False
            self._unsubscribe()
            self._unsubscribe = None
            self._heard.clear()
            return True


_PUMPS: "weakref.WeakKeyDictionary[Session, Pump]" = weakref.WeakKeyDictionary()


def join(view: View) -> None:
    """Keep `view` up to date with its session until it leaves."""
    _PUMPS.setdefault(view.session, Pump()).join(view)


def leave(view: View) -> None:
    """Let go of `view`; its session's thread ends with the last one."""
    if view.session in _PUMPS:
        _PUMPS[view.session].leave(view)


def wake(view: View) -> None:
    """Have `view` redraw soon."""
    if view.session in _PUMPS:
        _PUMPS[view.session].wake()


def guarded(view: View, action: Callable[..., None]) -> Callable[..., None]:
    """Return `action` as a callback that never raises: its error shows in `view`, which then redraws.

    Jupyter may call it on the main thread or on a subshell's, and would lose the error in either.
    """

    def call(*args: Any, **kwargs: Any) -> None:
        try:
            action(*args, **kwargs)
        except Exception as error:
            view.alarm(error)
        wake(view)

    return call


def background(
    view: View, work: Callable[[], Any], *, then: Callable[[Any], None], failed: Callable[[Exception], None]
) -> None:
    """Do `work` on a thread of its own and hand what it returns to `then`, or its error to `failed`; then redraw.

    Both are called on that thread; an error of theirs shows in `view`.
    """

    def carry_out() -> None:
        try:
            result = work()
        except Exception as error:
            failed(error)
        else:
            then(result)

    threading.Thread(target=guarded(view, carry_out), name="panels-work", daemon=True).start()


def _show(view: View, events: list[Event]) -> None:
    try:
        for event in events:
            if type(event) in view.kinds:
                view.show(event)
    except Exception as error:  # one panel's mistake must not stop the others
        view.alarm(error)

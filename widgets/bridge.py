"""Passes the events of a session from its worker threads to its panels, four times a second.

A session has one pump. It appends each published event to a queue, and a daemon thread passes the queued events to the
panels and lets each of them redraw once. So the cost for training is a few milliseconds per second at any speed. The
thread sleeps while there are no events, and ends when the last panel is closed. No other module of the panels uses
threads.

Left out: what a panel shows (the panels), and training (`workbench`).
"""

import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Protocol

from workbench.events import Event, PlanChanged, PreparationEnded, RunChosen
from workbench.plan.fields import touched_by
from workbench.plan.plan import FIELDS

if TYPE_CHECKING:
    from workbench.session.session import Session

INTERVAL = 0.25  # seconds between two updates of the panels
TICK = 1.0 - INTERVAL  # further seconds until a panel that shows a running time is updated without events


class View(Protocol):
    """The interface of a panel to the pump."""

    session: "Session"
    kinds: frozenset[type[Event]]  # the kinds of event that it handles

    def show(self, event: Event) -> None:
        """Handle an event."""

    def refresh(self) -> None:
        """Redraw if the view may have changed."""

    def alarm(self, error: Exception) -> None:
        """Show an error at the next redraw."""

    @property
    def is_seen(self) -> bool:
        """Whether a page may display the panel."""

    @property
    def is_ticking(self) -> bool:
        """Whether the view changes with the clock alone."""


class Pump:
    """Passes the events of one session to its panels."""

    def __init__(self) -> None:
        self._views: list[View] = []
        self._queue: deque[Event] = deque()
        self._is_prepared = False  # whether the session was asked to load what its plan names
        self._loaded: dict[str, Event] = {}  # part -> how loading it ended, since the plan changed
        self._shown: dict[int, dict[int, Event]] = {}  # id of a view -> past events that it got when it joined
        self._wake = threading.Event()
        self._lock = threading.RLock()  # one update at a time; callbacks of buttons never wait for it
        self._unsubscribe: Callable[[], None] | None = None  # None: no thread is running

    def join(self, view: View) -> None:
        """Show `view` what was loaded and the past events of the latest run, and all events from now on."""
        with self._lock:
            if self._unsubscribe is None:
                self._unsubscribe = view.session.subscribe(self._receive)
                threading.Thread(target=self._run, name="panels", daemon=True).start()
            self.update()
            past = [*self._loaded.values(), *(view.session.run.events if view.session.run else [])]
            self._shown[id(view)] = {id(event): event for event in past}
            _show(view, past)
            self._views.append(view)
            view.refresh()
        self.wake()

    def leave(self, view: View) -> None:
        """Stop showing events to `view`."""
        with self._lock:
            self._views = [other for other in self._views if other is not view]
            self._shown.pop(id(view), None)
        self.wake()

    def wake(self) -> None:
        """Update the panels as soon as possible."""
        self._wake.set()

    def update(self) -> None:
        """Pass the queued events to the panels, and let each panel that is displayed redraw."""
        with self._lock:
            events = [self._queue.popleft() for _ in range(len(self._queue))]
            self._remember(events)
            for view in self._views:
                _show(view, self._new(view, events))
                if view.is_seen:
                    view.refresh()

    def prepare(self, session: "Session") -> None:
        """Let the session load its data and backbone, once while panels are shown."""
        if not self._is_prepared:
            self._is_prepared = True
            session.prepare()

    def _remember(self, events: list[Event]) -> None:
        """Keep what was loaded for panels that join later; it is announced only once."""
        for event in events:
            if isinstance(event, PreparationEnded):
                self._loaded[event.part] = event
            elif isinstance(event, PlanChanged) and is_loading_anew(event.fields):
                self._loaded.clear()

    def _new(self, view: View, events: list[Event]) -> list[Event]:
        """Return the events that `view` did not get when it joined; all events of a newly chosen run are new."""
        shown = self._shown.get(id(view), {})
        chosen = next((index for index, event in enumerate(events) if isinstance(event, RunChosen)), len(events))
        new = [event for event in events[:chosen] if id(event) not in shown]
        if chosen < len(events):
            self._shown.pop(id(view), None)
        return [*new, *events[chosen:]]

    def _receive(self, event: Event) -> None:
        self._queue.append(event)
        if not self._wake.is_set():  # cheaper than `set` at thousands of steps per second
            self._wake.set()

    def _run(self) -> None:
        while not self._is_over():
            self._wake.wait(TICK if any(view.is_ticking for view in self._views) else None)
            self._wake.clear()
            self.update()
            time.sleep(INTERVAL)

    def _is_over(self) -> bool:
        with self._lock:
            if self._views or self._unsubscribe is None:
                return False
            self._unsubscribe()
            self._unsubscribe = None
            self._queue.clear()
            self._loaded.clear()  # later changes will not be noticed
            self._is_prepared = False
            return True


_PUMPS: "weakref.WeakKeyDictionary[Session, Pump]" = weakref.WeakKeyDictionary()


def join(view: View) -> None:
    """Update `view` with the events of its session until `leave`."""
    _PUMPS.setdefault(view.session, Pump()).join(view)


def prepare(session: "Session") -> None:
    """Let the session load its data and backbone, unless a panel has requested that before."""
    _PUMPS.setdefault(session, Pump()).prepare(session)


def leave(view: View) -> None:
    """Stop updating `view`; the thread of its session ends with its last view."""
    if view.session in _PUMPS:
        _PUMPS[view.session].leave(view)


def wake(view: View) -> None:
    """Let `view` redraw soon."""
    if view.session in _PUMPS:
        _PUMPS[view.session].wake()


def guarded(view: View, action: Callable[..., None]) -> Callable[..., None]:
    """Return `action` as a callback that never raises: `view` shows its error and redraws.

    Jupyter may call it on the main thread or in a subshell, and would lose the error in both cases.
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
    """Run `work` in its own thread, pass its result to `then` or its error to `failed`, and redraw.

    Both are called in that thread; `view` shows an error of theirs.
    """

    def execute() -> None:
        try:
            result = work()
        except Exception as error:
            failed(error)
        else:
            then(result)

    threading.Thread(target=guarded(view, execute), name="panels-work", daemon=True).start()


def is_loading_anew(fields: Iterable[str]) -> bool:
    """Whether a change of these fields of the plan lets the session load data, backbone or examples again."""
    return any({"rows", "model", "examples"} & {*touched_by(FIELDS[name])} for name in fields)


def _show(view: View, events: list[Event]) -> None:
    try:
        for event in events:
            if type(event) in view.kinds:
                view.show(event)
    except Exception as error:  # an error in one panel must not stop the others
        view.alarm(error)

"""Panel: what all panels share. A panel is a picture of its session, drawn by one anywidget.

Python describes what is to be seen as one synced trait, `state`; the page draws it and sends back which of the panel's
few actions was asked for. So a reload of the page finds everything in the kernel, and a panel holds no choice of its
own: those live in `session.plan`. The page builds text nodes only (panel.js), so that nothing found in data is ever
taken for HTML.

Left out on purpose: threads (bridge.py) and the appearance (panel.css).
"""

import traceback
import weakref
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anywidget
import traitlets

from widgets import bridge
from workbench.errors import WorkbenchError
from workbench.events import Event, PlanChanged

if TYPE_CHECKING:
    from workbench.session.session import Session

STATIC = Path(__file__).parent / "static"
_PREPARED: "weakref.WeakSet[Session]" = weakref.WeakSet()


def page(*scripts: str) -> str:
    """Return the JavaScript module of a panel: what all share, then its own; the last script has the export."""
    return "\n".join((STATIC / name).read_text(encoding="utf-8") for name in ("panel.js", *scripts))


def style(*sheets: str) -> str:
    """Return the style sheet of a panel: what all share, then its own."""
    return "\n".join((STATIC / name).read_text(encoding="utf-8") for name in ("panel.css", *sheets))


def prepare(session: "Session") -> None:
    """Have the session load its data and backbone, unless a panel asked for that before."""
    if session not in _PREPARED:
        _PREPARED.add(session)
        session.prepare()


def problem(what: str, *, hint: str = "", details: str = "") -> dict[str, str]:
    """Return an error as the page shows it: what happened, what to try, and the folded traceback."""
    return {"what": what, "hint": hint, "details": details}


class Panel(anywidget.AnyWidget):  # type: ignore[misc]
    """Base of the panels; displayable alone, and live from its construction until `close`.

    Attributes:
        session: What it shows and changes.
        kinds: The kinds of event it takes note of.
        state: What is to be seen, as JSON-ready data (and bytes, for curves).
    """

    _css = style()
    kinds: frozenset[type[Event]] = frozenset({PlanChanged})
    state = traitlets.Dict().tag(sync=True)

    def __init__(self, session: "Session") -> None:
        super().__init__()
        self.session = session
        self._problem: dict[str, str] | None = None
        self._picture: dict[str, Any] = {}
        self._viewers: set[str] | None = None  # pages it is open in; None: it was never opened
        self._heard: deque[str] = deque(maxlen=64)  # numbers of the page's latest messages
        self._is_stale = True
        self._actions: dict[str, Callable[..., None]] = {
            "seen": self._note_viewer,
            "gone": self._note_leave,
            "dismiss": self.calm,
            **self.actions(),
        }
        self.on_msg(bridge.guarded(self, self._receive))
        bridge.join(self)

    def actions(self) -> Mapping[str, Callable[..., None]]:
        """Return what the page may ask for: name -> method."""
        return {}

    def picture(self) -> dict[str, Any]:
        """Return what is to be seen now."""
        raise NotImplementedError

    def note(self, event: Event) -> None:
        """Take an event in, if the panel remembers anything of it."""

    def show(self, event: Event) -> None:
        """Take note of an event, live or from a stored log; it is seen at the next `refresh`."""
        self.note(event)
        self._is_stale = True

    def refresh(self) -> None:
        """Send what changed to the page, if anything did."""
        if not (self._is_stale or self.is_ticking):
            return
        self._is_stale = False  # first, so that what happens meanwhile is not lost
        try:
            self._picture = self.picture()
        except Exception as error:
            self.alarm(error)
        self.state = {**self._picture, "problem": self._problem}

    def alarm(self, error: Exception) -> None:
        """Show an error: what happened, what to try, and where it came from."""
        what = error.what if isinstance(error, WorkbenchError) else f"{type(error).__name__}: {error}"
        hint = error.hint if isinstance(error, WorkbenchError) else "the details below tell a developer where"
        self._problem = problem(what, hint=hint, details="".join(traceback.format_exception(error)))
        self._is_stale = True

    def calm(self) -> None:
        """Take the error away."""
        self._problem = None
        self._is_stale = True

    def background(
        self,
        work: Callable[[], Any],
        *,
        then: Callable[[Any], None] | None = None,
        failed: Callable[[Exception], None] | None = None,
    ) -> None:
        """Do `work`, which takes a while, aside; hand its result to `then` or its error to `failed`, and redraw.

        Without a `failed`, the error shows in the panel.
        """

        def done(answer: Callable[[Any], None] | None) -> Callable[[Any], None]:
            def call(outcome: Any) -> None:
                if answer is not None:
                    answer(outcome)
                self._is_stale = True

            return call

        bridge.background(self, work, then=done(then), failed=done(failed or self.alarm))

    @property
    def is_seen(self) -> bool:
        """Whether a page can be showing it: until every page that did has closed it."""
        return self._viewers is None or bool(self._viewers)

    @property
    def is_ticking(self) -> bool:
        """Whether what it shows changes with the clock alone."""
        return False

    def close(self) -> None:
        """Take the panel away for good."""
        bridge.leave(self)
        super().close()

    def _receive(self, _widget: Any, message: Mapping[str, Any], _buffers: Any) -> None:
        arguments = dict(message)
        name, number = arguments.pop("do", None), arguments.pop("id", None)
        if number is not None:
            self.send({"heard": number})
            if number in self._heard:  # the page sends a message again until it knows that it was heard
                return
            self._heard.append(number)
        if name in self._actions:
            self._actions[name](**arguments)
            self._is_stale = True

    def _note_viewer(self, viewer: str) -> None:
        self._viewers = (self._viewers or set()) | {viewer}

    def _note_leave(self, viewer: str) -> None:
        self._viewers = (self._viewers or set()) - {viewer}

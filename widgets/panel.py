"""Panel: the base class of all panels. A panel is a view of its session, drawn by one anywidget.

Python describes the view as one synced trait, `state`. The page draws it and sends back which action of the panel the
user requested. So nothing is lost when the page is reloaded, and a panel stores no choices: they are in
`session.plan`. The page creates text nodes only (panel.js), so that text from data is never interpreted as HTML.

Left out: threads (bridge.py) and styles (panel.css).
"""

import json
import re
import traceback
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anywidget
import traitlets

from widgets import bridge
from workbench.errors import WorkbenchError
from workbench.events import Event, PlanChanged
from workbench.glossary import GLOSSARY

if TYPE_CHECKING:
    from workbench.session.session import Session

STATIC = Path(__file__).parent / "static"
TERM = re.compile(r'\b(?:term|meaning)\("([^"]+)"')  # a word that a page explains


def page(*scripts: str) -> str:
    """Return the JavaScript module of a panel: panel.js and the given scripts; the last one has the export.

    Before them stand the words of the glossary that they explain with `term("word")`.
    """
    code = "\n".join((STATIC / name).read_text(encoding="utf-8") for name in ("panel.js", *scripts))
    meanings = {word: GLOSSARY[word] for word in TERM.findall(code)}
    return f"const GLOSSARY = {json.dumps(meanings)};\n{code}"


def style(*sheets: str) -> str:
    """Return the style sheet of a panel: panel.css and the given sheets."""
    return "\n".join((STATIC / name).read_text(encoding="utf-8") for name in ("panel.css", *sheets))


def prepare(session: "Session") -> None:
    """Let the session load its data and backbone, unless a panel has requested that before."""
    bridge.prepare(session)


def problem(what: str, *, hint: str = "", details: str = "") -> dict[str, str]:
    """Return an error for the page: what happened, what to try, and the traceback."""
    return {"what": what, "hint": hint, "details": details}


class Panel(anywidget.AnyWidget):  # type: ignore[misc]
    """Base class of the panels. A panel can be displayed alone and is updated until `close`.

    Args:
        session: What `Workbench` takes: a session or a run of it; or a plan, a table or the name of a source, for a new
            session.
        objects: Arguments of a new `workbench.Session`.

    Attributes:
        session: The session that it shows and changes.
        kinds: The kinds of event that it handles.
        state: The view as JSON-ready data (and bytes, for curves).
        attention: Why somebody should look at the panel, if it is behind a tab; "" if there is no reason.
        is_hidden: Whether it is behind a tab that is not chosen.
    """

    _css = style()
    kinds: frozenset[type[Event]] = frozenset({PlanChanged})
    state = traitlets.Dict().tag(sync=True)
    attention = traitlets.Unicode()
    is_hidden = False

    def __init__(self, session: Any = None, **objects: Any) -> None:
        from workbench.session.session import session_of

        self.session: Session = session_of(session, **objects)
        super().__init__()
        self._problem: dict[str, str] | None = None
        self._picture: dict[str, Any] = {}
        self._viewers: set[str] | None = None  # pages that display the panel; None: it was never displayed
        self._received: deque[str] = deque(maxlen=64)  # ids of the latest messages from the page
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
        """Return the actions that the page may request: name -> method."""
        return {}

    def picture(self) -> dict[str, Any]:
        """Return the current view."""
        raise NotImplementedError

    def note(self, event: Event) -> None:
        """Update the panel's own data from an event."""

    def show(self, event: Event) -> None:
        """Handle an event, live or from a stored log; the view changes at the next `refresh`."""
        self.note(event)
        self._is_stale = True

    def refresh(self) -> None:
        """Send the view to the page if it may have changed."""
        if not (self._is_stale or self.is_ticking):
            return
        self._is_stale = False  # before drawing, so that an event meanwhile is not lost
        try:
            self._picture = self.picture()
        except Exception as error:
            self.alarm(error)
        self.state = {**self._picture, "problem": self._problem}

    def alarm(self, error: Exception) -> None:
        """Show an error: what happened, what to try, and the traceback."""
        what = error.what if isinstance(error, WorkbenchError) else f"{type(error).__name__}: {error}"
        hint = error.hint if isinstance(error, WorkbenchError) else "the details below show where it happened"
        self._problem = problem(what, hint=hint, details="".join(traceback.format_exception(error)))
        self._is_stale = True

    def calm(self) -> None:
        """Clear the error."""
        self._problem = None
        self._is_stale = True

    def background(
        self,
        work: Callable[[], Any],
        *,
        then: Callable[[Any], None] | None = None,
        failed: Callable[[Exception], None] | None = None,
    ) -> None:
        """Run `work` in a background thread, pass its result to `then` or its error to `failed`, and redraw.

        Without `failed`, the panel shows the error.
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
        """Whether a page may display it: it is not hidden, and not all pages that displayed it have closed it."""
        return not self.is_hidden and (self._viewers is None or bool(self._viewers))

    @property
    def is_ticking(self) -> bool:
        """Whether the view changes with the clock alone."""
        return False

    def close(self) -> None:
        """Close the panel for good."""
        if hasattr(self, "session"):  # `close` is called even if the constructor fails
            bridge.leave(self)
        super().close()

    def _receive(self, _widget: Any, message: Mapping[str, Any], _buffers: Any) -> None:
        arguments = dict(message)
        name, number = arguments.pop("do", None), arguments.pop("id", None)
        try:
            if number is None or number not in self._received:  # the page repeats a message until it is acknowledged
                self._received.append(number or "")
                if name in self._actions:
                    self._actions[name](**arguments)
                self._is_stale = True
        finally:
            if number is not None:
                self.send({"heard": number})

    def _note_viewer(self, viewer: str) -> None:
        self._viewers = (self._viewers or set()) | {viewer}

    def _note_leave(self, viewer: str) -> None:
        self._viewers = (self._viewers or set()) - {viewer}

"""NextRunPanel: what Start will run, where, and if it can't be pressed, why not."""

from collections.abc import Callable, Mapping
from typing import Any

from widgets import bridge, wording
from widgets.doing import STARTING, Doing
from widgets.panel import Panel, page, prepare, style
from workbench.events import (
    Event,
    PlanChanged,
    PreparationEnded,
    RunChosen,
    RunEnded,
    RunFailed,
    RunResumed,
    RunStarted,
    StageStarted,
)

PLACES = {"kernel": "this notebook", "process": "its own process"}
ROOM, ELSEWHERE = 60, "see the error below"  # characters of a reason that is not cut, and what stands for a longer one
PLACE_TIP = (
    "This notebook: starts fastest, and ends when the kernel is restarted. Its own process: "
    "continues when the kernel is restarted or the notebook is closed. Takes effect at the next run."
)


class NextRunPanel(Panel):
    """The plan of the next run in one line, where it will run, and Start."""

    _esm = page("fields.js", "next_run.js")
    _css = style("next_run.css")
    kinds = frozenset(
        {PlanChanged, PreparationEnded, RunChosen, StageStarted, RunStarted, RunResumed, RunEnded, RunFailed}
    )

    def __init__(self, session: Any = None, **objects: Any) -> None:
        self._loaded: dict[str, PreparationEnded] = {}  # part -> how loading it for this plan ended
        self._doing = Doing()
        self._is_asked = False  # Start was pressed, and there is no run yet
        super().__init__(session, **objects)
        prepare(self.session)

    def actions(self) -> Mapping[str, Callable[..., None]]:
        """Return the actions of the button and the field."""
        return {"start": self._start, "place": self._choose_place}

    def note(self, event: Event) -> None:
        """Update what is loaded."""
        match event:
            case PlanChanged(fields=fields) if bridge.is_loading_anew(fields):
                self._loaded.clear()
                self._problem = None
            case PreparationEnded(part=part):
                self._loaded[part] = event

    @property
    def is_ticking(self) -> bool:
        """Whether the words show a running time."""
        return self._is_asked or self._is_starting

    def picture(self) -> dict[str, Any]:
        """Return the plan in one line, the place, whether Start can be pressed, or why not, and whether a run obeys."""
        failure, waiting = self._failure(), self._waits_for()
        return {
            "title": wording.title(self.session.plan),
            "words": failure or waiting or "ready to start",
            "is_wrong": failure != "",
            "can_start": not failure and not waiting,
            "is_live": self._is_live,
            "place": {
                "value": self.session.where,
                "options": [{"value": place, "title": words} for place, words in PLACES.items()],
                "tip": PLACE_TIP,
            },
        }

    @property
    def _is_starting(self) -> bool:
        """Whether a run was started that has not sent its first event."""
        run = self.session.run
        return run is not None and not run.is_over and not run.events

    @property
    def _is_live(self) -> bool:
        """Whether a run is under way, which the fields with the mark change too."""
        run = self.session.run
        return run is not None and not run.is_over and bool(run.events)

    def _failure(self) -> str:
        """Return why the plan can't be run; "" if no reason is known."""
        failed = next((event for event in self._loaded.values() if event.what), None)
        return "" if failed is None else f"Start is off: {failed.what if len(failed.what) <= ROOM else ELSEWHERE}"

    def _waits_for(self) -> str:
        """Return what has to end before Start can be pressed; "" if nothing."""
        run = self.session.run
        if self._is_asked or self._is_starting:
            place = run.where if run is not None and self._is_starting else self.session.where
            return self._doing.words(STARTING[place])
        if run is not None and not run.is_over:
            return "a run is in progress: stop it first"
        if self.session.split is None:
            return self._doing.words("loading the data")
        if self.session.backbone is None:
            return self._doing.words("loading the backbone")
        return "" if "examples" in self._loaded else self._doing.words("preparing the rows")

    def _start(self) -> None:
        if self._is_asked or self._waits_for() or self._failure():  # the page may be behind
            return
        self.calm()
        self._is_asked = True
        self.background(self.session.start, then=self._started, failed=self._give_up)

    def _started(self, _run: Any) -> None:
        self._is_asked = False

    def _give_up(self, error: Exception) -> None:
        self._is_asked = False
        self.alarm(error)

    def _choose_place(self, value: str) -> None:
        self.session.where = value

"""CurvesPanel: live curves of training and validation loss, and of perplexity or accuracy and F1 below them.

Log scale and smoothing change only the drawing; the raw line stays visible. A click on the loss opens a box for that
step: its measurements, sample outputs of the model at that step, and a fork from it. A fork is drawn over its parent.
"""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import traitlets

from widgets import wording
from widgets.curves import KINDS, Curves, curves_of
from widgets.panel import Panel, page, style
from widgets.point import SAMPLES, Point, point_at
from widgets.run_names import called, why_not_compared
from workbench.errors import RunError
from workbench.events import Event, RunChosen, RunForked, RunsOverlaid, StageStarted
from workbench.runs.disk import run_list
from workbench.runs.disk.run_list import Summary

if TYPE_CHECKING:
    from workbench.session.handle import Run


class CurvesPanel(Panel):
    """The curves of the session's run.

    Attributes:
        log_scale: Whether the loss is drawn on a logarithmic scale.
        smoothing: Weight of the previous value in the exponential mean, 0 (off) to 0.99.
    """

    _esm = page("fields.js", "chart.js", "point.js", "lines.js", "curves.js")
    _css = style("curves.css")
    kinds = KINDS | {RunsOverlaid}
    log_scale = traitlets.Bool(default_value=False).tag(sync=True)
    smoothing = traitlets.Float(default_value=0.0, min=0.0, max=0.99).tag(sync=True)

    def __init__(self, session: Any = None, **objects: Any) -> None:
        self._curves = Curves()
        self._parent: Curves | None = None
        self._before: Mapping[str, Any] = {}  # values of the parent's plan in the fields in which the fork differs
        self._parent_note = ""  # why the parent can't be shown
        self._point: Point | None = None
        self._parent_name = ""  # what the parent is called
        self._overlaid: dict[str, tuple[Summary, Curves]] = {}  # the runs that are drawn over the shown one
        super().__init__(session, **objects)
        self._read_overlaid()

    def actions(self) -> Mapping[str, Callable[..., None]]:
        """Return the actions for a point of the curve."""
        return {
            "point": self._choose,
            "leave": self._leave,
            "settle": self._settle,
            "samples": self._sample,
            "fork": self._fork,
        }

    def note(self, event: Event) -> None:
        """Add an event to the curves. A new run starts with empty curves, a fork with those of its parent."""
        if isinstance(event, RunsOverlaid):
            self._read_overlaid()
            return
        self._curves.note(event)
        if isinstance(event, RunChosen):
            self._leave()
            self.attention = "another run is shown" if self.is_hidden else ""
        if self._curves.forked is None and isinstance(event, RunChosen | StageStarted):
            self._parent, self._before, self._parent_note = None, {}, ""
        if isinstance(event, RunForked):
            self._read_parent(event)

    def _read_parent(self, forked: RunForked) -> None:
        """Read the parent's log in the background."""
        self._parent, self._before, self._parent_note = None, {}, ""
        run, self._parent_name = self.session.run, forked.parent

        def found(parent: tuple[Curves, Mapping[str, Any], str]) -> None:
            if self._curves.forked is forked:  # still the same run
                self._parent, self._before, self._parent_name = parent

        def failed(error: Exception) -> None:
            if self._curves.forked is forked:
                self._parent_note = f"the parent can't be shown: {error}"

        def read() -> tuple[Curves, Mapping[str, Any], str]:
            differences = run.differences if run is not None else {}
            curves, name = curves_of(forked.parent, self.session), called(self._summary(forked.parent))
            return curves, {field: pair[0] for field, pair in differences.items()}, name

        self.background(read, then=found, failed=failed)

    def _read_overlaid(self) -> None:
        """Read the logs of the runs that are now to be drawn over the shown one in the background."""
        names = self.session.overlaid

        def read_one(name: str) -> tuple[Summary, Curves]:
            curves = curves_of(name, self.session)
            return self._summary(name), curves

        def read() -> dict[str, tuple[Summary, Curves]]:
            return {name: self._overlaid.get(name) or read_one(name) for name in names}

        def found(overlaid: dict[str, tuple[Summary, Curves]]) -> None:
            if self.session.overlaid == names:  # still the same choice
                self._overlaid = overlaid

        if names or self._overlaid:
            self.background(read, then=found)

    def _summary(self, name: str) -> Summary:
        return run_list.summary_of(self.session.folder / name)

    @property
    def is_ticking(self) -> bool:
        """Whether the box of a point shows a running time."""
        return self._point is not None and self._point.doing != ""

    def picture(self) -> dict[str, Any]:
        """Return the curves, those of the parent and of other runs, and the selected point."""
        run = self.session.run
        choice = (run or self.session).plan.monitoring
        name = run.name if run is not None else ""
        return {
            "name": name,
            "empty": self._why_empty(),
            **self._others(),
            **self._curves.picture(choice.stop_metric or "loss", choice.stop_patience),
            "parent": self._parent.lines() if self._parent else None,
            "fork": self._difference(),
            "point": self._point.picture(self._curves) if self._point else None,
        }

    def _others(self) -> dict[str, Any]:
        """Return the curves of the other runs, and why some of them are left out."""
        run = self.session.run
        drawn: list[dict[str, Any]] = []
        left_out = []
        for name, (other, curves) in self._overlaid.items():
            if run is not None and name == run.name:
                continue
            if run is not None and other.plan and (why := why_not_compared(other.plan, run.plan)):
                left_out.append(f"{called(other)} can't be compared with this run: {why}")
            else:
                drawn.append({"name": name, "title": called(other), **curves.lines()})
        return {"overlaid": drawn, "left_out": left_out}

    def _why_empty(self) -> str:
        """Return what to say in place of curves, as long as there are none."""
        run = self.session.run
        if run is None:
            return "The loss of each step is drawn here. It should fall."
        return "The run took no step." if run.is_over else "The curves begin with the first evaluation."

    def _difference(self) -> dict[str, str] | None:
        """Return the parent of a fork and the changes of its plan."""
        forked = self._curves.forked
        if forked is None:
            return None
        own = next((mark for mark in self._curves.adjusted if mark.scheduled and mark.step == forked.step), None)
        changes = wording.change(own.before if own else self._before, forked.changes) or "nothing changed"
        differs = f"{changes} from step {forked.step:,}"
        return {"parent": self._parent_name, "differs": differs, "note": self._parent_note}

    def _choose(self, step: int) -> None:
        if self._point is None or self._point.step != int(step):
            self._point = point_at(int(step), self._curves, self.session)

    def _leave(self) -> None:
        self._point = None

    def _settle(self) -> None:
        if self._point is not None:
            self._point.problem = None

    def _sample(self) -> None:
        point = self._point
        if point is None or point.doing:
            return
        run = self._run()
        point.begin("loading …")

        def look_back() -> tuple[Any, str]:
            moment = run.at(point.step, progress=point.show_progress)
            return moment.samples(SAMPLES), moment.differs

        self.background(look_back, then=lambda found: point.show_samples(*found), failed=point.fail)

    def _fork(self, learning_rate: Any, layers: str) -> None:
        point = self._point
        if point is None or point.doing:
            return
        try:
            run, changes = self._run(), point.changes(learning_rate, layers)
        except Exception as error:
            point.fail(error)
            return
        point.begin("starting the fork …")
        self.background(lambda: run.fork(point.step, **changes), failed=point.fail)

    def _run(self) -> "Run":
        if self.session.run is None:
            raise RunError("there is no run", hint="start one")
        return self.session.run

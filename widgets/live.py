"""Applies changes to the plan and to the current run, and reports when each one takes effect.

A panel shows the plan of the next run. For each field, `Effects` reports how the current run differs from it: it will
adopt the value ("from the next step"), it adopted the value ("since step 121"), or it can't ("at the next run").
"""

from typing import TYPE_CHECKING, Any

from widgets import wording
from workbench.events import (
    ChangeRefused,
    Event,
    PlanAdjusted,
    RunChosen,
    RunEnded,
    RunFailed,
    RunResumed,
    RunStarted,
    StageStarted,
)
from workbench.events.run_state import RunState
from workbench.plan.plan import FIELDS, LIVE_FIELDS

if TYPE_CHECKING:
    from workbench.plan.plan import Plan
    from workbench.session.session import Session

KINDS: frozenset[type[Event]] = frozenset(
    {RunChosen, StageStarted, RunStarted, RunResumed, PlanAdjusted, ChangeRefused, RunEnded, RunFailed}
)
SOON, LATER, LATER_OR_FORK = "from the next step", "at the next run", "at the next run or fork"


class Effects:
    """When the changes of a panel take effect.

    Attributes:
        asked: Fields that the run was asked to change; it has not answered yet.
    """

    def __init__(self) -> None:
        self._clear()

    def _clear(self) -> None:
        self.asked: set[str] = set()
        self._run = RunState()
        self._since: dict[str, tuple[int, Any]] = {}  # field -> the first step with the value, and the value

    @property
    def is_live(self) -> bool:
        """Whether a run is in progress."""
        return self._run.began is not None and not self._run.is_over

    def note(self, event: Event) -> None:
        """Update from an event of the run."""
        match event:
            case RunChosen():
                self._clear()
            case RunEnded() | RunFailed() | ChangeRefused():
                self.asked = set()
            case PlanAdjusted(by="", step=step, after=after):
                self._since |= {name: (step + 1, _frozen(value)) for name, value in after.items()}
                self.asked -= set(after)
            case PlanAdjusted():
                self.inherit(event)
        if type(event) in KINDS - {RunChosen}:
            self._run.note(event)

    def inherit(self, event: PlanAdjusted) -> None:
        """Update from a change that a tactic made, in this run or in the one that it was forked from.

        A tactic carries out the plan, so the value that a person chose is the one before.
        """
        if event.by:
            self._since = {name: (0, _frozen(value)) for name, value in event.before.items()} | self._since

    def change(self, session: "Session", **changes: Any) -> None:
        """Change the plan, and the current run where that is possible.

        Raises:
            PlanError: A value is invalid; neither plan nor run is changed.
            WorkbenchError: The run refuses the change; the plan has it, for the next run.
        """
        plan, run = session.change(**changes), session.run
        if run is None or run.is_over:
            return
        if live := {name: value for name, value in changes.items() if is_applicable(name, run.plan, plan)}:
            run.change(**live)
            self.asked |= set(live)

    def of(self, name: str, session: "Session") -> str:
        """Return when the plan's value of this field takes effect in the current run, or since when it does."""
        if not self.is_live or session.run is None:
            return ""
        wanted = session.plan.flat()[name]
        step, value = self._since.get(name, (0, session.run.plan.flat()[name]))
        if value == wanted:
            return f"since step {step:,}" if step else ""
        if name in self.asked:
            return SOON
        if step:
            return f"{wording.value_of(name, value)} since step {step:,}"
        return LATER_OR_FORK if FIELDS[name].metadata["takes_effect"] == "in a fork" else LATER


def is_of_plan(session: "Session") -> bool:
    """Whether the run shown has the data and the backbone of the plan, so that what it found out holds for both."""
    run, plan = session.run, session.plan
    return run is not None and (run.plan.data, run.plan.baseline) == (plan.data, plan.baseline)


def is_applicable(name: str, running: "Plan", wanted: "Plan") -> bool:
    """Whether a run can adopt this field from another plan; block names apply only to the same network."""
    if name == "trainable":
        same = running.baseline.backbone == wanted.baseline.backbone
        return same and running.transfer.method == wanted.transfer.method
    return name in LIVE_FIELDS


def _frozen(value: Any) -> Any:
    """Return a value of a field as a plan has it; a log from disk has lists in place of tuples."""
    return tuple(value) if isinstance(value, list) else value

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
from workbench.plan.plan import LIVE_FIELDS

if TYPE_CHECKING:
    from workbench.plan.plan import Plan
    from workbench.session.session import Session

KINDS: frozenset[type[Event]] = frozenset(
    {RunChosen, StageStarted, RunStarted, RunResumed, PlanAdjusted, ChangeRefused, RunEnded, RunFailed}
)
SOON, LATER = "from the next step", "at the next run"


class Effects:
    """When the changes of a panel take effect.

    Attributes:
        is_live: Whether a run is in progress.
        asked: Fields that the run was asked to change; it has not answered yet.
    """

    def __init__(self) -> None:
        self.is_live = False
        self.asked: set[str] = set()
        self._since: dict[str, tuple[int, Any]] = {}  # field -> the first step with the value, and the value

    def note(self, event: Event) -> None:
        """Update from an event of the run."""
        match event:
            case RunChosen():
                self.is_live, self.asked, self._since = False, set(), {}
            case RunEnded() | RunFailed():
                self.is_live, self.asked = False, set()
            case StageStarted() | RunStarted() | RunResumed():
                self.is_live = True
            case PlanAdjusted(step=step, after=after):
                self._since.update({name: (step + 1, value) for name, value in after.items()})
                self.asked -= set(after)
            case ChangeRefused():
                self.asked = set()

    def change(self, session: "Session", **changes: Any) -> None:
        """Change the plan, and the current run where that is possible.

        Raises:
            PlanError: A value is invalid; neither plan nor run is changed.
            WorkbenchError: The run refuses the change; the plan has it, for the next run.
        """
        plan, run = session.change(**changes), session.run
        if run is None or run.is_over:
            return
        if live := {name: value for name, value in changes.items() if _is_applicable(name, run.plan, plan)}:
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
        return f"{wording.value_of(name, value)} since step {step:,}" if step else LATER


def _is_applicable(name: str, running: "Plan", wanted: "Plan") -> bool:
    """Whether a run can adopt this field from another plan; block names apply only to the same network."""
    if name == "trainable":
        same = running.baseline.backbone == wanted.baseline.backbone
        return same and running.transfer.method == wanted.transfer.method
    return name in LIVE_FIELDS

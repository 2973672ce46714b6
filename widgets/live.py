"""Changes that a run under way obeys too: they go to the plan and to the run, and it is said since when they hold.

A panel shows the plan, which is what the next run will do. `Effects` says, field by field, how the run under way
differs from it: not yet ("from the next step"), not any more ("since step 121"), or until its end ("at the next run").
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
from workbench.plan.choices import LIVE_FIELDS

if TYPE_CHECKING:
    from workbench.plan.choices import Plan
    from workbench.session.session import Session

KINDS: frozenset[type[Event]] = frozenset(
    {RunChosen, StageStarted, RunStarted, RunResumed, PlanAdjusted, ChangeRefused, RunEnded, RunFailed}
)
SOON, LATER = "from the next step", "at the next run"


class Effects:
    """When the changes of a panel take effect.

    Attributes:
        is_live: Whether a run is under way, so that there is anything to say.
        asked: Fields that the run was asked to change and has not answered for.
    """

    def __init__(self) -> None:
        self.is_live = False
        self.asked: set[str] = set()
        self._since: dict[str, tuple[int, Any]] = {}  # field -> the first step that obeyed, and the value

    def note(self, event: Event) -> None:
        """Take in what the run says."""
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
        """Change the plan, and the run under way where it can obey.

        Raises:
            PlanError: A value that can't be; neither hears of it.
            WorkbenchError: The run refuses; the plan has the change, for the next run.
        """
        plan, run = session.change(**changes), session.run
        if run is None or run.is_over:
            return
        if obeyed := {name: value for name, value in changes.items() if _can_obey(name, run.plan, plan)}:
            run.change(**obeyed)
            self.asked |= set(obeyed)

    def of(self, name: str, session: "Session") -> str:
        """Return from when, or since when, the plan's value of this field holds in the run under way."""
        if not self.is_live or session.run is None:
            return ""
        wanted = session.plan.flat()[name]
        step, value = self._since.get(name, (0, session.run.plan.flat()[name]))
        if value == wanted:
            return f"since step {step:,}" if step else ""
        if name in self.asked:
            return SOON
        return f"{wording.value_of(name, value)} since step {step:,}" if step else LATER


def _can_obey(name: str, running: "Plan", wanted: "Plan") -> bool:
    """Whether a run of one plan can take this field of another: blocks mean the same in the same network only."""
    if name == "trainable":
        same = running.baseline.backbone == wanted.baseline.backbone
        return same and running.transfer.method == wanted.transfer.method
    return name in LIVE_FIELDS

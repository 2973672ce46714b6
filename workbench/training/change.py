"""Changes of a run's plan in mid-run: which fields can change, and how a change is represented."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from workbench.errors import PlanError
from workbench.plan.plan import FORK_FIELDS, LIVE_FIELDS, Plan


@dataclass(frozen=True)
class Change:
    """Fields of the plan to change before the next step.

    Attributes:
        fields: Name of the field -> new value.
        step: Number of steps taken when the change is made; None: as soon as possible.
        scheduled: Whether it was known when the run started, like the changes that define a fork.
        logged: Whether it is in the log already, because the run is repeating steps.
        by: Name of the tactic that makes it; "" for a person.
    """

    fields: Mapping[str, Any]
    step: int | None = None
    scheduled: bool = False
    logged: bool = False
    by: str = ""

    def applied_to(self, plan: Plan) -> Plan:
        """Return the plan with this change.

        Raises:
            PlanError: A field is unknown or can't change now, or a value is impossible.
        """
        is_request = not (self.scheduled or self.logged or self.by)
        allowed = LIVE_FIELDS if is_request else FORK_FIELDS
        if self.by or self.logged:
            return check(plan, self.fields, allowed=allowed)
        return check(plan, ending_unfreezing(plan, self.fields), allowed=(*allowed, "unfreeze_to"))


def ending_unfreezing(plan: Plan, fields: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the fields; if a person changes what is trainable, also `unfreeze_to=None`, which ends the schedule."""
    ends = "trainable" in fields and "unfreeze_to" not in fields and plan.retention.unfreeze_to is not None
    return {**fields, "unfreeze_to": None} if ends else fields


def _refusal(name: str) -> PlanError:
    """Return the error for a field that can't change now: what a live run can't change, a fork of it perhaps can."""
    if name in FORK_FIELDS:
        what = f"{name} can't change in a run that has started; only {', '.join(LIVE_FIELDS)} can"
        return PlanError(what, hint=f"run.fork({name}=…), which continues as a new run from the same step")
    return PlanError(
        f"{name} can't change after the first step of a run", hint=f"run.fork(step=0, {name}=…), or start a new run"
    )


def check(plan: Plan, fields: Mapping[str, Any], *, allowed: tuple[str, ...] = LIVE_FIELDS) -> Plan:
    """Return the plan with these fields changed.

    Raises:
        PlanError: A field is unknown or can't change after the first step, or a value is impossible.
    """
    changed = plan.change(**fields)
    if plan.tuning.dropout is not None and changed.tuning.dropout is None:
        what = "dropout is None, the backbone's own value, which can't be restored after the first step"
        raise PlanError(f"{what}; expected a number", hint="use dropout=0.1, or dropout=0")
    for name in fields:
        if name not in allowed:
            raise _refusal(name)
    return changed

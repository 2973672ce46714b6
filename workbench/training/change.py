"""Changes of the plan of a run that is under way: what can change when, and how a change is written down."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from workbench.errors import PlanError, nearest
from workbench.plan.choices import FORK_FIELDS, LIVE_FIELDS, Plan


@dataclass(frozen=True)
class Change:
    """Fields of the plan to change before the next step.

    Attributes:
        fields: Name of the field -> new value.
        step: The number of steps after which the change is made; None: as soon as possible.
        scheduled: Whether it was known when the run began, as a fork's own changes are.
        logged: Whether the run made it before and now repeats it.
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
            PlanError: As `check`.
        """
        is_wish = not (self.scheduled or self.logged or self.by)
        allowed = LIVE_FIELDS if is_wish else FORK_FIELDS
        if self.by or self.logged:
            return check(plan, self.fields, allowed=allowed)
        return check(plan, ending_unfreezing(plan, self.fields), allowed=(*allowed, "unfreeze_to"))


def ending_unfreezing(plan: Plan, fields: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the fields, and the end of the unfreezing schedule if a person changes what is trainable."""
    ends = "trainable" in fields and "unfreeze_to" not in fields and plan.retention.unfreeze_to is not None
    return {**fields, "unfreeze_to": None} if ends else fields


def check(plan: Plan, fields: Mapping[str, Any], *, allowed: tuple[str, ...] = LIVE_FIELDS) -> Plan:
    """Return the plan with these fields changed.

    Raises:
        PlanError: A field is unknown or can't change once the run has begun, or a value is impossible.
    """
    changed = plan.change(**fields)
    if plan.tuning.dropout is not None and changed.tuning.dropout is None:
        raise PlanError("dropout can't go back to the backbone's own once steps were taken", hint="dropout=0.1, or 0")
    for name in fields:
        if name not in allowed:
            raise PlanError(
                f"{name} can't change once steps were taken; {', '.join(allowed)} can",
                hint=f"{nearest(name, allowed)}, or change the plan of the next run",
            )
    return changed

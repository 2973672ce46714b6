"""Early stopping: end the run when the validation metric has not improved for a while (Prechelt 1998).

The rule is that of EarlyStopping in Keras and Lightning. Every evaluation that does not improve on the best value by
more than `stop_min_delta` is counted; an improvement resets the count to zero; the run ends when the count reaches
`stop_patience`. A value that is not finite ends the run at once. `run.model("best")` has the weights of the best
evaluation.
"""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from workbench.errors import PlanError, nearest
from workbench.events import EvaluationEnded, Event
from workbench.plan.plan import Plan
from workbench.training.progress import Goal
from workbench.training.tactics.tactic import Tactic

if TYPE_CHECKING:
    from workbench.training.learner import Learner


class EarlyStopping(Tactic):
    """Ends a run that no longer improves.

    Attributes:
        waited: Number of evaluations since the last improvement.
        value: The metric at the last evaluation; None before the first one.
    """

    name = "early stopping"

    def __init__(self) -> None:
        self.waited = 0
        self.value: float | None = None

    def check(self, learner: "Learner", plan: Plan) -> None:
        """Check that this run computes the metric of the plan, and that the plan says which values are good."""
        metric, known = plan.monitoring.stop_metric or "loss", learner.metric_names
        if (
            metric not in known and not learner.metrics
        ):  # the names of a user's metrics are unknown until the first evaluation
            raise PlanError(
                f"stop_metric is {metric!r}; expected one of {', '.join(known)}", hint=nearest(metric, known)
            )
        Goal.of(plan.monitoring)

    def on_event(self, learner: "Learner", event: Event) -> None:
        """Count the evaluations of the validation rows without improvement."""
        if isinstance(event, EvaluationEnded) and event.split == "validation":
            self.waited = 0 if event.best else self.waited + 1
            self.value = event.metrics.get(Goal.of(learner.plan.monitoring).metric, math.nan)

    def stop_reason(self, learner: "Learner") -> str | None:
        """Return why the run should end; a fork with more patience can continue from there."""
        choice = learner.plan.monitoring
        if choice.stop_patience is None or self.value is None:
            return None
        metric = f"the validation {(choice.stop_metric or 'loss').replace('_', ' ')}"
        if not math.isfinite(self.value):
            return f"stopped early: {metric} is {self.value:g}, which is not finite"
        if self.waited < max(1, choice.stop_patience):
            return None
        amount = f" by more than {choice.stop_min_delta:g}" if choice.stop_min_delta else ""
        count = "1 evaluation" if self.waited == 1 else f"{self.waited} evaluations"
        since = f"since step {learner.progress.best_step}"
        return f"stopped early: {metric} has not improved{amount} for {count}, {since}"

    def state_dict(self) -> dict[str, Any]:
        """Return the count and the last value."""
        return {"waited": self.waited, "value": self.value}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the count and the last value."""
        value = state.get("value")
        self.waited, self.value = int(state.get("waited", 0)), None if value is None else float(value)

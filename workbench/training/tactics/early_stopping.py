"""Early stopping: end the run when the validation rows have shown no improvement for a while (Prechelt 1998).

The rule is that of EarlyStopping in Keras and in Lightning. Each evaluation that does not beat the best value by more
than `stop_min_delta` is counted; an improvement sets the count to zero; the run ends when the count has reached
`stop_patience`. A value that is not finite ends the run at once. The weights of the best evaluation are
`run.model("best")`.
"""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from workbench.errors import PlanError, nearest
from workbench.events import EvaluationEnded, Event
from workbench.training.progress import Goal
from workbench.training.tactics.tactic import Tactic

if TYPE_CHECKING:
    from workbench.training.learner import Learner


class EarlyStopping(Tactic):
    """Ends a run that no longer improves.

    Attributes:
        waited: Evaluations since the last improvement.
    """

    name = "early stopping"

    def __init__(self) -> None:
        self.waited = 0
        self._reason: str | None = None

    def check(self, learner: "Learner") -> None:
        """Check that the metric of the plan is one that this run measures."""
        metric, known = Goal.of(learner.plan.monitoring).metric, learner.metric_names
        if metric not in known and not learner.metrics:  # what a user's metrics are called shows when they are computed
            raise PlanError(
                f"stop_metric is {metric!r}; this run measures {', '.join(known)}", hint=nearest(metric, known)
            )

    def hear(self, learner: "Learner", event: Event) -> None:
        """Count the evaluations of the validation rows that were no improvement."""
        if not isinstance(event, EvaluationEnded) or event.split != "validation":
            return
        choice = learner.plan.monitoring
        goal = Goal.of(choice)
        value = event.metrics.get(goal.metric, math.nan)
        self.waited = 0 if event.best else self.waited + 1
        self._reason = None
        if choice.stop_patience is None:
            return
        if not math.isfinite(value):
            self._reason = f"stopped early: the validation {_words(goal.metric)} is {value:g}, which is not finite"
        elif self.waited and self.waited >= choice.stop_patience:
            self._reason = (
                f"stopped early: the validation {_words(goal.metric)} has not improved"
                f"{f' by more than {goal.min_delta:g}' if goal.min_delta else ''} for {_evaluations(self.waited)}, "
                f"since step {learner.progress.best_step}"
            )

    def stop_reason(self, learner: "Learner") -> str | None:
        """Return why the run should end, in words."""
        return self._reason

    def state_dict(self) -> dict[str, Any]:
        """Return the count."""
        return {"waited": self.waited}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue to count where a checkpoint was saved."""
        self.waited, self._reason = int(state.get("waited", 0)), None


def _words(metric: str) -> str:
    return metric.replace("_", " ")


def _evaluations(count: int) -> str:
    return "1 evaluation" if count == 1 else f"{count} evaluations"

"""How far a run has come: the part of a learner that is no tensor, as a checkpoint stores it. It imports no torch."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from workbench.errors import PlanError
from workbench.plan.choices import Monitoring

_LOW, _HIGH = ("loss", "perplexity"), ("accuracy", "f1", "precision", "recall", "matthews", "auc")


@dataclass(frozen=True)
class Goal:
    """The metric that decides which step is the best, and what counts as better.

    The rule is that of EarlyStopping in Keras and Lightning: a value is better if it improves on the best value so far
    by more than `min_delta`. NaN is never better.

    Attributes:
        metric: Name of a metric on the validation rows.
        mode: Whether low values are good ("min") or high ones ("max").
        min_delta: A smaller improvement does not count.
    """

    metric: str = "loss"
    mode: Literal["min", "max"] = "min"
    min_delta: float = 0.0

    @classmethod
    def of(cls, choice: Monitoring) -> "Goal":
        """Return the goal of a plan.

        Raises:
            PlanError: Neither the name of the metric nor the plan says whether low or high values are good.
        """
        metric = choice.stop_metric or "loss"
        mode = choice.stop_mode
        if mode == "auto":
            name = metric.lower()
            if any(word in name for word in _LOW):
                mode = "min"
            elif any(word in name for word in _HIGH):
                mode = "max"
            else:
                raise PlanError(
                    f"stop_mode is 'auto', but the name {metric!r} does not say whether low or high values are good",
                    hint="use stop_mode='min' or 'max'",
                )
        return cls(metric, mode, choice.stop_min_delta)

    def is_better(self, value: float, best: float | None) -> bool:
        """Return whether a value improves on the best one so far; `best` is None if there is none yet."""
        if best is None or math.isnan(best):
            return not math.isnan(value)
        return value + self.min_delta < best if self.mode == "min" else value - self.min_delta > best


@dataclass
class Progress:
    """What a learner has done so far. A checkpoint stores all of it.

    Attributes:
        step: Optimizer steps taken.
        best_step: The step with the best evaluation so far; 0 is the model before training.
        best_loss: The validation loss at that step, in nats per target.
        best_value: The value of `best_metric` at that step.
        best_metric: Name of the metric that decided which step is the best.
        evaluated_step: The step of the last evaluation, so that a resumed run neither repeats nor skips one.
        decided_step: The last step after which the loop decided whether to evaluate; a change of the plan after that
            decision does not reopen it.
        adjustments: Number of changes of the plan since the run started.
        trained: Names of the blocks that are or were trainable in this run.
        trainable_since: Name of each trainable parameter -> steps taken when it became trainable.
        tactics: Name of each tactic -> its state without tensors; {} except in a checkpoint.
    """

    step: int = 0
    best_step: int | None = None
    best_loss: float | None = None
    best_value: float | None = None
    best_metric: str = "loss"
    evaluated_step: int | None = None
    decided_step: int | None = None
    adjustments: int = 0
    trained: tuple[str, ...] = ()
    trainable_since: Mapping[str, int] = field(default_factory=dict)
    tactics: Mapping[str, Any] = field(default_factory=dict)

    def note_evaluation(self, metrics: Mapping[str, float], goal: Goal) -> bool:
        """Record an evaluation of the validation rows after the current step; return whether it is the best so far."""
        self.evaluated_step = self.step
        value = metrics.get(goal.metric, math.nan)  # a metric that is undefined for these rows is missing
        is_comparable = self.best_metric == goal.metric
        best = self.best_value if is_comparable else None
        if not goal.is_better(value, best):
            return False
        self.best_step, self.best_loss = self.step, metrics["loss"]
        self.best_value, self.best_metric = value, goal.metric
        return True

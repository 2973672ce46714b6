"""How far a run has come: everything about a learner that is no tensor, as a checkpoint keeps it. Free of torch."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from workbench.errors import PlanError
from workbench.plan.choices import Monitoring

_LOW, _HIGH = ("loss", "perplexity"), ("accuracy", "f1", "precision", "recall", "matthews", "auc")


@dataclass(frozen=True)
class Goal:
    """By which metric the best step is chosen, and what counts as better.

    The rule is that of EarlyStopping in Keras and in Lightning: a value is better if it beats the best one that was
    kept by more than `min_delta`. NaN is never better.

    Attributes:
        metric: Name of the metric on the validation rows.
        mode: Whether a low value is good ("min") or a high one ("max").
        min_delta: How much better a value must be.
    """

    metric: str = "loss"
    mode: Literal["min", "max"] = "min"
    min_delta: float = 0.0

    @classmethod
    def of(cls, choice: Monitoring) -> "Goal":
        """Return the goal of a plan.

        Raises:
            PlanError: The name of the metric does not tell whether low or high is good, and the plan doesn't either.
        """
        metric = choice.stop_metric or "loss"
        mode = choice.stop_mode
        if mode == "auto":
            words = metric.lower()
            if any(word in words for word in _LOW):
                mode = "min"
            elif any(word in words for word in _HIGH):
                mode = "max"
            else:
                raise PlanError(
                    f"stop_mode is 'auto', but {metric!r} does not tell whether a low or a high value is good",
                    hint="stop_mode='min' or 'max'",
                )
        return cls(metric, mode, choice.stop_min_delta)

    def is_better(self, value: float, best: float | None) -> bool:
        """Whether a value improves on the best one so far; None: there is none yet."""
        if best is None or math.isnan(best):
            return not math.isnan(value)
        return value + self.min_delta < best if self.mode == "min" else value - self.min_delta > best


@dataclass
class Progress:
    """What a learner has done so far. A checkpoint writes all of it.

    Attributes:
        step: Optimizer steps taken.
        best_step: The step with the best evaluation so far; 0 is the model before any training.
        best_loss: The validation loss of that step, in nats per target.
        best_value: The value of `best_metric` at that step.
        best_metric: Name of the metric by which the best step was chosen.
        evaluated_step: The step of the last evaluation, so that a resumed run neither repeats nor skips one.
        decided_step: The step at which it was last decided whether to evaluate; later changes of the plan don't count.
        adjustments: How often the plan changed since the run began.
        trained: Names of the blocks that are or were trainable in this run.
        trainable_since: Name of each trainable parameter -> steps that had been taken when it became trainable.
        tactics: Name of each tactic -> its state, without tensors; {} but where a checkpoint is written or read.
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
        """Take note of an evaluation of the validation rows after the current step; return whether it is the best."""
        self.evaluated_step = self.step
        value = metrics.get(goal.metric, math.nan)  # one that is not defined for these rows is left out
        best = self.best_value if self.best_metric == goal.metric else None  # another metric begins anew
        if not goal.is_better(value, best):
            return False
        self.best_step, self.best_loss = self.step, metrics["loss"]
        self.best_value, self.best_metric = value, goal.metric
        return True

"""The state of a run, folded from its events: the only place that interprets events for the run in total.

The list of runs, the handle, the panels and the keeper of checkpoints all use it, so that they can't disagree.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Literal, Self

from workbench.events.kinds import (
    EvaluationEnded,
    Event,
    ModelSaved,
    PlanAdjusted,
    RunEnded,
    RunFailed,
    RunForked,
    RunPaused,
    RunResumed,
    RunStarted,
    StageStarted,
    StepEnded,
)

Phase = Literal["preparing", "running", "paused", "completed", "stopped", "failed"]
UNFINISHED: tuple[Phase, ...] = ("preparing", "running", "paused")  # more events will come
STOPPED_BY_USER = "stopped by the user"  # the only reason in RunEnded after which a run can be resumed


class RunState:
    """The state of a run after the events so far.

    Attributes:
        phase: preparing | running | paused | completed | stopped | failed. A run that stopped early is completed.
        began: Time of the first event, in seconds since the epoch; None without events.
        step: Optimizer steps taken.
        steps: Optimizer steps of the run in total; 0 until that is known.
        adjustments: Number of changes of the plan since the run started.
        changed: Name of each field of the plan that changed -> its current value.
        evaluated_step: The step of the last evaluation of the validation rows.
        metrics: The metrics of that evaluation.
        best: The best evaluation so far.
        waited: Number of evaluations of the validation rows since then.
        parent: The run and step that this run was forked from; None if it is no fork.
        ending: How the run ended; None if it has not ended or was resumed.
        model: The model that was saved last.
    """

    def __init__(self, events: Iterable[Event] = ()) -> None:
        self.phase: Phase = "preparing"
        self.began: float | None = None
        self.step = self.steps = self.adjustments = 0
        self.changed: dict[str, Any] = {}
        self.evaluated_step: int | None = None
        self.metrics: Mapping[str, float] = {}
        self.best: EvaluationEnded | None = None
        self.waited = 0
        self.parent: RunForked | None = None
        self.ending: RunEnded | RunFailed | None = None
        self.model: ModelSaved | None = None
        for event in events:
            self.note(event)

    @property
    def is_over(self) -> bool:
        """Whether the run has ended; no event follows unless somebody resumes it."""
        return self.phase not in UNFINISHED

    @property
    def failure(self) -> RunFailed | None:
        """The failure that ended the run, if any."""
        return self.ending if isinstance(self.ending, RunFailed) else None

    @property
    def is_interrupted(self) -> bool:
        """Whether the notebook or program that trained it went away, so that nothing is wrong with the run itself."""
        return self.failure is not None and self.failure.is_interruption

    @property
    def never_loaded(self) -> bool:
        """Whether the run failed before it had loaded what its plan names: there is nothing to resume or to keep."""
        is_fork = self.parent is not None and self.parent.step > 0
        return self.failure is not None and self.failure.never_loaded and not self.steps and not is_fork

    @property
    def best_step(self) -> int | None:
        """The step of the best evaluation so far."""
        return self.best.step if self.best else None

    @property
    def best_loss(self) -> float | None:
        """The validation loss of that step, in nats per target."""
        return self.best.metrics.get("loss") if self.best else None

    def reopen(self) -> None:
        """Set the state of a run that is about to be resumed."""
        self.phase, self.ending = "preparing", None

    def note(self, event: Event) -> Self:
        """Update the state with one event."""
        self.began = event.time if self.began is None else self.began
        match event:
            case RunForked():
                self.parent = event
            case StageStarted():
                self.phase, self.ending = "preparing", None
            case RunStarted(steps=steps, first_step=first):
                self.phase, self.ending, self.steps, self.step = "running", None, steps, first
            case RunResumed():
                self.phase, self.ending = "running", None
            case RunPaused():
                self.phase = "paused"
            case StepEnded(step=step):
                self.step = step
            case EvaluationEnded(split="validation", step=step, metrics=metrics):
                self.evaluated_step, self.metrics = step, metrics
                self.waited += 1
                if event.best:
                    self.best, self.waited = event, 0
            case PlanAdjusted(after=after, steps=steps):
                self.adjustments += 1
                self.steps = steps or self.steps
                self.changed.update(after)
            case ModelSaved():
                self.model = event
            case RunEnded(step=step, reason=reason):
                self.phase = "stopped" if reason == STOPPED_BY_USER else "completed"
                self.ending, self.step = event, step
            case RunFailed(step=step):
                self.phase, self.ending, self.step = "failed", event, step
        return self

"""The state of a run, folded from its events: the one place that knows what an event says about the run as a whole.

The list of runs, the handle, the panels and the keeper of checkpoints all read it, so that they can't disagree.
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
UNFINISHED: tuple[Phase, ...] = ("preparing", "running", "paused")  # something more is to come
STOPPED_BY_USER = "stopped by the user"  # the reason in RunEnded for which a run can be resumed


class RunState:
    """What the events of a run say so far.

    Attributes:
        phase: preparing | running | paused | completed | stopped | failed. A run that stopped early is completed.
        began: When its first event happened, in seconds since the epoch; None before that.
        step: Optimizer steps taken.
        steps: Optimizer steps that the whole run takes; 0 until that is known.
        adjustments: How often the plan changed since the run began.
        changed: Name of each field that changed -> its value now.
        evaluated_step: The step of the last evaluation of the validation rows.
        metrics: What that evaluation measured.
        best: The best evaluation so far.
        waited: Evaluations of the validation rows since then.
        parent: Which run this one was forked from, and at which step; None if it was not forked.
        ending: How it ended; None while it has not, or again since it was resumed.
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
        """Whether nothing more will come, unless somebody resumes the run."""
        return self.phase not in UNFINISHED

    @property
    def failure(self) -> RunFailed | None:
        """What made the run fail, if that is how it ended."""
        return self.ending if isinstance(self.ending, RunFailed) else None

    @property
    def best_step(self) -> int | None:
        """The step of the best evaluation so far."""
        return self.best.step if self.best else None

    @property
    def best_loss(self) -> float | None:
        """The validation loss of that step, in nats per target."""
        return self.best.metrics.get("loss") if self.best else None

    def reopen(self) -> None:
        """Expect more events: somebody resumes the run."""
        self.phase, self.ending = "preparing", None

    def note(self, event: Event) -> Self:
        """Take one event in."""
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
            case PlanAdjusted(after=after):
                self.adjustments += 1
                self.changed.update(after)
            case ModelSaved():
                self.model = event
            case RunEnded(step=step, reason=reason):
                self.phase = "stopped" if reason == STOPPED_BY_USER else "completed"
                self.ending, self.step = event, step
            case RunFailed(step=step):
                self.phase, self.ending, self.step = "failed", event, step
        return self

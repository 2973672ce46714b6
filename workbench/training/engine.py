"""The only training loop: a generator of events, one optimizer step at a time.

To stop training, stop asking for events; a test is `list(train(learner))`. A step depends only on the plan, the data
and the number of the step, never on how often the loop was interrupted: batch order and dropout are seeded by (seed,
epoch) and (seed, step), and the learning rate is a function of the step (seeding.py describes the one exception). With
weights, optimizer, progress and the state of its tactics restored, a learner continues as if it had never stopped.

The engine writes no file, draws nothing, and knows no task, panel or cache.
"""

import math
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence

from workbench.errors import LossError, PlanError
from workbench.events import (
    ChangeRefused,
    EvaluationEnded,
    Event,
    PlanAdjusted,
    RunEnded,
    RunStarted,
    StepEnded,
    WeightsMoved,
)
from workbench.models import fingerprints
from workbench.training.adjust import adjust
from workbench.training.change import Change
from workbench.training.evaluate import evaluate
from workbench.training.learner import Learner
from workbench.training.progress import Goal
from workbench.training.step import prepare, take_step

ChangesAt = Callable[[int], Sequence[Change]]  # steps taken -> changes of the plan to make before the next step


def train(learner: Learner, *, changes: ChangesAt = lambda step: ()) -> Iterator[Event]:
    """Train to the last step of the plan, yielding each event as it happens.

    It evaluates before the first step, every `evaluate_every` steps and after the last step.

    Args:
        learner: The learner to train; it may have taken steps before.
        changes: Called before each step with the number of steps taken; returns the changes of the plan to make now.

    Raises:
        LossError: The loss or the gradient is not finite; gives the step, the rows and what to try.
        PlanError: A tactic of the plan does not fit the model or the task.
    """
    reason = yield from _events(learner, changes)
    yield ended(learner, reason)


def ended(learner: Learner, reason: str) -> RunEnded:
    """Return the event for the end of a run."""
    progress = learner.progress
    return RunEnded(step=learner.step, reason=reason, best_step=progress.best_step, best_loss=progress.best_loss)


def _events(learner: Learner, changes: ChangesAt) -> Generator[Event, None, str]:
    """Yield the events of the run; return the reason why it ended."""
    for tactic in learner.tactics:
        tactic.check(learner, learner.plan)
    yield started(learner)
    for tactic in learner.tactics:
        yield from tactic.begin(learner)
    while True:
        if learner.is_due:
            yield from prepare(learner, ("validation",))
            if learner.step:
                yield weights_moved(learner)
            yield from _evaluate(learner)
        learner.progress.decided_step = learner.step
        yield from _apply_changes(learner, changes(learner.step))
        if reason := _stop_reason(learner):
            return reason
        if learner.step >= learner.steps:  # after the changes, which may have raised or lowered the number of steps
            return "completed"
        yield from _changed_by_tactics(learner)
        yield from prepare(learner)
        yield _take_next_step(learner)


def repeat(learner: Learner, until: int, logged: Iterable[Event], *, changes: ChangesAt) -> Iterator[StepEnded]:
    """Take the steps up to `until` again, with the logged evaluations in place of new ones; yield each step.

    Args:
        learner: The learner as it was after an earlier step of the same run.
        until: Number of steps taken at the end.
        logged: The log of the run.
        changes: As in `train`, but without the changes that tactics made: the tactics make them again.
    """
    evaluations = [event for event in logged if isinstance(event, EvaluationEnded) and event.split == "validation"]
    last = -1 if learner.progress.evaluated_step is None else learner.progress.evaluated_step
    remaining = [event for event in evaluations if last < event.step <= until]
    while True:
        while remaining and remaining[0].step <= learner.step:
            evaluation = remaining.pop(0)
            learner.progress.note_evaluation(evaluation.metrics, Goal.of(learner.plan.monitoring))
            _notify_tactics(learner, evaluation)
        if learner.step >= until:
            return
        learner.progress.decided_step = learner.step
        for _ in (*_apply_changes(learner, changes(learner.step)), *_changed_by_tactics(learner)):
            pass
        yield _take_next_step(learner)


def _notify_tactics(learner: Learner, event: Event) -> None:
    """Pass a step, an evaluation or a change of the plan to every tactic."""
    for tactic in learner.tactics:
        tactic.on_event(learner, event)


def _stop_reason(learner: Learner) -> str | None:
    return next((reason for tactic in learner.tactics if (reason := tactic.stop_reason(learner))), None)


def _take_next_step(learner: Learner) -> StepEnded:
    event = take_step(learner)
    _notify_tactics(learner, event)
    return event


def _evaluate(learner: Learner) -> Iterator[Event]:
    for event in evaluate(learner):
        if isinstance(event, EvaluationEnded):
            _notify_tactics(learner, event)
        yield event
        if not isinstance(event, EvaluationEnded) or _stop_reason(learner):
            continue
        if not math.isfinite(loss := event.metrics["loss"]):
            raise LossError(
                f"after step {learner.step} the validation loss is {loss:g}; expected a finite number",
                hint="use an earlier step (run.at), a lower learning rate or precision 'fp32', or check these rows",
                step=learner.step,
                rows=(),
            )


def make_change(learner: Learner, change: Change) -> PlanAdjusted | None:
    """Change the plan of the learner, and tell its tactics; return the event, or None if nothing changes.

    Raises:
        PlanError: The plan does not allow the change, or names unknown blocks; the learner is then unchanged.
    """
    if event := adjust(learner, change):
        _notify_tactics(learner, event)
    return event


def _apply_changes(learner: Learner, changes: Sequence[Change]) -> Iterator[PlanAdjusted | ChangeRefused]:
    for change in changes:
        try:
            if event := make_change(learner, change):
                yield event
        except PlanError as error:  # an impossible request must not end the run
            yield ChangeRefused(step=learner.step, what=error.what, hint=error.hint, scheduled=change.scheduled)


def _changed_by_tactics(learner: Learner) -> Iterator[PlanAdjusted | ChangeRefused]:
    for tactic in learner.tactics:
        yield from _apply_changes(learner, tactic.changes(learner))


def weights_moved(learner: Learner) -> WeightsMoved:
    """Return how far each block that is or was trainable has moved from its weights before training."""
    trained = learner.progress.trained
    relative, rms = fingerprints.moved(learner.model, learner.backbone.blocks, learner.origin, trained)
    return WeightsMoved(step=learner.step, by_block=relative, rms_by_block=rms)


def started(learner: Learner) -> RunStarted:
    """Return the event for the start of a run, which includes the metrics of the trivial baseline."""
    parameters = list(learner.model.parameters())
    return RunStarted(
        task=learner.backbone.task,
        steps=learner.steps,
        first_step=learner.step,
        trainable_parameters=sum(p.numel() for p in parameters if p.requires_grad),
        total_parameters=sum(p.numel() for p in parameters),
        rows=len(learner.train),
        device=str(learner.device),
        precision=learner.precision,
        settings=learner.settings.measured,
        baseline=learner.task.baseline(learner.train, learner.validation, learner.backbone.model.config),
        baseline_name=learner.task.baseline_name,
        notes=learner.notes,
    )

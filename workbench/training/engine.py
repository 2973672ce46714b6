"""The only training loop: a generator of events, one optimizer step at a time.

To stop training, stop asking for events; a test is `list(train(learner))`. A step depends only on the plan, the data
and the number of the step, never on how often the loop was interrupted: batch order and dropout are seeded by (seed,
epoch) and (seed, step), and the learning rate is a function of the step (seeding.py describes the one exception). With
weights, optimizer, progress and the state of its tactics restored, a learner continues as if it had never stopped.

The engine writes no file, draws nothing, and knows no task, panel or cache.
"""

import contextlib
import math
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence

import torch

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
from workbench.seeding import mixed, seeded
from workbench.training.adjust import adjust
from workbench.training.change import Change
from workbench.training.evaluate import evaluate, nonfinite_examples
from workbench.training.learner import Learner, counted_nats
from workbench.training.progress import Goal
from workbench.training.schedule import late_warmup, learning_rate
from workbench.training.tactics import PlannedBatch

ChangesAt = Callable[[int], Sequence[Change]]  # steps taken -> changes of the plan to make before the next step
SPLITS = ("validation", "train")  # in the order in which they are needed


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
            yield from _prepare(learner, ("validation",))
            if learner.step:
                yield weights_moved(learner)
            yield from _evaluate(learner)
        learner.progress.decided_step = learner.step
        if learner.step < learner.steps:
            yield from _apply_changes(learner, changes(learner.step))
        if reason := _stop_reason(learner):
            return reason
        if learner.step >= learner.steps:  # a change may have lowered the number of steps
            return "completed"
        yield from _changed_by_tactics(learner)
        yield from _prepare(learner)
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


def _prepare(learner: Learner, splits: Sequence[str] = SPLITS) -> Iterator[Event]:
    for shortcut in learner.shortcuts:
        yield from shortcut.prepare(learner, splits)


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


def _apply_changes(learner: Learner, changes: Sequence[Change]) -> Iterator[PlanAdjusted | ChangeRefused]:
    for change in changes:
        try:
            if event := adjust(learner, change):
                _notify_tactics(learner, event)
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


def take_step(learner: Learner) -> StepEnded:
    """Take one optimizer step, which may accumulate the gradients of several batches, and return its event.

    The gradient is that of the cross-entropy summed over all targets of these batches, divided by their number. So
    accumulation saves memory and changes nothing else, even if the last step of an epoch has fewer batches.
    """
    for _ in _prepare(learner):
        pass
    start = time.perf_counter()
    learner.enter_training()
    rate = learning_rate(learner.step, learner.steps, learner.plan.tuning)
    for group in learner.optimizer.param_groups:
        group["lr"] = rate * late_warmup(learner.step, group["trainable_since"], learner.steps, learner.plan.tuning)
    before = [(buffer, buffer.clone()) for norm in learner.training_norms for buffer in norm.buffers()]
    with seeded(mixed(learner.plan.tuning.seed, learner.step, stream="dropout"), learner.device):
        loss, targets, rows = _accumulate(learner)
    gradient_norm = _clip(learner)
    if not (math.isfinite(loss) and math.isfinite(gradient_norm)):
        for buffer, value in before:
            buffer.copy_(value)
        raise _not_finite(learner, loss, gradient_norm, rate)
    learner.is_consistent = False  # an interrupt here leaves the weights of a half-taken step
    if targets:  # without targets there is no gradient, and weight decay must not act alone
        learner.optimizer.step()
    learner.progress.step += 1
    for tactic in learner.tactics:
        tactic.after_step(learner)
    learner.is_consistent = True
    return StepEnded(
        step=learner.step,
        epoch=learner.step / learner.steps_per_epoch,
        loss=loss,
        targets=targets,
        rows=rows,
        learning_rate=rate,
        gradient_norm=gradient_norm,
        seconds=time.perf_counter() - start,
    )


def _accumulate(learner: Learner) -> tuple[float, int, int]:
    """Compute the gradient of the next step; return its loss (nats per target), targets and rows."""
    batches = planned_batches(learner)
    targets = sum(examples.targets(indices) for examples, indices in batches)
    for group in learner.optimizer.param_groups:  # as `zero_grad`, without its slow check for torch.compile
        for parameter in group["params"]:
            parameter.grad = None
    loss = 0.0
    for examples, indices in batches:  # backward after each batch, so that memory holds only one of them
        with _running_statistics(learner) if len(indices) == 1 else contextlib.nullcontext():
            share = counted_nats(learner, learner.batch(examples, indices))[0] / max(targets, 1)
        share.backward()
        loss += share.item()
    penalties = [value for tactic in learner.tactics if (value := tactic.penalty(learner)) is not None]
    if penalties:
        torch.stack(penalties).sum().backward()
    return loss, targets, sum(len(indices) for _, indices in batches)


@contextlib.contextmanager
def _running_statistics(learner: Learner) -> Iterator[None]:
    """Let norms use their running statistics within the block: one row has no batch statistics."""
    for norm in learner.training_norms:
        norm.training = False
    try:
        yield
    finally:
        for norm in learner.training_norms:
            norm.training = True


def planned_batches(learner: Learner) -> Sequence[PlannedBatch]:
    """Return the batches of the next step; the last step of an epoch may have fewer."""
    epoch, position = divmod(learner.step, learner.steps_per_epoch)
    batches: Sequence[PlannedBatch] = [
        (learner.train, indices) for indices in learner.train.batches_of_step(learner.plan.tuning, epoch, position)
    ]
    for tactic in learner.tactics:
        batches = tactic.batches(learner, batches)
    return batches


def _clip(learner: Learner) -> float:
    """Scale the gradient down to the plan's `clip_norm`; return its L2 norm before that.

    The result is bit-identical to that of `nn.utils.clip_grad_norm_`, which is slower: it groups the tensors by device
    and type, twice per step.
    """
    gradients = [p.grad for group in learner.optimizer.param_groups for p in group["params"] if p.grad is not None]
    if not gradients:
        return 0.0
    norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))
    value, limit = float(norm), learner.plan.tuning.clip_norm
    if limit is not None and not value + 2e-6 < 0.999 * limit:  # below it the factor would be 1; NaN is not below
        torch._foreach_mul_(gradients, (limit / (norm + 1e-6)).clamp(max=1.0))
    return value


def _not_finite(learner: Learner, loss: float, gradient_norm: float, rate: float) -> LossError:
    batches = [indices for examples, indices in planned_batches(learner) if examples is learner.train]
    every = tuple(index for batch in batches for index in batch)
    alone = nonfinite_examples(learner, batches)
    rows = alone or every
    cause = f"it comes from the training examples {_some(rows)}"
    if alone == every:
        cause = "every training example of the step gives such a loss, so the weights are damaged"
    return LossError(
        f"at step {learner.step + 1} the loss is {loss:g} and the norm of its gradient {gradient_norm:g}, at learning "
        f"rate {rate:.2g}; expected finite numbers; {cause}. The weights of the previous step are kept",
        hint=f"use a learning rate below {learner.plan.tuning.learning_rate / 10:.1g}, more warm-up or precision "
        "'fp32', or check these examples",
        step=learner.step + 1,
        rows=rows,
    )


def _some(rows: Sequence[int]) -> str:
    return ", ".join(map(str, rows[:8])) + (f" and {len(rows) - 8:,} more" if len(rows) > 8 else "")

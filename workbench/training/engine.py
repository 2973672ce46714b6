"""The only training loop: a generator of events, one optimizer step at a time.

To stop is to stop asking; tests are `list(train(learner))`. What a step does depends on the plan, the data and the
step's own number, never on how often the loop was interrupted: batch order and dropout are seeded by (seed, epoch) and
(seed, step), and the rate is a function of the step (seeding.py tells the one exception). A learner with weights,
optimizer, progress and the state of its tactics restored continues as if nothing had happened.

It writes no file, draws nothing, and knows no task, panel, cache or store.
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
from workbench.training.evaluate import culprits, evaluate
from workbench.training.learner import Learner, counted_nats
from workbench.training.progress import Goal
from workbench.training.schedule import joining, learning_rate
from workbench.training.tactics import Part

Changes = Callable[[int], Sequence[Change]]  # steps taken -> changes of the plan to make before the next one
SPLITS = ("validation", "train")  # in the order in which they are needed


def train(learner: Learner, *, changes: Changes = lambda step: ()) -> Iterator[Event]:
    """Train to the last step of the plan, yielding each event as it happens.

    Evaluates before the first step, every `evaluate_every` steps and after the last one.

    Args:
        learner: What is trained; it may have taken steps before.
        changes: Asked before each step, with the steps taken so far, for changes of the plan to make now.

    Raises:
        LossError: The loss or the gradient is not finite; says at which step, for which rows, and what to try.
        PlanError: A tactic of the plan does not fit the model or the task.
    """
    reason = yield from _events(learner, changes)
    yield ended(learner, reason)


def ended(learner: Learner, reason: str) -> RunEnded:
    """Return the event that the run is over."""
    progress = learner.progress
    return RunEnded(step=learner.step, reason=reason, best_step=progress.best_step, best_loss=progress.best_loss)


def _events(learner: Learner, changes: Changes) -> Generator[Event, None, str]:
    """Yield what happens until the run is over; return why it is."""
    for tactic in learner.tactics:
        tactic.check(learner, learner.plan)
    yield started(learner)
    for tactic in learner.tactics:
        yield from tactic.begin(learner)
    while True:
        if learner.is_due:
            yield from _prepare(learner, ("validation",))
            if learner.step:
                yield moved(learner)
            yield from _evaluated(learner)
        learner.progress.decided_step = learner.step
        if learner.step < learner.steps:  # a fork may change how many there are
            yield from _made(learner, changes(learner.step))
        if reason := _stop_reason(learner):
            return reason
        if learner.step >= learner.steps:
            return "completed"
        yield from _changed_by_tactics(learner)
        yield from _prepare(learner)
        yield _stepped(learner)


def repeat(learner: Learner, until: int, logged: Iterable[Event], *, changes: Changes) -> Iterator[StepEnded]:
    """Take the steps up to `until` again, with the logged evaluations in place of new ones; yield each step.

    Args:
        learner: As it was after some earlier step of the same run.
        until: Steps taken in the end.
        logged: The log of the run.
        changes: As in `train`: the changes that people made.
    """
    facts = [fact for fact in logged if isinstance(fact, EvaluationEnded) and fact.split == "validation"]
    known = -1 if learner.progress.evaluated_step is None else learner.progress.evaluated_step
    waiting = [fact for fact in facts if known < fact.step <= until]
    while True:
        while waiting and waiting[0].step <= learner.step:
            evaluation = waiting.pop(0)
            learner.progress.note_evaluation(evaluation.metrics, Goal.of(learner.plan.monitoring))
            _hear(learner, evaluation)
        if learner.step >= until:
            return
        learner.progress.decided_step = learner.step
        for _ in (*_made(learner, changes(learner.step)), *_changed_by_tactics(learner)):
            pass
        yield _stepped(learner)


def _hear(learner: Learner, event: Event) -> None:
    """Let the tactics take note of a step, an evaluation or a change of the plan."""
    for tactic in learner.tactics:
        tactic.hear(learner, event)


def _stop_reason(learner: Learner) -> str | None:
    return next((reason for tactic in learner.tactics if (reason := tactic.stop_reason(learner))), None)


def _stepped(learner: Learner) -> StepEnded:
    event = take_step(learner)
    _hear(learner, event)
    return event


def _prepare(learner: Learner, splits: Sequence[str] = SPLITS) -> Iterator[Event]:
    for shortcut in learner.shortcuts:
        yield from shortcut.prepare(learner, splits)


def _evaluated(learner: Learner) -> Iterator[Event]:
    for event in evaluate(learner):
        if isinstance(event, EvaluationEnded):
            _hear(learner, event)
        yield event
        if not isinstance(event, EvaluationEnded) or _stop_reason(learner):
            continue
        if not math.isfinite(loss := event.metrics["loss"]):
            raise LossError(
                f"after step {learner.step} the validation loss is {loss:g}; expected a finite number",
                hint="an earlier step (run.at(step)), a lower learning rate, precision 'fp32', or a look at these rows",
                step=learner.step,
                rows=(),
            )


def _made(learner: Learner, changes: Sequence[Change]) -> Iterator[PlanAdjusted | ChangeRefused]:
    for change in changes:
        try:
            if event := adjust(learner, change):
                _hear(learner, event)
                yield event
        except PlanError as error:  # a wish that can't be granted is no reason to end a run
            yield ChangeRefused(step=learner.step, what=error.what, hint=error.hint, scheduled=change.scheduled)


def _changed_by_tactics(learner: Learner) -> Iterator[PlanAdjusted | ChangeRefused]:
    for tactic in learner.tactics:
        yield from _made(learner, tactic.changes(learner))


def moved(learner: Learner) -> WeightsMoved:
    """Return how far each block that is or was trainable has moved from the backbone."""
    trained = learner.progress.trained
    relative, rms = fingerprints.moved(learner.model, learner.backbone.blocks, learner.origin, trained)
    return WeightsMoved(step=learner.step, by_block=relative, rms_by_block=rms)


def started(learner: Learner) -> RunStarted:
    """Return what the run starts from, the score of the trivial baseline included."""
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
        baseline=learner.task.trivial(learner.train, learner.validation, learner.backbone.model.config),
        baseline_name=learner.task.trivial_name,
        notes=learner.notes,
    )


def take_step(learner: Learner) -> StepEnded:
    """Take one optimizer step over one accumulation window and return what was measured in it.

    The gradient is that of the summed nats over the targets of the whole window, a partial last window included, so
    that accumulation changes nothing but memory.
    """
    for _ in _prepare(learner):
        pass
    begun = time.perf_counter()
    learner.enter_training()
    rate = learning_rate(learner.step, learner.steps, learner.plan.tuning)
    for group in learner.optimizer.param_groups:
        group["lr"] = rate * joining(learner.step, group["joined"], learner.steps, learner.plan.tuning)
    before = [(buffer, buffer.clone()) for norm in learner.training_norms for buffer in norm.buffers()]
    with seeded(mixed(learner.plan.tuning.seed, learner.step, stream="dropout"), learner.device):
        loss, targets, rows = _accumulate(learner)
    gradient_norm = _clip(learner)
    if not (math.isfinite(loss) and math.isfinite(gradient_norm)):
        for buffer, value in before:
            buffer.copy_(value)
        raise _not_finite(learner, loss, gradient_norm, rate)
    learner.is_consistent = False  # an interrupt from here on leaves weights of two steps
    if targets:  # without any there is no gradient, and decay must not act alone
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
        seconds=time.perf_counter() - begun,
    )


def _accumulate(learner: Learner) -> tuple[float, int, int]:
    """Leave the gradient of one window in place; return its loss (nats per target), targets and rows."""
    window = _window(learner)
    targets = sum(examples.targets(indices) for examples, indices in window)
    for group in learner.optimizer.param_groups:  # what `zero_grad` does, which asks the compiler first, each time
        for parameter in group["params"]:
            parameter.grad = None
    loss = 0.0
    for examples, indices in window:  # one batch at a time: that is what a window of several is for
        with _norms_at_rest(learner) if len(indices) == 1 else contextlib.nullcontext():
            share = counted_nats(learner, learner.batch(examples, indices))[0] / max(targets, 1)
        share.backward()
        loss += share.item()
    penalties = [value for tactic in learner.tactics if (value := tactic.penalty(learner)) is not None]
    if penalties:
        torch.stack(penalties).sum().backward()
    return loss, targets, sum(len(indices) for _, indices in window)


@contextlib.contextmanager
def _norms_at_rest(learner: Learner) -> Iterator[None]:
    """Let norms use their running statistics within the block: a batch of one row has none of its own."""
    for norm in learner.training_norms:
        norm.training = False
    try:
        yield
    finally:
        for norm in learner.training_norms:
            norm.training = True


def _window(learner: Learner) -> Sequence[Part]:
    """Return the batches of the next step; the last window of an epoch may be short."""
    epoch, position = divmod(learner.step, learner.steps_per_epoch)
    window: Sequence[Part] = [
        (learner.train, indices) for indices in learner.train.window(learner.plan.tuning, epoch, position)
    ]
    for tactic in learner.tactics:
        window = tactic.batches(learner, window)
    return window


def _clip(learner: Learner) -> float:
    """Scale the gradient down to the plan's norm; return the norm it had (L2).

    Gives the bits of `nn.utils.clip_grad_norm_`, which sorts tensors by device and type, twice, at each step.
    """
    gradients = [p.grad for group in learner.optimizer.param_groups for p in group["params"] if p.grad is not None]
    if not gradients:
        return 0.0
    norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))
    value, limit = float(norm), learner.plan.tuning.clip_norm
    if limit is not None and not value + 2e-6 < 0.999 * limit:  # NaN included; below, the factor is 1
        torch._foreach_mul_(gradients, (limit / (norm + 1e-6)).clamp(max=1.0))
    return value


def _not_finite(learner: Learner, loss: float, gradient_norm: float, rate: float) -> LossError:
    window = [indices for examples, indices in _window(learner) if examples is learner.train]
    every = tuple(index for batch in window for index in batch)
    alone = culprits(learner, window)
    rows = alone or every
    whose = "all of it, so it is the weights that are spoilt" if alone == every else f"training examples {_some(rows)}"
    return LossError(
        f"at step {learner.step + 1} the loss is {loss:g} and its gradient {gradient_norm:g}, in the batch of "
        f"{whose}, at rate {rate:.2g}; expected finite numbers. The weights of the step before are kept",
        hint=f"a learning rate below {learner.plan.tuning.learning_rate / 10:.1g}, more warm-up, precision 'fp32', "
        "or a look at these examples",
        step=learner.step + 1,
        rows=rows,
    )


def _some(rows: Sequence[int]) -> str:
    return ", ".join(map(str, rows[:8])) + (f" and {len(rows) - 8:,} more" if len(rows) > 8 else "")

"""The only training loop: a generator of events, one optimizer step at a time.

To stop is to stop asking; tests are `list(train(learner))`. What a step does depends on the plan, the data and the
step's own number, never on how often the loop was interrupted: batch order and dropout are seeded by (seed, epoch) and
(seed, step), and the rate is a function of the step (seeding.py tells the one exception). A learner with weights,
optimizer and step count put back goes on as if nothing had happened.

It writes no file, draws nothing and knows no task, panel or store.
"""

import contextlib
import math
import time
from collections.abc import Callable, Iterator, Sequence

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
from workbench.speed.prefix_cache.cache import prepare, prepared
from workbench.training.adjust import Change, adjust
from workbench.training.evaluate import culprits, evaluate
from workbench.training.learner import Learner, Tactic, counted_nats
from workbench.training.schedule import joining, learning_rate

Changes = Callable[[int], Sequence[Change]]  # steps taken -> changes of the plan to make before the next one


def train(learner: Learner, *, tactics: Sequence[Tactic] = (), changes: Changes = lambda step: ()) -> Iterator[Event]:
    """Train to the last step of the plan, yielding each fact as it becomes true.

    Evaluates before the first step, every `evaluate_every` steps and after the last one.

    Args:
        learner: What learns; it may have taken steps before.
        tactics: What changes training through its hooks.
        changes: Asked before each step, with the steps taken so far, for changes of the plan to make now.

    Raises:
        LossError: The loss or the gradient is not finite; says at which step, for which rows, and what to try.
    """
    learner.tactics = tactics
    reason: str | None = None
    for event in _facts(learner, changes):
        yield event
        reason = next((why for tactic in tactics if (why := tactic.stop_reason(event))), None)
        if reason:
            break
    yield ended(learner, reason or "completed")


def ended(learner: Learner, reason: str) -> RunEnded:
    """Return the fact that the run is over."""
    best_loss = learner.best_loss if learner.best_step is not None else None
    return RunEnded(step=learner.step, reason=reason, best_step=learner.best_step, best_loss=best_loss)


def _facts(learner: Learner, changes: Changes) -> Iterator[Event]:
    yield started(learner)
    while True:
        if learner.is_due:
            yield from prepare(learner, splits=("validation",))
            if learner.step:
                yield moved(learner)
            yield from _measured(learner)
        learner.decided_step = learner.step
        if learner.step < learner.steps:  # a fork may change how many there are
            yield from _adjusted(learner, changes(learner.step))
        if learner.step >= learner.steps:
            return
        yield from prepare(learner)
        yield take_step(learner)


def _measured(learner: Learner) -> Iterator[Event]:
    for event in evaluate(learner):
        yield event
        if isinstance(event, EvaluationEnded) and not math.isfinite(loss := event.metrics["loss"]):
            raise LossError(
                f"after step {learner.step} the validation loss is {loss:g}; expected a finite number",
                hint="an earlier step (run.at(step)), a lower learning rate, precision 'fp32', or a look at these rows",
                step=learner.step,
                rows=(),
            )


def _adjusted(learner: Learner, changes: Sequence[Change]) -> Iterator[PlanAdjusted | ChangeRefused]:
    for change in changes:
        try:
            if fact := adjust(learner, change):
                yield fact
        except PlanError as error:  # a wish that can't be granted is no reason to end a run
            yield ChangeRefused(step=learner.step, what=error.what, hint=error.hint, scheduled=change.scheduled)


def moved(learner: Learner) -> WeightsMoved:
    """Return how far each block that learns or learnt has moved from the backbone."""
    by_block = fingerprints.moved(learner.model, learner.backbone.blocks, learner.origin, learner.learnt)
    return WeightsMoved(step=learner.step, by_block=by_block)


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
    """Take one optimizer step over one accumulation window and return what was measured on the way.

    The gradient is that of the summed nats over the targets of the whole window, a partial last window included, so
    that accumulation changes nothing but memory.
    """
    prepared(learner)
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
    learner.is_whole = False  # an interrupt from here on leaves weights of two steps
    if targets:  # without any, there is nothing to learn from, and decay must not act alone
        learner.optimizer.step()
    learner.step += 1
    learner.is_whole = True
    return StepEnded(
        step=learner.step,
        epoch=learner.step / learner.windows_per_epoch,
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
    targets = sum(learner.train.targets(indices) for indices in window)
    for group in learner.optimizer.param_groups:  # what `zero_grad` does, which asks the compiler first, each time
        for parameter in group["params"]:
            parameter.grad = None
    loss = 0.0
    for indices in window:  # one batch at a time: that is what a window of several is for
        with _norms_at_rest(learner) if len(indices) == 1 else contextlib.nullcontext():
            share = counted_nats(learner, learner.batch(learner.train, indices))[0] / max(targets, 1)
        share.backward()
        loss += share.item()
    penalties = [value for tactic in learner.tactics if (value := tactic.penalty(learner.model)) is not None]
    if penalties:
        torch.stack(penalties).sum().backward()
    return loss, targets, sum(map(len, window))


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


def _window(learner: Learner) -> list[list[int]]:
    """Return the batches of indices of the next step; the last window of an epoch may be short."""
    epoch, position = divmod(learner.step, learner.windows_per_epoch)
    return learner.train.window(learner.plan.tuning, epoch, position)


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
    window = _window(learner)
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

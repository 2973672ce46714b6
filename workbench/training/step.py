"""One optimizer step: the batches of the plan, their gradient, the update of the weights."""

import contextlib
import math
import time
from collections.abc import Iterator, Sequence

import torch

from workbench.errors import LossError
from workbench.events import Event, StepEnded
from workbench.seeding import mixed, seeded
from workbench.training.evaluate import nonfinite_examples
from workbench.training.learner import Learner, counted_nats
from workbench.training.schedule import late_warmup, learning_rate
from workbench.training.tactics import PlannedBatch

SPLITS = ("validation", "train")  # in the order in which they are needed


def take_step(learner: Learner) -> StepEnded:
    """Take one optimizer step, which may accumulate the gradients of several batches, and return its event.

    The gradient is that of the cross-entropy summed over all targets of these batches, divided by their number. So
    accumulation saves memory and changes nothing else, even if the last step of an epoch has fewer batches.
    """
    for _ in prepare(learner):
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


def prepare(learner: Learner, splits: Sequence[str] = SPLITS) -> Iterator[Event]:
    """Let the shortcuts get ready for the next step or evaluation, and yield their progress events."""
    for shortcut in learner.shortcuts:
        yield from shortcut.prepare(learner, splits)

"""Evaluation of a learner on held-out rows: cross-entropy in nats, summed and divided by the number of targets.

It also finds the training examples whose loss is not finite.
"""

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import torch

from workbench.errors import PlanError, RunError, nearest
from workbench.events import EvaluationEnded, EvaluationProgressed
from workbench.seeding import mixed, seeded
from workbench.tasks import cross_entropy, user_metrics
from workbench.tasks.examples import Examples
from workbench.training.learner import Learner, counted_nats, score
from workbench.training.progress import Goal

PROGRESS_REPORTS = 10  # per evaluation; counted in batches, not seconds, so that repeated steps give the same log


def evaluate(
    learner: Learner, examples: Examples | None = None, *, split: str = "validation"
) -> Iterator[EvaluationProgressed | EvaluationEnded]:
    """Evaluate the model; yield the progress and finally the metrics.

    The loss is the summed cross-entropy divided by the number of targets, so it does not depend on how the rows are
    batched. If the plan's `stop_metric` on the learner's own validation examples is the best so far, the current step
    becomes the learner's best step.

    Args:
        learner: The learner whose model is evaluated.
        examples: The examples to evaluate on; by default the learner's validation examples.
        split: Name of the split that these examples are from, for the events.

    Raises:
        RunError: One of the learner's own metrics can't be computed for this task.
        PlanError: This run does not compute the plan's `stop_metric`.
    """
    _check_metrics(learner)
    rows, totals = learner.validation if examples is None else examples, _Totals()
    choice = learner.plan.tuning
    batches = rows.sorted_batches(min(64, choice.batch_size), tokens=choice.batch_tokens)
    learner.model.eval()
    for number, indices in enumerate(batches, start=1):
        _count(learner, rows, indices, totals)
        if number % math.ceil(len(batches) / PROGRESS_REPORTS) == 0 and number < len(batches):
            yield EvaluationProgressed(
                step=learner.step, split=split, loss=totals.loss, rows_done=totals.rows, rows=len(rows)
            )
    counted = learner.task.metrics(totals.loss, totals.predictions, totals.references)
    metrics = user_metrics.added(counted, learner.metrics, totals.predictions, totals.references)
    yield EvaluationEnded(
        step=learner.step,
        split=split,
        metrics=metrics,
        rows=totals.rows,
        targets=totals.targets,
        seconds=totals.seconds,
        best=examples is None and _record(learner, metrics),
    )


def nonfinite_examples(learner: Learner, batches: Sequence[Sequence[int]]) -> tuple[int, ...]:
    """Return the training examples whose loss is not finite even if each is scored alone.

    They are scored as in the learner's next step: same modes, same seed of the dropout. The result is empty if only
    the whole batch overflows, and holds all examples if the weights are damaged. The model is left unchanged,
    including its running statistics.

    Args:
        learner: The learner whose step failed.
        batches: The batches of this step, as indices of training examples.
    """
    kept = [(buffer, buffer.clone()) for buffer in learner.model.buffers()]
    with torch.no_grad(), seeded(mixed(learner.plan.tuning.seed, learner.step, stream="dropout"), learner.device):
        suspects = [index for indices in batches if not _is_finite(learner, indices) for index in indices]
        # twice in one batch: in training mode batch norm rejects a single value per channel
        found = tuple(index for index in suspects if not _is_finite(learner, [index, index]))
        for buffer, before in kept:
            buffer.copy_(before)
    return found


def _is_finite(learner: Learner, indices: Sequence[int]) -> bool:
    return math.isfinite(counted_nats(learner, learner.batch(learner.train, indices))[0].item())


def _check_metrics(learner: Learner) -> None:
    if learner.metrics and not learner.task.predicts_classes:
        names = ", ".join(metric.name for metric in learner.metrics)
        what = f"the metrics {names} compare class ids, but {learner.backbone.task} predicts none"
        raise RunError(what, hint="leave out `metrics=`: loss and perplexity are always computed")


def _count(learner: Learner, examples: Examples, indices: Sequence[int], totals: "_Totals") -> None:
    start = time.perf_counter()  # time only the batch: between batches the caller may do anything
    batch = learner.batch(examples, indices)
    with torch.no_grad():
        if learner.task.predicts_classes:
            logits, truth = score(learner, batch)
            nats, targets = cross_entropy.summed(logits, truth), len(truth)
            totals.predictions += logits.argmax(-1).tolist()
            totals.references += truth.tolist()
        else:
            nats, targets = counted_nats(learner, batch)
    totals.nats += nats.item()
    totals.targets += targets
    totals.rows += len(indices)
    totals.seconds += time.perf_counter() - start


def _record(learner: Learner, metrics: Mapping[str, float]) -> bool:
    """Record an evaluation of the validation examples; return whether it is the best one so far."""
    goal = Goal.of(learner.plan.monitoring)
    if goal.metric not in metrics and learner.progress.evaluated_step is None:
        raise PlanError(
            f"stop_metric is {goal.metric!r}; expected one of {', '.join(metrics)}",
            hint=nearest(goal.metric, metrics),
        )
    return learner.progress.note_evaluation(metrics, goal)


@dataclass
class _Totals:
    """Sums over the batches evaluated so far."""

    nats: float = 0.0
    targets: int = 0
    rows: int = 0
    seconds: float = 0.0
    predictions: list[int] = field(default_factory=list)
    references: list[int] = field(default_factory=list)

    @property
    def loss(self) -> float:
        """Nats per target."""
        return self.nats / self.targets if self.targets else math.nan

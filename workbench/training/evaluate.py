"""Measuring a learner on held-out rows: nats summed over counted targets, whatever the batches.

Also finds the training examples that spoil a loss.
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

PROGRESS_REPORTS = 10  # how often an evaluation tells how far it is, counted in batches so that logs can be compared


def evaluate(
    learner: Learner, examples: Examples | None = None, *, split: str = "validation"
) -> Iterator[EvaluationProgressed | EvaluationEnded]:
    """Measure the model, telling now and then how far it is.

    The loss is the sum of nats over the count of targets, so it does not depend on how rows are batched. The best
    value so far of the plan's `stop_metric` on the learner's own validation examples makes this its best step.

    Args:
        learner: Whose model is measured.
        examples: On what; the learner's validation examples if left out.
        split: What these examples are, for the events.

    Raises:
        RunError: One of the learner's own metrics can't be computed for this task.
        PlanError: The plan's `stop_metric` is none of those that this run measures.
    """
    _check_metrics(learner)
    rows, tally = learner.validation if examples is None else examples, Tally()
    choice = learner.plan.tuning
    batches = rows.sorted_batches(min(64, choice.batch_size), tokens=choice.batch_tokens)
    learner.model.eval()
    for number, indices in enumerate(batches, start=1):
        _count(learner, rows, indices, tally)
        if number % math.ceil(len(batches) / PROGRESS_REPORTS) == 0 and number < len(batches):
            yield EvaluationProgressed(
                step=learner.step, split=split, loss=tally.loss, rows_done=tally.rows, rows=len(rows)
            )
    counted = learner.task.metrics(tally.loss, tally.predictions, tally.references)
    metrics = user_metrics.added(counted, learner.metrics, tally.predictions, tally.references)
    yield EvaluationEnded(
        step=learner.step,
        split=split,
        metrics=metrics,
        rows=tally.rows,
        targets=tally.targets,
        seconds=tally.seconds,
        best=examples is None and _note(learner, metrics),
    )


def nonfinite_examples(learner: Learner, window: Sequence[Sequence[int]]) -> tuple[int, ...]:
    """Return the training examples of a window whose loss is not finite even if each is scored alone.

    Scored as in the learner's next step: same modes, same seed of dropout. None if only together they overflow; all of
    them if it is the weights that are spoilt. The model stays as it was, running statistics included.

    Args:
        learner: What was about to take the step.
        window: The batches of indices of its training examples.
    """
    kept = [(buffer, buffer.clone()) for buffer in learner.model.buffers()]
    with torch.no_grad(), seeded(mixed(learner.plan.tuning.seed, learner.step, stream="dropout"), learner.device):
        suspects = [index for indices in window if not _is_finite(learner, indices) for index in indices]
        # each twice: a batch norm refuses to be trained on a single value a channel
        found = tuple(index for index in suspects if not _is_finite(learner, [index, index]))
        for buffer, before in kept:
            buffer.copy_(before)
    return found


def _is_finite(learner: Learner, indices: Sequence[int]) -> bool:
    return math.isfinite(counted_nats(learner, learner.batch(learner.train, indices))[0].item())


def _check_metrics(learner: Learner) -> None:
    if learner.metrics and not learner.task.predicts_classes:
        names = ", ".join(metric.name for metric in learner.metrics)
        what = f"the metrics {names} compare class ids, and {learner.backbone.task} predicts none"
        raise RunError(what, hint="no `metrics=` here: loss and perplexity are measured")


def _count(learner: Learner, examples: Examples, indices: Sequence[int], tally: "Tally") -> None:
    begun = time.perf_counter()  # the time between two batches is the listener's
    batch = learner.batch(examples, indices)
    with torch.no_grad():
        if learner.task.predicts_classes:
            logits, truth = score(learner, batch)
            nats, targets = cross_entropy.summed(logits, truth), len(truth)
            tally.predictions += logits.argmax(-1).tolist()
            tally.references += truth.tolist()
        else:
            nats, targets = counted_nats(learner, batch)
    tally.nats += nats.item()
    tally.targets += targets
    tally.rows += len(indices)
    tally.seconds += time.perf_counter() - begun


def _note(learner: Learner, metrics: Mapping[str, float]) -> bool:
    """Take note of an evaluation of the validation examples; return whether it is the best one so far."""
    goal = Goal.of(learner.plan.monitoring)
    if goal.metric not in metrics and learner.progress.evaluated_step is None:
        raise PlanError(
            f"stop_metric is {goal.metric!r}; this run measures {', '.join(metrics)}",
            hint=nearest(goal.metric, metrics),
        )
    return learner.progress.note_evaluation(metrics, goal)


@dataclass
class Tally:
    """What an evaluation has counted so far."""

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

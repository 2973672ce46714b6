"""Measuring a learner on held-out rows: nats summed over counted targets, whatever the batches."""

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor

from workbench.events import EvaluationEnded, EvaluationProgressed
from workbench.learner import Learner, score, summed_nats

PROGRESS_REPORTS = 10  # how often an evaluation tells how far it is, counted in batches so that logs can be compared


def evaluate(learner: Learner, *, split: str = "validation") -> Iterator[EvaluationProgressed | EvaluationEnded]:
    """Measure the model on its validation examples, telling now and then how far it is.

    The loss is the sum of nats over the count of targets, so it does not depend on how rows are batched. A new lowest
    loss makes this the learner's best step.
    """
    begun = time.perf_counter()
    examples, tally = learner.validation, Tally()
    batches = examples.sorted_batches(min(64, learner.plan.tuning.batch_size))
    learner.model.eval()
    for number, indices in enumerate(batches, start=1):
        with torch.no_grad():
            tally.add(*score(learner, examples.batch(indices)))
        tally.rows += len(indices)
        if number % math.ceil(len(batches) / PROGRESS_REPORTS) == 0 and number < len(batches):
            yield EvaluationProgressed(
                step=learner.step, split=split, loss=tally.loss, rows_done=tally.rows, rows=len(examples)
            )
    yield _measured(learner, tally, split, time.perf_counter() - begun)


def _measured(learner: Learner, tally: "Tally", split: str, seconds: float) -> EvaluationEnded:
    learner.measured_step = learner.step
    is_best = tally.loss < learner.best_loss
    if is_best:
        learner.best_step, learner.best_loss = learner.step, tally.loss
    return EvaluationEnded(
        step=learner.step,
        split=split,
        metrics=learner.task.metrics(tally.loss, tally.predictions, tally.references),
        rows=tally.rows,
        targets=tally.targets,
        seconds=seconds,
        best=is_best,
    )


@dataclass
class Tally:
    """What an evaluation has counted so far."""

    nats: float = 0.0
    targets: int = 0
    rows: int = 0
    predictions: list[int] = field(default_factory=list)
    references: list[int] = field(default_factory=list)

    @property
    def loss(self) -> float:
        """Nats per target."""
        return self.nats / self.targets if self.targets else math.nan

    def add(self, logits: Tensor, targets: Tensor) -> None:
        """Count one batch: logits (targets, classes), true classes (targets,)."""
        self.nats += summed_nats(logits, targets).item()
        self.targets += len(targets)
        self.predictions += logits.argmax(-1).tolist()
        self.references += targets.tolist()

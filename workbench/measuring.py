"""Measuring a learner on held-out rows: nats summed over counted targets, whatever the batches."""

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import torch

from workbench.events import EvaluationEnded, EvaluationProgressed
from workbench.learner import Learner, score, summed_nats
from workbench.tasks.examples import Batch, Examples

PROGRESS_REPORTS = 10  # how often an evaluation tells how far it is, counted in batches so that logs can be compared


def evaluate(
    learner: Learner, examples: Examples | None = None, *, split: str = "validation"
) -> Iterator[EvaluationProgressed | EvaluationEnded]:
    """Measure the model, telling now and then how far it is.

    The loss is the sum of nats over the count of targets, so it does not depend on how rows are batched. A new lowest
    loss on the learner's own validation examples makes this its best step.

    Args:
        learner: Whose model is measured.
        examples: On what; the learner's validation examples if left out.
        split: What these examples are, for the events.
    """
    rows, tally = learner.validation if examples is None else examples, Tally()
    batches = rows.sorted_batches(min(64, learner.plan.tuning.batch_size))
    learner.model.eval()
    for number, indices in enumerate(batches, start=1):
        _count(learner, rows.batch(indices), tally)
        if number % math.ceil(len(batches) / PROGRESS_REPORTS) == 0 and number < len(batches):
            yield EvaluationProgressed(
                step=learner.step, split=split, loss=tally.loss, rows_done=tally.rows, rows=len(rows)
            )
    yield _measured(learner, tally, split, is_best=examples is None and _note_best(learner, tally.loss))


def _count(learner: Learner, batch: Batch, tally: "Tally") -> None:
    begun = time.perf_counter()  # the time between two batches is the listener's
    with torch.no_grad():
        logits, targets = score(learner, batch)
    tally.nats += summed_nats(logits, targets).item()
    tally.targets += len(targets)
    tally.rows += len(batch["labels"])
    if learner.task.names_classes:
        tally.predictions += logits.argmax(-1).tolist()
        tally.references += targets.tolist()
    tally.seconds += time.perf_counter() - begun


def _note_best(learner: Learner, loss: float) -> bool:
    learner.measured_step = learner.step
    is_best = loss < learner.best_loss
    if is_best:
        learner.best_step, learner.best_loss = learner.step, loss
    return is_best


def _measured(learner: Learner, tally: "Tally", split: str, *, is_best: bool) -> EvaluationEnded:
    return EvaluationEnded(
        step=learner.step,
        split=split,
        metrics=learner.task.metrics(tally.loss, tally.predictions, tally.references),
        rows=tally.rows,
        targets=tally.targets,
        seconds=tally.seconds,
        best=is_best,
    )


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

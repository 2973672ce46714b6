"""Finds the cut of a learner, with probe batches of its examples."""

import torch

from workbench.speed.prefix_cache import find_cut
from workbench.speed.prefix_cache.cut import Cut, UncuttableError
from workbench.speed.prefix_cache.prove_cut import ProbeBatch
from workbench.speed.prefix_cache.rows import rows_and_time
from workbench.tasks.examples import Examples
from workbench.training.learner import Learner


def by_length(examples: Examples) -> list[int]:
    """Return the indices of the examples from the shortest to the longest."""
    return sorted(range(len(examples)), key=lambda index: (examples.lengths[index], index))


def spread(examples: Examples) -> list[int]:
    """Return the indices of up to four examples from the shortest to the longest, both included."""
    order = by_length(examples)
    return list(dict.fromkeys(order[(len(order) - 1) * third // 3] for third in range(4)))


def cut_below(learner: Learner, first: int) -> Cut:
    """Return the cut below block `first`.

    The probe batches are the shortest training examples, and a batch with a longer example if there is one.

    Raises:
        UncuttableError: The model can't be cut there, or its inputs differ each time.
    """
    order = by_length(learner.train)
    short = [order[0], order[min(1, len(order) - 1)]]
    small = _probe_batch(learner, learner.train, short)
    large = _probe_batch(learner, *_longer(learner, short))
    if (small.time, large.time) == (2, 3):  # the batches have 2 and 3 rows, so rows and time would be confused
        examples, indices = _longer(learner, short)
        large = _probe_batch(learner, examples, [*indices, indices[-1]])
    return find_cut.find(learner.model, learner.backbone.blocks, first, (small, large))


def _longer(learner: Learner, short: list[int]) -> tuple[Examples, list[int]]:
    """Return three examples of one split; if possible, the longest of them has another length than the short ones."""
    time = learner.train.lengths[short[-1]]
    for examples in (learner.train, learner.validation):
        order = by_length(examples)
        for index in order:
            if examples.lengths[index] > time or (examples is not learner.train and examples.lengths[index] != time):
                return examples, [order[0], order[0], index]
    return learner.train, [*short, short[-1]]


def _probe_batch(learner: Learner, examples: Examples, indices: list[int]) -> ProbeBatch:
    batch = learner.settings.to_device(examples.padded(indices), learner.device)
    again = examples.padded(indices)
    if any(not torch.equal(value.cpu(), again[name]) for name, value in batch.items()):
        raise UncuttableError("the same rows give different inputs each time (random augmentation)")
    return ProbeBatch(lambda: learner.task.score(learner.model, batch)[0], *rows_and_time(batch))

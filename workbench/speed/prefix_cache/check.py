"""Compares what was kept of some rows with what crosses the cut when they are run again, in other batches.

It is what crosses that decides, which nothing that learns changes. Left out: whether a model can be cut at all, which
is proven before anything is kept (transfer/proving.py).
"""

import torch
from torch import Tensor

from workbench.speed.prefix_cache.cut import Cut, UncuttableError
from workbench.speed.prefix_cache.patch import activations_at_cut, capture_at_cut
from workbench.speed.prefix_cache.rows import Reuse, crossing, taken
from workbench.tasks.examples import Batch, Examples
from workbench.training.learner import Learner

SAME = 1e-4  # of the largest number that crosses, in fp32, between two batches that a row is in
TOLERANCE = {"fp32": SAME, "bf16": 0.1}  # of the largest number that crosses, between two batches that a row is in
WIDE = {"fp32": 1e-3, "bf16": 0.5}  # of the largest logit: answers hang on what learns, so only what is plainly wrong


def check(learner: Learner, cut: Cut, examples: Examples, reuse: Reuse) -> None:
    """Compare what was kept with what crosses the cut in other batches.

    One is a short example alone and one has a long one beside it, so that a row that hangs on its neighbours, or on
    where padding puts it, is found out: in fp32 too, where a run in bf16 would take it for rounding.

    Raises:
        UncuttableError: They differ.
    """
    some = spread(examples)
    if learner.precision != "fp32" and not (apart := _hangs(learner, cut, examples, some)) <= SAME:
        raise UncuttableError(f"what a row gives hangs on the batch it is in: in fp32 it differs by {apart:.1g} of it")
    for indices in (some[:1], [some[0], some[-1]]):
        crosses, answers = _apart(learner, cut, examples, indices, reuse)
        if not crosses <= TOLERANCE[learner.precision]:
            raise UncuttableError(f"what a row gives hangs on the batch it is in: it differs by {crosses:.1g} of it")
        if not answers <= WIDE[learner.precision]:
            raise UncuttableError("from what was kept, the model answers otherwise than from its inputs")


def _hangs(learner: Learner, cut: Cut, examples: Examples, some: list[int]) -> float:
    """Return how far what a row gives alone is from what it gives beside another, in fp32, of the largest."""
    alone, beside = (_first_row(learner, cut, examples, indices) for indices in (some[:1], [some[0], some[-1]]))
    return float((alone - beside).abs().max()) / max(1e-6, float(alone.abs().max()))


@torch.no_grad()
def _first_row(learner: Learner, cut: Cut, examples: Examples, indices: list[int]) -> Tensor:
    """Return what crosses the cut for the first of these examples, run together in fp32."""
    batch = learner.settings.moved(examples.padded(indices), learner.device)
    crosses = activations_at_cut(learner.model, cut, lambda: learner.task.nats(learner.model, batch))
    places, counts = taken(crosses, cut, batch, with_padding="")
    return places[: counts[0]]


def _apart(learner: Learner, cut: Cut, examples: Examples, indices: list[int], reuse: Reuse) -> tuple[float, float]:
    """Return how far what crosses is from what was kept, and the answers from those there, each of the largest."""
    rows = reuse.rows[id(examples)]
    batch = learner.settings.moved(examples.padded(indices), learner.device)
    cached = reuse.batch(learner, examples, indices)
    assert cached is not None  # of these very examples something was kept
    with torch.no_grad(), learner.settings.autocast(learner.device):
        with capture_at_cut(learner.model, cut) as found:
            whole = _answer(learner, batch)
        with reuse.standing_in(learner.model, cached) as inputs:
            from_cut = _answer(learner, inputs)
    now, _ = taken(found[0], cut, batch, with_padding=rows.with_padding)
    kept, _ = taken(crossing(rows, cut, indices, batch), cut, batch, with_padding=rows.with_padding)
    crosses = float((now.cpu().float() - kept.float()).abs().max()) / max(1e-6, float(now.abs().max()))
    answers = float((from_cut - whole).abs().max()) / max(0.1, float(whole.abs().max())) if whole.numel() else 0.0
    return crosses, answers


def _answer(learner: Learner, inputs: Batch) -> Tensor:
    """Return logits, or a loss where logits take hundreds of megabytes."""
    if learner.task.names_classes:
        return learner.task.score(learner.model, inputs)[0].float()
    nats, targets = learner.task.nats(learner.model, inputs)
    return nats / max(1, targets)


def by_length(examples: Examples) -> list[int]:
    """Return the examples from the shortest to the longest."""
    return sorted(range(len(examples)), key=lambda index: (examples.lengths[index], index))


def spread(examples: Examples) -> list[int]:
    """Return some examples from the shortest to the longest, both included."""
    order = by_length(examples)
    return list(dict.fromkeys(order[(len(order) - 1) * place // 3] for place in range(4)))

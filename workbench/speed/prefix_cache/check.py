"""Compares cached activations with activations that are computed again, in other batches.

The comparison is made at the cut, because training does not change the activations there. Left out: whether a model
can be cut at all (prove_cut.py).
"""

import torch
from torch import Tensor

from workbench.speed.prefix_cache.cut import Cut, UncuttableError
from workbench.speed.prefix_cache.patch import activations_at_cut, capture_at_cut
from workbench.speed.prefix_cache.probe import spread
from workbench.speed.prefix_cache.rows import CachedSplits, join_rows, split_rows
from workbench.tasks.examples import Batch, Examples
from workbench.training.learner import Learner

TOLERANCE = {"fp32": 1e-4, "bf16": 0.1}  # relative to the largest activation
# Relative to the largest logit. Trainable weights may amplify rounding, so only large differences count.
OUTPUT_TOLERANCE = {"fp32": 1e-3, "bf16": 0.5}


def check(learner: Learner, cached: CachedSplits, examples: Examples) -> None:
    """Compare the cached activations of a short example with those in a batch of one row, and next to a long example.

    This shows whether a row depends on the other rows of its batch or on its padding. In bf16 a small dependence looks
    like rounding, so a run in bf16 is checked in fp32 as well.

    Raises:
        UncuttableError: They differ.
    """
    some = spread(examples)
    alone, together = some[:1], [some[0], some[-1]]
    if learner.precision != "fp32":
        rows = (_first_row(learner, cached.cut, examples, indices) for indices in (together, alone))
        _check_activations(_relative_difference(*rows), "fp32")
    for indices in (alone, together):
        activations, output = _differences(learner, cached, examples, indices)
        _check_activations(activations, learner.precision)
        if not output <= OUTPUT_TOLERANCE[learner.precision]:
            raise UncuttableError("the model's output from cached activations differs from its output from the inputs")


def _check_activations(difference: float, precision: str) -> None:
    if not difference <= TOLERANCE[precision]:  # NaN included
        raise UncuttableError(
            f"the activations of a row depend on its batch (relative difference {difference:.1g} in {precision})"
        )


@torch.no_grad()
def _first_row(learner: Learner, cut: Cut, examples: Examples, indices: list[int]) -> Tensor:
    """Return the activations of the first of these examples, computed in one batch in fp32."""
    batch = learner.settings.to_device(examples.padded(indices), learner.device)
    activations = activations_at_cut(learner.model, cut, lambda: learner.task.nats(learner.model, batch))
    positions, counts = split_rows(activations, cut, batch, with_padding=False)
    return positions[: counts[0]]


def _differences(learner: Learner, cached: CachedSplits, examples: Examples, indices: list[int]) -> tuple[float, float]:
    """Return the relative differences between a run from the inputs and a run from the cache.

    Returns:
        The difference of the activations at the cut, and that of the output.
    """
    rows, batch = cached.of(examples), learner.settings.to_device(examples.padded(indices), learner.device)
    cached_batch = cached.batch(learner, examples, indices)
    assert rows is not None
    assert cached_batch is not None
    with torch.no_grad(), learner.settings.autocast(learner.device):
        with capture_at_cut(learner.model, cached.cut) as found:
            output = _output(learner, batch)
        with cached.running(learner.model, cached_batch) as inputs:
            output_from_cache = _output(learner, inputs)
    activations, from_cache = (
        split_rows(value, cached.cut, batch, with_padding=bool(rows.padding_side))[0].cpu().float()
        for value in (found[0], join_rows(rows, cached.cut, indices, batch))
    )
    return (
        _relative_difference(from_cache, activations),
        _relative_difference(output_from_cache, output, floor=0.1),
    )


def _output(learner: Learner, inputs: Batch) -> Tensor:
    """Return the logits, or the loss of a language model, whose logits can take hundreds of megabytes."""
    if learner.task.predicts_classes:
        return learner.task.score(learner.model, inputs)[0].float()
    nats, targets = learner.task.nats(learner.model, inputs)
    return nats / max(1, targets)


def _relative_difference(value: Tensor, reference: Tensor, *, floor: float = 1e-6) -> float:
    """Return the largest difference, divided by the largest number of the reference (at least by `floor`)."""
    if not reference.numel():
        return 0.0
    return float((value - reference).abs().max()) / max(floor, float(reference.abs().max()))

"""How far apart two fp32 computations of the same loss, or of the same logits, may lie.

Batches of another shape, and processors with other instructions (AMX, AVX2), take other kernels, which add in another
order. What that changes is a few units in the last place of the numbers that are added, so every bound is relative.
"""

import pytest
from torch import Tensor

BOUND = 1e-6  # eight units in the last place of fp32 (2**-23); the largest difference seen of a mean loss is 1.8e-7


def same_loss(expected: float):
    """Compares equal to a loss that differs from this one by rounding alone."""
    return pytest.approx(expected, rel=BOUND, abs=0)


def differ(one: Tensor, other: Tensor) -> float:
    """Return the largest difference of two tensors, relative to their largest entry: a sum near zero rounds as much."""
    return ((one - other).abs().max() / other.abs().max()).item()

"""A cut divides a model into frozen lower modules, which are skipped, and upper modules, which run.

The activations at the cut are the inputs of the upper part. They are cached.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils._pytree import TreeSpec, tree_unflatten

Size = int | str  # size of one dimension: a number, or ROWS or TIME if it is that of the batch
ROWS, TIME = "rows", "time"


class UncuttableError(Exception):
    """The reason why a model can't be cut here, in words for the user."""


@dataclass(frozen=True)
class Shape:
    """Shape and dtype of a tensor, for any batch."""

    sizes: tuple[Size, ...]
    dtype: torch.dtype

    def of(self, rows: int, time: int) -> tuple[int, ...]:
        """Return the sizes for a batch of so many rows and so many positions per row."""
        known = {ROWS: rows, TIME: time}
        return tuple(known[size] if isinstance(size, str) else size for size in self.sizes)

    def axis(self, size: str) -> int | None:
        """Return the dimension of ROWS or TIME; None if there is none."""
        return self.sizes.index(size) if size in self.sizes else None

    def filled(self, rows: int, time: int, fill: float, device: torch.device) -> torch.Tensor:
        """Return a tensor of this shape full of one number; it is expanded, so it takes no memory."""
        value = fill if self.dtype.is_floating_point else 0
        return torch.full((), value, dtype=self.dtype, device=device).expand(self.of(rows, time))


@dataclass(frozen=True)
class StandIn:
    """Replaces the output of a skipped module: same structure and shapes, without the values."""

    leaves: tuple[Any, ...]  # a Shape for each tensor in the output; other leaves unchanged
    spec: TreeSpec

    def build(self, rows: int, time: int, fill: float, device: torch.device) -> Any:
        """Return an output with these shapes for a batch of these sizes."""
        leaves = [leaf.filled(rows, time, fill, device) if isinstance(leaf, Shape) else leaf for leaf in self.leaves]
        return tree_unflatten(leaves, self.spec)


@dataclass(frozen=True)
class Cut:
    """Where a model is cut.

    Attributes:
        boundary: Name of the first block above the cut.
        entry: Path of the module that receives the cached activations.
        slots: Indices of the activations among the leaves of the entry's (args, kwargs).
        skipped: Path of each module that does not run -> stand-in for its output.
        shape: Shape of the activations of a batch.
        tail: Paths of the modules that compute the logits from the activations, each from the output of the one
            before; () if they are not such a chain, so that the model's own forward has to run.
        first_of: Dimension of which the upper part reads only index 0, as with a [CLS] token; None if it reads all.
    """

    boundary: str
    entry: str
    slots: tuple[int, ...]
    skipped: Mapping[str, StandIn]
    shape: Shape
    first_of: int | None = None
    tail: tuple[str, ...] = ()

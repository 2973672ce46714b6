"""What a cut through a model is: where it runs, what need not run below it, and the form of what crosses it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils._pytree import TreeSpec, tree_unflatten

Size = int | str  # of one dimension: a number, or ROWS or TIME where it is that of the batch
ROWS, TIME = "rows", "time"


class UncuttableError(Exception):
    """Why a model can't be cut here, in words for the person who trains it."""


@dataclass(frozen=True)
class Shape:
    """The form of a tensor, whatever the batch."""

    sizes: tuple[Size, ...]
    dtype: torch.dtype

    def of(self, rows: int, time: int) -> tuple[int, ...]:
        """Return the sizes for a batch of so many rows and places a row."""
        known = {ROWS: rows, TIME: time}
        return tuple(known[size] if isinstance(size, str) else size for size in self.sizes)

    def axis(self, size: str) -> int | None:
        """Return the dimension of ROWS or TIME, if there is one."""
        return self.sizes.index(size) if size in self.sizes else None

    def blank(self, rows: int, time: int, fill: float, device: torch.device) -> torch.Tensor:
        """Return a tensor of this form that takes no memory: one number, seen everywhere."""
        value = fill if self.dtype.is_floating_point else 0
        return torch.full((), value, dtype=self.dtype, device=device).expand(self.of(rows, time))


@dataclass(frozen=True)
class StandIn:
    """What a module gives that is not run: the form of its output, with nothing in it."""

    leaves: tuple[Any, ...]  # a Shape for each tensor in the output; numbers and the like as they are
    spec: TreeSpec

    def made(self, rows: int, time: int, fill: float, device: torch.device) -> Any:
        """Return such an output for a batch of these sizes."""
        leaves = [leaf.blank(rows, time, fill, device) if isinstance(leaf, Shape) else leaf for leaf in self.leaves]
        return tree_unflatten(leaves, self.spec)


@dataclass(frozen=True)
class Cut:
    """Where a model is cut.

    Attributes:
        boundary: Name of the first block that is computed.
        entry: Path of the module that is handed what was kept.
        slots: Which of the things in its arguments that is, counted as leaves of (args, kwargs).
        skipped: Path of each module that does not run -> what stands in for its output.
        shape: Of what is kept, for a batch.
        tail: Paths of the modules that make the logits of what crosses, each of what the one before gives; () if there
            is more to it, and the model's own forward has to be run.
        first_of: Dimension of which only the first place is read above the cut, as a [CLS] token is; None: all are.
    """

    boundary: str
    entry: str
    slots: tuple[int, ...]
    skipped: Mapping[str, StandIn]
    shape: Shape
    first_of: int | None = None
    tail: tuple[str, ...] = ()

"""The training step of a run, as the trials of settings take it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from workbench.training.settings import Settings

MOST_ROWS = 8

Batch = dict[str, Tensor]


@dataclass(frozen=True)
class Trial:
    """The training step of a run, which can be taken in several ways.

    Attributes:
        model: The model of the run, with its blocks frozen and its adapters inserted.
        device: The device of the run.
        lengths: Length of each row; rows of medium length are tried.
        batch: Makes a batch of the rows with these indices.
        batch_size: Rows of a batch of the run, and the most that are tried.
        nats: Runs the model in training mode with the given settings and returns its summed loss in nats.
        batch_tokens: Limit on rows × longest row in a batch of the run; None if batches have `batch_size` rows.
        facts: What else the result may depend on, such as the task.
    """

    model: nn.Module
    device: torch.device
    lengths: Sequence[int]
    batch: Callable[[Sequence[int]], Batch]
    batch_size: int
    nats: Callable[[Settings, Batch], Tensor]
    batch_tokens: int | None = None
    facts: tuple[Any, ...] = ()

    @property
    def rows(self) -> int:
        """The maximum number of rows that are tried."""
        return min(MOST_ROWS, self.batch_size, len(self.lengths))

    @property
    def longest(self) -> int:
        """The length of the longest row, rounded up to a power of two, so that similar data share their settings."""
        return 1 << (max(self.lengths) - 1).bit_length()

    def middling(self, rows: int) -> list[int]:
        """Return the indices of this number of rows of medium length, the longest last."""
        order = sorted(range(len(self.lengths)), key=lambda row: (self.lengths[row], row))
        first = (len(order) - rows) // 2
        return order[first : first + rows]

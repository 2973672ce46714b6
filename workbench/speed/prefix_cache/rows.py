"""Splits the activations at a cut into the rows that they belong to, and joins cached rows into a batch.

A row has one or more positions: the tokens of a text (without padding, unless padding has labels), or else a single
position with all activations of the row. A cached row therefore fits into every batch: next to any other rows, padded
on either side, or packed with others.
"""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from workbench.data.labels import IGNORED
from workbench.speed.prefix_cache.cut import ROWS, TIME, Cut
from workbench.speed.prefix_cache.patch import start_at_cut
from workbench.speed.prefix_cache.store import StoredActivations
from workbench.tasks.examples import Batch, Examples
from workbench.training.learner import Learner

ACTIVATIONS = "activations"  # entry of a batch with the cached activations; it is not an input of the model


@dataclass(frozen=True)
class CachedRows:
    """The cached activations of some examples.

    Attributes:
        examples: The examples.
        stored: Their activations, in any order.
        starts: Index in `stored.values` at which each example begins.  # (examples,)
        counts: Number of positions of each example.  # (examples,)
        padding_side: "left" or "right" if padding on this side is cached too; "" if padding is not cached.
    """

    examples: Examples
    stored: StoredActivations
    starts: Tensor
    counts: Tensor
    padding_side: str = ""


@dataclass
class CachedSplits:
    """A cut, and the cached rows of the splits.

    Attributes:
        cut: The cut.
        rows: The cached rows of each split.
    """

    cut: Cut
    rows: list[CachedRows] = field(default_factory=list)

    def of(self, examples: Examples) -> CachedRows | None:
        """Return the cached rows of this very object; None if there are none."""
        return next((rows for rows in self.rows if rows.examples is examples), None)

    def batch(self, learner: Learner, examples: Examples, indices: Sequence[int]) -> Batch | None:
        """Return a batch on the learner's device with the cached activations of these examples; None without any."""
        if (rows := self.of(examples)) is None:
            return None
        inputs = examples.labels_only(indices) if self.cut.tail else examples.without_pixels(indices)
        activations = {ACTIVATIONS: join_rows(rows, self.cut, indices, inputs)}
        on_device = {name: value.to(learner.device) for name, value in inputs.items()}
        return on_device | learner.settings.to_device(activations, learner.device)

    @contextlib.contextmanager
    def running(self, model: nn.Module, batch: Batch) -> Iterator[Batch]:
        """Let the model start at the cut within the block; yield its other inputs. The batch is one of `batch`."""
        inputs = {name: value for name, value in batch.items() if name != ACTIVATIONS}
        rows, time = rows_and_time(inputs)
        with start_at_cut(model, self.cut, batch[ACTIVATIONS], rows=rows, time=time):
            yield inputs


def rows_and_time(batch: Mapping[str, Tensor]) -> tuple[int, int]:
    """Return the number of rows of a batch, and of positions per row (0 if rows are not token ids)."""
    if "input_ids" in batch:
        return int(batch["input_ids"].shape[0]), int(batch["input_ids"].shape[1])
    return len(next(iter(batch.values()))), 0


def real_positions(batch: Mapping[str, Tensor]) -> Tensor | None:
    """Return a boolean mask (rows, time) of the positions that are not padding; None if the batch has no mask."""
    if "real" in batch:
        return batch["real"]
    mask = batch.get("attention_mask")
    return mask.bool() if mask is not None and mask.ndim == 2 else None


def labelled_padding_side(batch: Mapping[str, Tensor]) -> str:
    """Return the side, "left" or "right", on which padding has labels; "" if padding has none."""
    real, labels = real_positions(batch), batch.get("labels")
    if real is None or labels is None or labels.shape != real.shape or not (labels[~real] != IGNORED).any():
        return ""
    return "right" if real[:, 0].all() else "left"


def split_rows(value: Tensor, cut: Cut, batch: Mapping[str, Tensor], *, with_padding: bool) -> tuple[Tensor, list[int]]:
    """Split the activations of a batch into rows.

    Args:
        value: The activations.
        cut: The cut.
        batch: The batch, which is not packed.
        with_padding: Whether to include the positions of padding.

    Returns:
        All positions, one row after the other (positions, features), and the number of positions of each row.
    """
    if cut.first_of is not None:
        value = value.narrow(cut.first_of, 0, 1)
    axes = _batch_axes(cut)
    value = value.movedim(axes, tuple(range(len(axes))))
    if cut.shape.axis(TIME) is None:
        return value.reshape(len(value), -1), [1] * len(value)
    positions, real = value.reshape(*value.shape[:2], -1), real_positions(batch)  # (rows, time, features)
    if with_padding or real is None:
        return positions.flatten(0, 1), [positions.shape[1]] * len(positions)
    return positions[real.to(positions.device)], real.sum(1).tolist()


def join_rows(rows: CachedRows, cut: Cut, indices: Sequence[int], batch: Mapping[str, Tensor]) -> Tensor:
    """Return the activations at the cut for a batch, from the cached rows.

    Args:
        rows: The cached rows.
        cut: The cut.
        indices: The examples of the batch.
        batch: Inputs of the batch, which may be packed; they show its size and its padding.
    """
    chosen = torch.tensor(indices)
    if "order" in batch:  # a packed batch has its examples in another order
        chosen = chosen[batch["order"].cpu()]
    count, time = rows_and_time(batch)
    if cut.shape.axis(TIME) is None:
        values = rows.stored.values.index_select(0, rows.starts.index_select(0, chosen))
    else:
        values = _positions(rows, chosen, time, None if rows.padding_side else real_positions(batch))
    sizes, axes = cut.shape.of(count, time), _batch_axes(cut)
    others = (size for axis, size in enumerate(sizes) if axis not in axes)
    return values.view(*(sizes[axis] for axis in axes), *others).movedim(tuple(range(len(axes))), axes)


def _positions(rows: CachedRows, chosen: Tensor, time: int, real: Tensor | None) -> Tensor:
    """Return the activations at each position of a batch, (rows × time, features), with zeros at padding.

    Args:
        rows: The cached rows.
        chosen: Index of each example, in the order of the batch.  # (examples,)
        time: Positions per row of the batch.
        real: Mask of the positions that are no padding (rows, time); None to take all positions from the cache.
    """
    values = rows.stored.values
    starts, counts = rows.starts.index_select(0, chosen), rows.counts.index_select(0, chosen)
    if real is None:
        if rows.padding_side == "left":  # a cached row may have more padding than the batch
            starts = starts + counts - time
        return values[(starts[:, None] + torch.arange(time)).flatten()]
    found = values.new_zeros(real.numel(), values.shape[1])
    spans = zip(starts.tolist(), counts.tolist(), strict=True)
    found[real.flatten().cpu()] = torch.cat([values[start : start + count] for start, count in spans])
    return found


def _batch_axes(cut: Cut) -> tuple[int, ...]:
    """Return the dimension of the rows and, if there is one, that of time."""
    found = (cut.shape.axis(ROWS), cut.shape.axis(TIME))
    return tuple(axis for axis in found if axis is not None)

"""Takes what crosses a cut apart into the rows it belongs to, and puts the rows of a batch together again.

A row keeps a number of *places*: the tokens of a text (never its padding, unless padding is labelled), or one place
that holds everything of it. So a row can stand in any batch, whatever its neighbours and whichever side is padded, and
in any place of a packed one.
"""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from workbench.data.labels import IGNORED
from workbench.speed.prefix_cache.cut import ROWS, TIME, Cut
from workbench.speed.prefix_cache.patch import start_at_cut
from workbench.speed.prefix_cache.store import StoredActivations
from workbench.tasks.examples import Batch, Examples
from workbench.training.learner import Learner

KEPT = "kept"  # entry of a batch that is no input of the model: what crosses the cut


@dataclass(frozen=True)
class Rows:
    """What was kept of the examples of a split.

    Attributes:
        kept: The numbers.
        starts: Where in them each example begins.  # (examples,)
        counts: Places of each example.  # (examples,)
        with_padding: Which side is padded, where padding is kept as well ("left" or "right"); "" where it is not.
    """

    kept: StoredActivations
    starts: Tensor
    counts: Tensor
    with_padding: str = ""


@dataclass
class Reuse:
    """A cut, and what was kept of the examples that are trained or measured on.

    Attributes:
        cut: Where.
        rows: Identity of a set of examples -> what was kept of it.
    """

    cut: Cut
    rows: dict[int, Rows] = field(default_factory=dict)

    def of(self, examples: Any) -> Rows | None:
        """Return what was kept of these very examples, if anything was."""
        return self.rows.get(id(examples))

    def batch(self, learner: Learner, examples: Examples, indices: Sequence[int]) -> Batch | None:
        """Return these examples as a batch on the learner's device, with what was kept of them, if anything was."""
        if (rows := self.of(examples)) is None:
            return None
        inputs = examples.labelled(indices) if self.cut.tail else examples.outlined(indices)
        kept = learner.settings.moved({KEPT: crossing(rows, self.cut, indices, inputs)}, learner.device)
        return {name: value.to(learner.device) for name, value in inputs.items()} | kept

    @contextlib.contextmanager
    def standing_in(self, model: nn.Module, batch: Batch) -> Iterator[Batch]:
        """Let the model begin at the cut while it runs this batch, made by `batch`; yield its other inputs."""
        inputs = {name: value for name, value in batch.items() if name != KEPT}
        rows, time = extent(inputs)
        with start_at_cut(model, self.cut, batch[KEPT], rows=rows, time=time):
            yield inputs


def extent(batch: Mapping[str, Tensor]) -> tuple[int, int]:
    """Return the rows of a batch and the places of each of them, 0 where it is not made of tokens."""
    if "input_ids" in batch:
        return int(batch["input_ids"].shape[0]), int(batch["input_ids"].shape[1])
    return len(next(iter(batch.values()))), 0


def real_places(batch: Mapping[str, Tensor]) -> Tensor | None:
    """Return which places (rows, time) of a batch hold a token, as bool; None where it has none or does not say."""
    if "real" in batch:
        return batch["real"]
    mask = batch.get("attention_mask")
    return mask.bool() if mask is not None and mask.ndim == 2 else None


def labels_padding(batch: Mapping[str, Tensor]) -> str:
    """Return the side on which padding is labelled as a target ("left" or "right"); "" where it is not."""
    real, labels = real_places(batch), batch.get("labels")
    if real is None or labels is None or labels.shape != real.shape or not (labels[~real] != IGNORED).any():
        return ""
    return "right" if real[:, 0].all() else "left"


def taken(value: Tensor, cut: Cut, batch: Mapping[str, Tensor], *, with_padding: str) -> tuple[Tensor, list[int]]:
    """Take what crossed the cut apart; return all places, row after row, and how many each row has.

    Args:
        value: What crossed.
        cut: Where.
        batch: What was run; not a packed one.
        with_padding: Whether to keep padding as well.
    """
    if cut.first_of is not None:
        value = value.narrow(cut.first_of, 0, 1)
    value = value.movedim(_front(cut), (0, 1)) if cut.shape.axis(TIME) is not None else value.movedim(_front(cut), (0,))
    if cut.shape.axis(TIME) is None:
        return value.reshape(len(value), -1), [1] * len(value)
    places, real = value.reshape(*value.shape[:2], -1), real_places(batch)  # (rows, time, features)
    if with_padding or real is None:
        return places.flatten(0, 1), [places.shape[1]] * len(places)
    return places[real.to(places.device)], real.sum(1).tolist()


def crossing(rows: Rows, cut: Cut, indices: Sequence[int], batch: Mapping[str, Tensor]) -> Tensor:
    """Put together what crosses the cut when this batch of these examples is run."""
    height, time = extent(batch)
    chosen = torch.tensor(indices)
    if "order" in batch:
        chosen = chosen[batch["order"].cpu()]
    starts = rows.starts.index_select(0, chosen)
    form = cut.shape.of(height, time)
    if cut.shape.axis(TIME) is None:
        return rows.kept.values.index_select(0, starts).view(_moved(form, cut)).movedim((0,), _front(cut))
    counts = rows.counts.index_select(0, chosen)
    if rows.with_padding == "left":
        starts = starts + counts - time
    real = None if rows.with_padding else real_places(batch)
    if real is None:
        found = rows.kept.values[(starts[:, None] + torch.arange(time)).flatten()]
    else:
        before = counts.cumsum(0) - counts  # places of the rows before
        found = rows.kept.values.new_zeros(height * time, rows.kept.values.shape[1])
        places = torch.arange(int(counts.sum())) + (starts - before).repeat_interleave(counts)
        found[real.flatten().cpu()] = rows.kept.values[places]
    return found.view(_moved(form, cut)).movedim((0, 1), _front(cut))


def _front(cut: Cut) -> tuple[int, ...]:
    """Return the dimensions of rows and, if there is one, of time."""
    found = (cut.shape.axis(ROWS), cut.shape.axis(TIME))
    return tuple(axis for axis in found if axis is not None)


def _moved(form: tuple[int, ...], cut: Cut) -> tuple[int, ...]:
    """Return the sizes with those of rows and time in front."""
    front = _front(cut)
    return (*(form[axis] for axis in front), *(size for axis, size in enumerate(form) if axis not in front))

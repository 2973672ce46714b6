"""Encoded examples, and the batches made from them. This module depends on no model and no task."""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import Module
from torch.nn.utils.rnn import pad_sequence

from workbench.plan.choices import Tuning
from workbench.plan.plan import order_of
from workbench.tasks import batching

Batch = dict[str, Tensor]  # model inputs by name, and "labels"
IGNORED = -100  # label of a position or row that is not a target
CACHED_ORDERS = 3  # orders of epochs that stay in memory, in addition to the current one


@dataclass(frozen=True)
class Examples:
    """Encoded rows, from which batches are made.

    Attributes:
        items: One entry per example, in a format that only `collate` knows.
        lengths: Length of each example in tokens (1 for an image), used to batch examples of similar length.
        labels: Class id of each example. For a language model, the token ids of each window, or IGNORED.
        collate: Makes one batch from items.
        notes: What the user should know about the encoding, such as the number of truncated texts.
        rows: Row of the split that each example was made from; () if example i is row i.
        outline: Makes a batch of the same shapes with zeros for expensive inputs (pixels); None if no input is
            expensive.
        content: Returns a hash of an item's model inputs, if that is cheaper than making its batch; None if not.
        layout: Rearranges a batch for training, such as packing (packing.py); None if training uses the plain batch.
        drawn_from: Number of examples that these are a sample of; None if they are all.
    """

    items: Sequence[Any]
    lengths: Sequence[int]
    labels: Sequence[Any]
    collate: Callable[[Sequence[Any]], Batch]
    notes: tuple[str, ...] = ()
    rows: Sequence[int] = ()
    outline: Callable[[Sequence[Any]], Batch] | None = None
    content: Callable[[Any], bytes] | None = None
    layout: Callable[[Batch], Batch] | None = None
    drawn_from: int | None = None
    _orders: dict[Any, Any] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )  # orders by choices and epoch

    def __len__(self) -> int:
        return len(self.items)

    def row(self, index: int) -> int:
        """Return the row of the split that this example was made from."""
        return self.rows[index] if self.rows else index

    def batch(self, indices: Sequence[int]) -> Batch:
        """Return these examples as one batch in the layout for training."""
        batch = self.padded(indices)
        return batch if self.layout is None else self.layout(batch)

    def without_pixels(self, indices: Sequence[int]) -> Batch:
        """Return the batch with zeros for expensive inputs, for a model that starts from cached activations."""
        if self.outline is None:
            return self.batch(indices)
        return self.outline([self.items[index] for index in indices])

    def labels_only(self, indices: Sequence[int]) -> Batch:
        """Return the labels of the batch, and other inputs only if they are needed to make the labels.

        This is enough for a model of which only the head runs, on cached activations.
        """
        if self.outline is not None or not isinstance(self.labels[0], int):
            return self.without_pixels(indices)
        return {"labels": torch.tensor([self.labels[index] for index in indices])}

    def targets(self, indices: Sequence[int]) -> int:
        """Return the number of targets of these examples."""
        if isinstance(self.labels[0], int):
            return sum(self.labels[index] != IGNORED for index in indices)
        return int((self.without_pixels(indices)["labels"] != IGNORED).sum())

    def padded(self, indices: Sequence[int]) -> Batch:
        """Return these examples as one plain batch: one row per example, padded to the longest."""
        return self.collate([self.items[index] for index in indices])

    def steps_per_epoch(self, choice: Tuning) -> int:
        """Return the number of optimizer steps in one pass over these examples."""
        steps: int = self._cached(choice, None, lambda: batching.steps_per_epoch(self.lengths, choice))
        return steps

    def batches_of_step(self, choice: Tuning, epoch: int, position: int) -> list[list[int]]:
        """Return the batches of one step, the `position`-th of an epoch, as lists of indices."""
        order: batching.Epoch = self._cached(choice, epoch, lambda: batching.epoch(self.lengths, choice, epoch))
        return order.batches_of_step(position, choice.accumulation_steps)

    def _cached(self, choice: Tuning, epoch: int | None, make: Callable[[], Any]) -> Any:
        key = (*order_of(choice), epoch)
        if (found := self._orders.get(key)) is None:  # another thread may remove it at any time
            for old in list(self._orders)[:-CACHED_ORDERS]:
                self._orders.pop(old, None)
            found = self._orders[key] = make()
        return found

    def sample(self, size: int, *, seed: int) -> "Examples":
        """Return at most `size` examples, drawn without replacement; the same seed gives the same examples."""
        if size >= len(self):
            return self
        order = torch.randperm(len(self), generator=torch.Generator().manual_seed(seed))[:size].sort().values.tolist()
        found: dict[str, Any] = {
            name: [values[i] for i in order] if values else ()
            for name in ("items", "lengths", "labels")
            for values in (getattr(self, name),)
        }
        return replace(self, **found, rows=[self.row(i) for i in order], drawn_from=len(self))

    def sorted_batches(self, size: int, *, tokens: int | None = None) -> list[list[int]]:
        """Return indices in batches of similar length, which keeps padding low.

        The shortest examples come first, so that progress can be reported soon.

        Args:
            size: Maximum number of examples in a batch.
            tokens: Maximum of examples × longest length in a batch of several examples; None for no limit.
        """
        order = sorted(range(len(self)), key=lambda index: (self.lengths[index], index))
        bounds = batching.batch_bounds([self.lengths[index] for index in order], size, tokens)
        return [order[start:end] for start, end in itertools.pairwise(bounds)]


def text_batch(sequences: Sequence[Tensor], tokenizer: Any) -> Batch:
    """Return token ids (batch, time) with their attention mask.

    Padding is always on the right, even if the tokenizer pads on the left for generation. Models with absolute
    positions, such as GPT-2, count positions from the left edge, so padding on the left would shift every token.

    Args:
        sequences: Token ids of each text, int64.  # (time,) each
        tokenizer: Provides the padding token id and the names of the model inputs.
    """
    input_ids = pad_sequence(list(sequences), batch_first=True, padding_value=tokenizer.pad_token_id)
    lengths = torch.tensor([len(sequence) for sequence in sequences])
    batch = {
        "input_ids": input_ids,
        "attention_mask": (torch.arange(input_ids.shape[1]) < lengths.unsqueeze(1)).long(),
    }
    if "token_type_ids" in tokenizer.model_input_names:
        batch["token_type_ids"] = torch.zeros_like(input_ids)
    return batch


def longest_input(backbone: Any, asked: int) -> int:
    """Return the maximum number of tokens of a text: `asked`, or fewer if the model or its tokenizer takes fewer."""
    limits = [asked]
    if (positions := backbone.positions) is not None:
        limits.append(positions - _reserved_positions(backbone.model))
    if (longest := backbone.preprocessor.model_max_length) and longest > 0:  # transformers writes 1e30 for no limit
        limits.append(int(longest))
    return min(limits)


def _reserved_positions(model: Module) -> int:
    """Return how many rows of the position table precede the first token: RoBERTa starts after its padding index."""
    tables = [m for name, m in model.named_modules() if name.endswith("position_embeddings")]
    return max(
        (table.padding_idx + 1 for table in tables if getattr(table, "padding_idx", None) is not None), default=0
    )

"""Encoded examples and the batches made of them; knows no model and no task."""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import Module
from torch.nn.utils.rnn import pad_sequence

from workbench.plan.choices import Tuning, order_of
from workbench.tasks import batching

Batch = dict[str, Tensor]  # model inputs by name, and "labels"
IGNORED = -100  # a label that is no target
KEPT = 3  # orders that are remembered beside the one in use


@dataclass(frozen=True)
class Examples:
    """Encoded rows, ready to be put together into batches.

    Attributes:
        items: One entry an example, in a form that only `collate` knows.
        lengths: What each example costs (tokens or pixels), to batch like with like.
        labels: Class id of each example; for a language model, of each token of a window, its id or IGNORED.
        collate: Puts items together into one batch.
        notes: What the user should know of the encoding, such as how many texts were cut.
        rows: The row of the split that each example was made of; () if it is one each, in order.
        outline: Puts items together into a batch of the same form whose costly inputs (pixels) are left blank; None
            if no input is costly.
        content: Returns a hash of what an item is to the model, where that is cheaper than its batch; None if not.
        layout: Lays a batch out anew for training, such as packed (packing.py); None if it stays as it is.
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
    _known: dict[Any, Any] = field(default_factory=dict, init=False, repr=False, compare=False)  # windows by choices

    def __len__(self) -> int:
        return len(self.items)

    def row(self, index: int) -> int:
        """Return the row of the split that this example was made of."""
        return self.rows[index] if self.rows else index

    def batch(self, indices: Sequence[int]) -> Batch:
        """Return these examples as one batch, laid out as for training."""
        batch = self.padded(indices)
        return batch if self.layout is None else self.layout(batch)

    def outlined(self, indices: Sequence[int]) -> Batch:
        """Return the batch with costly inputs left blank, for a model that begins above whatever reads them."""
        if self.outline is None:
            return self.batch(indices)
        return self.outline([self.items[index] for index in indices])

    def labelled(self, indices: Sequence[int]) -> Batch:
        """Return as little of the batch as tells the classes: for a model of which only the end is run."""
        if self.outline is not None or not isinstance(self.labels[0], int):
            return self.outlined(indices)
        return {"labels": torch.tensor([self.labels[index] for index in indices])}

    def targets(self, indices: Sequence[int]) -> int:
        """Return over how many targets the loss of these examples is."""
        if isinstance(self.labels[0], int):
            return sum(self.labels[index] != IGNORED for index in indices)
        return int((self.outlined(indices)["labels"] != IGNORED).sum())

    def padded(self, indices: Sequence[int]) -> Batch:
        """Return these examples as one batch, each in a row of its own."""
        return self.collate([self.items[index] for index in indices])

    def windows(self, choice: Tuning) -> int:
        """Return the optimizer steps in one pass over these examples."""
        found: int = self._once(choice, None, lambda: batching.windows_in(self.lengths, choice))
        return found

    def window(self, choice: Tuning, epoch: int, position: int) -> list[list[int]]:
        """Return the indices of the batches of one step: the `position`-th of an epoch."""
        order: batching.Epoch = self._once(choice, epoch, lambda: batching.epoch(self.lengths, choice, epoch))
        return order.window(position, choice.accumulation_steps)

    def _once(self, choice: Tuning, epoch: int | None, make: Callable[[], Any]) -> Any:
        key = (*order_of(choice), epoch)
        if (found := self._known.get(key)) is None:  # another thread may take it away at any time
            for old in list(self._known)[:-KEPT]:
                self._known.pop(old, None)
            found = self._known[key] = make()
        return found

    def sample(self, size: int, *, seed: int) -> "Examples":
        """Return at most `size` examples, drawn without replacement; same seed, same examples."""
        if size >= len(self):
            return self
        order = torch.randperm(len(self), generator=torch.Generator().manual_seed(seed))[:size].sort().values.tolist()
        found: dict[str, Any] = {
            name: [values[i] for i in order] if values else ()
            for name in ("items", "lengths", "labels")
            for values in (getattr(self, name),)
        }
        return replace(self, **found, rows=[self.row(i) for i in order])

    def sorted_batches(self, size: int, *, tokens: int | None = None) -> list[list[int]]:
        """Return indices in batches of like length, so that little is padding; shortest first, to tell soon.

        Args:
            size: Examples of a batch, at most.
            tokens: Examples × the longest of them, at most, though one is always a batch; no limit if left out.
        """
        order = sorted(range(len(self)), key=lambda index: (self.lengths[index], index))
        bounds = batching.cuts([self.lengths[index] for index in order], size, tokens)
        return [order[start:end] for start, end in itertools.pairwise(bounds)]


def text_batch(sequences: Sequence[Tensor], tokenizer: Any) -> Batch:
    """Return token ids (batch, time) with their attention mask.

    Padding goes to the right, whatever side the tokenizer prefers for generation: models with absolute positions,
    such as GPT-2, count them from the left edge, so padding there would move every token.

    Args:
        sequences: Token ids of each text, int64.  # (time,) each
        tokenizer: Names the id that fills up, and the inputs that its models take.
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
    """Return how many tokens a text may have: as asked, but no more than the model has positions for."""
    positions = getattr(backbone.model.config.get_text_config(), "max_position_embeddings", None) or asked
    return int(min(asked, positions - _reserved_positions(backbone.model), backbone.preprocessor.model_max_length))


def _reserved_positions(model: Module) -> int:
    """Return how many rows of the position table come before the first token's: RoBERTa counts on from padding."""
    tables = [m for name, m in model.named_modules() if name.endswith("position_embeddings")]
    return max(
        (table.padding_idx + 1 for table in tables if getattr(table, "padding_idx", None) is not None), default=0
    )

"""Encoded examples and the batches made of them; knows no model and no task."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import Module

Batch = dict[str, Tensor]  # model inputs by name, and "labels"
IGNORED = -100  # a label that is no target


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
    """

    items: Sequence[Any]
    lengths: Sequence[int]
    labels: Sequence[Any]
    collate: Callable[[Sequence[Any]], Batch]
    notes: tuple[str, ...] = ()
    rows: Sequence[int] = ()

    def __len__(self) -> int:
        return len(self.items)

    def row(self, index: int) -> int:
        """Return the row of the split that this example was made of."""
        return self.rows[index] if self.rows else index

    def batch(self, indices: Sequence[int]) -> Batch:
        """Return these examples as one batch."""
        return self.collate([self.items[index] for index in indices])

    def sample(self, size: int, *, seed: int) -> "Examples":
        """Return at most `size` examples, drawn without replacement; same seed, same examples."""
        if size >= len(self):
            return self
        order = torch.randperm(len(self), generator=torch.Generator().manual_seed(seed))[:size].sort().values.tolist()
        pick = [self.items[i] for i in order], [self.lengths[i] for i in order], [self.labels[i] for i in order]
        return Examples(*pick, self.collate, self.notes, [self.row(i) for i in order])

    def sorted_batches(self, size: int) -> list[list[int]]:
        """Return indices in batches of like length, so that little is padding; shortest first, to tell soon."""
        order = sorted(range(len(self)), key=lambda index: (self.lengths[index], index))
        return [order[start : start + size] for start in range(0, len(order), size)]


def pad(sequences: Sequence[Sequence[int]], value: int) -> Tensor:
    """Return the sequences as one (batch, time) tensor of int64, filled up with `value` on the right."""
    longest = max(map(len, sequences))
    return torch.tensor([[*sequence, *[value] * (longest - len(sequence))] for sequence in sequences])


def text_batch(sequences: Sequence[Sequence[int]], tokenizer: Any) -> Batch:
    """Return token ids (batch, time) with their attention mask.

    Padding goes to the right, whatever side the tokenizer prefers for generation: models with absolute positions,
    such as GPT-2, count them from the left edge, so padding there would move every token.
    """
    batch = {
        "input_ids": pad(sequences, tokenizer.pad_token_id),
        "attention_mask": pad([[1] * len(sequence) for sequence in sequences], 0),
    }
    if "token_type_ids" in tokenizer.model_input_names:
        batch["token_type_ids"] = torch.zeros_like(batch["input_ids"])
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

"""Text classification: one class per text. Texts longer than the limit are truncated.

The notes count truncated texts, texts without a token, and rows without a label.
"""

from collections.abc import Sequence

import torch
from datasets import Dataset
from torch import Tensor

from workbench.errors import counted
from workbench.models import Backbone
from workbench.plan import choices
from workbench.tasks.classification import Classification, rows_with_label
from workbench.tasks.examples import Batch, Examples, longest_input, text_batch


class TextClassification(Classification):
    """Text classification with an encoder or a decoder."""

    evaluation_rows = 400

    def encode(self, rows: Dataset, backbone: Backbone, choice: choices.Data) -> Examples:
        """Tokenize each text once; each batch is padded to its longest text."""
        tokenizer = backbone.preprocessor
        limit = longest_input(backbone, choice.max_length)
        texts, classes = list(rows["text"]), list(rows["label"])
        kept, notes = rows_with_label(classes)
        tokenized = zip(kept, _tokenize([texts[row] for row in kept], tokenizer, limit), strict=True)
        found = [(row, sequence) for row, sequence in tokenized if sequence]  # an empty text would be scored on padding
        if empty := len(kept) - len(found):
            notes = (*notes, f"{empty:,} of {counted(len(kept), 'text')} left out: without any token")
        if full := sum(len(sequence) == limit for _, sequence in found):
            notes = (
                *notes,
                f"{full:,} of {counted(len(found), 'text')} reach the limit of {limit} tokens and may be cut off",
            )

        def collate(items: Sequence[tuple[Tensor, int]]) -> Batch:
            sequences, labels = zip(*items, strict=True)
            return {**text_batch(sequences, tokenizer), "labels": torch.tensor(labels)}

        items = [(torch.tensor(sequence), classes[row]) for row, sequence in found]
        lengths, labels = [len(sequence) for sequence, _ in items], [label for _, label in items]
        return Examples(items, lengths, labels, collate, notes, [row for row, _ in found])


def _tokenize(texts: list[str], tokenizer: object, limit: int) -> list[list[int]]:
    if not texts:
        return []
    encoded = tokenizer(texts, truncation=True, max_length=limit, return_attention_mask=False)  # type: ignore[operator]
    ids: list[list[int]] = encoded["input_ids"]
    return ids

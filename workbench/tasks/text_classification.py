"""Text in, one class out. Texts longer than the limit are cut at the end, and counted."""

from collections.abc import Sequence

import torch
from datasets import Dataset

from workbench import choices
from workbench.baseline import Backbone
from workbench.tasks.classification import Classification
from workbench.tasks.examples import Batch, Examples, longest_input, text_batch


class TextClassification(Classification):
    """Sequence classification with an encoder or a decoder."""

    evaluation_rows = 400
    prefers_bf16 = True

    def encode(self, rows: Dataset, backbone: Backbone, choice: choices.Data) -> Examples:
        """Tokenize each text once; batches are padded to their own longest text."""
        tokenizer = backbone.preprocessor
        limit = longest_input(backbone, choice.max_length)
        ids = _tokenize(list(rows["text"]), tokenizer, limit)
        labels = list(rows["label"])
        full = sum(len(sequence) == limit for sequence in ids)
        notes = (f"{full:,} of {len(ids):,} texts reach the limit of {limit} tokens and may be cut",) if full else ()

        def collate(items: Sequence[tuple[list[int], int]]) -> Batch:
            sequences, classes = zip(*items, strict=True)
            return {**text_batch(sequences, tokenizer), "labels": torch.tensor(classes)}

        return Examples(
            list(zip(ids, labels, strict=True)), [len(sequence) for sequence in ids], labels, collate, notes
        )


def _tokenize(texts: list[str], tokenizer: object, limit: int) -> list[list[int]]:
    if not texts:
        return []
    encoded = tokenizer(texts, truncation=True, max_length=limit, return_attention_mask=False)  # type: ignore[operator]
    ids: list[list[int]] = encoded["input_ids"]
    return ids

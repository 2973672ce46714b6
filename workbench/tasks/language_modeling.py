"""Next-token prediction over windows of documents.

Windows overlap by one token, so that every token but a document's first is a target exactly once. They are padded,
never packed across documents.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from datasets import Dataset
from torch import Tensor
from torch.nn import Module

from workbench import choices
from workbench.baseline import Backbone
from workbench.monitoring import perplexity
from workbench.tasks.examples import IGNORED, Batch, Examples, longest_input, pad, text_batch


class LanguageModeling:
    """Causal language modeling."""

    evaluation_rows = 24
    prefers_bf16 = True
    names_classes = False  # an argmax over the vocabulary at each place would be thrown away
    trivial_name = "token frequencies, whatever came before"

    def encode(self, rows: Dataset, backbone: Backbone, choice: choices.Data) -> Examples:
        """Tokenize each document and cut it into windows of at most `choice.max_length` tokens."""
        tokenizer = backbone.preprocessor
        limit = longest_input(backbone, choice.max_length)
        texts = list(rows["text"])
        # verbose=False: a document longer than the model's positions is what windows are for, no reason to warn
        documents = tokenizer(texts, return_attention_mask=False, verbose=False)["input_ids"] if texts else []
        found = [window for document in documents for window in windows(document, limit)]
        lost = sum(len(document) < 2 for document in documents)
        notes = (f"{lost:,} texts of fewer than two tokens have no target and were left out",) if lost else ()

        def collate(items: Sequence[list[int]]) -> Batch:
            following = [
                [*window[1:], IGNORED] for window in items
            ]  # the label of a place is the token that comes next
            return {**text_batch(items, tokenizer), "labels": pad(following, IGNORED)}

        return Examples(found, [len(window) for window in found], found, collate, notes)

    def score(self, model: Module, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the logits (targets, vocabulary) of each next token, and those tokens (targets,)."""
        logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits  # (batch, time, V)
        is_target = batch["labels"] != IGNORED
        return logits[is_target], batch["labels"][is_target]

    def metrics(self, loss: float, predictions: Sequence[int], references: Sequence[int]) -> Mapping[str, float]:
        """Return loss and perplexity."""
        return {"loss": loss, "perplexity": perplexity(loss)}

    def trivial(self, train: Examples, validation: Examples, config: Any) -> Mapping[str, float]:
        """Return loss and perplexity of the training tokens' frequencies, smoothed by one count a word."""
        vocabulary = config.get_text_config().vocab_size
        counts = torch.bincount(_targets(train), minlength=vocabulary).double() + 1.0  # (vocabulary,)
        loss = -(counts / counts.sum()).log()[_targets(validation)].mean().item()
        return self.metrics(loss, (), ())


def windows(document: Sequence[int], limit: int) -> list[list[int]]:
    """Cut a document into windows of at most `limit` tokens in which every token but the first is a target once.

    Examples:
        >>> windows([1, 2, 3, 4, 5], 3)
        [[1, 2, 3], [3, 4, 5]]
    """
    count = math.ceil((len(document) - 1) / (limit - 1))
    return [list(document[i * (limit - 1) : i * (limit - 1) + limit]) for i in range(max(0, count))]


def _targets(examples: Examples) -> Tensor:
    return torch.tensor([token for window in examples.labels for token in window[1:]], dtype=torch.int64)

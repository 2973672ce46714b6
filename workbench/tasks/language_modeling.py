"""Next-token prediction over windows of documents: a sliding window in which each token is scored once.

A window repeats the last `window_overlap` tokens of the previous one. The model reads them again, but they are not
scored again. So every token except the first one of a document is a target exactly once, for any overlap.

The default overlap is one token, as in the evaluation harnesses of leaderboards: it is the shortest overlap that loses
no target, and it repeats almost no work. The first tokens of a window are then predicted from a short context, so
perplexity is higher than with the whole text as context. The other common choice is an overlap of half of `max_length`
(a stride of half a window). It costs twice the work and is closer to the perplexity with the whole context. Training
and validation always use the same overlap.

Windows are padded, or packed into shared rows where that is shorter (packing.py). Attention never crosses windows.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from datasets import Dataset
from torch import Tensor
from torch.nn import Module

from workbench.errors import PlanError
from workbench.models import Backbone
from workbench.plan import choices
from workbench.tasks import cross_entropy, output_layer, packing
from workbench.tasks.examples import IGNORED, Batch, Examples, longest_input, text_batch
from workbench.tasks.metrics import perplexity
from workbench.tasks.packing import Window


class LanguageModeling:
    """Causal language modeling."""

    evaluation_rows = 24
    predicts_classes = False  # no metric uses the argmax over the vocabulary
    baseline_name = "guess each token by how common it is"

    def encode(self, rows: Dataset, backbone: Backbone, choice: choices.Data) -> Examples:
        """Tokenize each document and cut it into windows of at most `choice.max_length` tokens.

        Raises:
            PlanError: The overlap is as long as a window, so that a window has no new token.
        """
        tokenizer, overlap = backbone.preprocessor, choice.window_overlap
        limit = _checked(longest_input(backbone, choice.max_length), overlap)
        texts = list(rows["text"])
        # verbose=False: no warning about documents longer than the model's positions, since windows cut them
        documents = tokenizer(texts, return_attention_mask=False, verbose=False)["input_ids"] if texts else []
        found = [(window, row) for row, ids in enumerate(documents) for window in windows(ids, limit, overlap)]
        items = [(torch.tensor(window), first) for (window, first), _ in found]
        labels = [ids.clone().index_fill_(0, torch.arange(first), IGNORED) for ids, first in items]

        def collate(items: Sequence[Window]) -> Batch:
            batch = text_batch([ids for ids, _ in items], tokenizer)
            return {**batch, "labels": next_token_labels(batch["input_ids"], items)}

        notes = _too_short(sum(len(ids) < 2 for ids in documents))
        return Examples(items, [len(ids) for ids, _ in items], labels, collate, notes, [row for _, row in found])

    def pack(self, examples: Examples, model: Module) -> Examples:
        """Return examples that pack windows into shared rows, if that is shorter and the model can read packed rows."""
        return packing.packed(examples, model)

    def score(self, model: Module, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the logits (targets, vocabulary) at the targets, and the true next tokens (targets,)."""
        is_target = batch["labels"] != IGNORED
        return output_layer.logits(model, _inputs(batch), is_target), batch["labels"][is_target]

    def nats(self, model: Module, batch: Batch) -> tuple[Tensor, int]:
        """Return the summed loss of the next tokens in nats, and the target count.

        The logits of all targets never exist at once, unless the model changes the output of its output layer.
        """
        is_target = batch["labels"] != IGNORED
        truth = batch["labels"][is_target]
        if (found := output_layer.hidden_at_targets(model, _inputs(batch), is_target)) is None:
            return cross_entropy.summed(output_layer.logits(model, _inputs(batch), is_target), truth), len(truth)
        hidden, layer = found
        return cross_entropy.of_layer(hidden, layer.weight, layer.bias, truth), len(truth)

    def metrics(self, loss: float, predictions: Sequence[int], references: Sequence[int]) -> Mapping[str, float]:
        """Return loss and perplexity."""
        return {"loss": loss, "perplexity": perplexity(loss)}

    def baseline(self, train: Examples, validation: Examples, config: Any) -> Mapping[str, float]:
        """Return loss and perplexity of predicting the token frequencies in training, smoothed by one count each."""
        vocabulary = config.get_text_config().vocab_size
        counts = torch.bincount(_targets(train), minlength=vocabulary).double() + 1.0  # (vocabulary,)
        loss = -(counts / counts.sum()).log()[_targets(validation)].mean().item()
        return self.metrics(loss, (), ())


def next_token_labels(input_ids: Tensor, items: Sequence[Window]) -> Tensor:
    """Return the label of each position: the next token, or IGNORED if that token is not a target of the window.

    Args:
        input_ids: One window per row, padded on the right.  # (batch, time)
        items: The windows of these rows.
    """
    length, first = torch.tensor([(len(ids), first) for ids, first in items]).T.unsqueeze(-1)  # (batch, 1) each
    position = torch.arange(1, input_ids.shape[1] + 1)  # of the next token
    return input_ids.roll(-1, 1).where((first <= position) & (position < length), IGNORED)


def windows(document: Sequence[int], limit: int, overlap: int = 1) -> list[tuple[list[int], int]]:
    """Cut a document into windows of at most `limit` tokens; every token but the document's first is a target once.

    Returns:
        For each window its token ids, and the index of its first target.

    Examples:
        >>> windows([1, 2, 3, 4, 5], 3)
        [([1, 2, 3], 1), ([3, 4, 5], 1)]
        >>> windows([1, 2, 3, 4, 5], 4, 2)
        [([1, 2, 3, 4], 1), ([3, 4, 5], 2)]
    """
    stride = limit - overlap
    starts = range(0, max(1, len(document) - overlap), stride) if len(document) > 1 else ()
    return [(list(document[start : start + limit]), overlap if start else 1) for start in starts]


def _checked(limit: int, overlap: int) -> int:
    if overlap >= limit:
        what = f"window_overlap is {overlap:,} tokens and a window has {limit:,}; expected an overlap below that"
        raise PlanError(what, hint=f"window_overlap={limit // 2}")
    return limit


def _too_short(count: int) -> tuple[str, ...]:
    if count == 1:
        return ("1 text of fewer than two tokens has no target and was left out",)
    return (f"{count:,} texts of fewer than two tokens have no target and were left out",) if count else ()


def _inputs(batch: Batch) -> Batch:
    return {name: batch[name] for name in packing.INPUTS if name in batch}


def _targets(examples: Examples) -> Tensor:
    found = torch.cat([*examples.labels, torch.zeros(0, dtype=torch.int64)])
    return found[found != IGNORED]

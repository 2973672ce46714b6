"""What text and image classification share: one target a row, accuracy and F1, the majority class as the floor."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import Module
from torch.nn import functional as F

from workbench.tasks import cross_entropy, output_layer
from workbench.tasks.examples import IGNORED, Batch, Examples
from workbench.tasks.metrics import classification_metrics


class Classification:
    """One class id a row."""

    names_classes = True
    trivial_name = "always the most frequent class"

    def score(self, model: Module, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return logits (targets, classes) and class ids (targets,); a row labelled IGNORED is no target."""
        inputs = {name: value for name, value in batch.items() if name != "labels"}
        return counted(output_layer.run(model, inputs), batch["labels"])

    def nats(self, model: Module, batch: Batch) -> tuple[Tensor, int]:
        """Return the summed nats of the targets, and how many there are."""
        logits, truth = self.score(model, batch)
        return cross_entropy.summed(logits, truth), len(truth)

    def pack(self, examples: Examples, model: Module) -> Examples:
        """Return the examples: a row that is answered as a whole keeps a row of the batch to itself."""
        return examples

    def metrics(self, loss: float, predictions: Sequence[int], references: Sequence[int]) -> Mapping[str, float]:
        """Return loss, accuracy, macro and weighted F1."""
        return {"loss": loss, **classification_metrics(predictions, references)}

    def trivial(self, train: Examples, validation: Examples, config: Any) -> Mapping[str, float]:
        """Return the metrics of naming the majority class; its loss is that of the class shares in training.

        Shares are smoothed by one row a class, so that a class that training lacks costs finite nats.
        """
        counts, classes = Counter(train.labels), config.num_labels
        shares = torch.tensor([counts[label] + 1.0 for label in range(classes)], dtype=torch.float64).log()
        references = [label for label in validation.labels if label != IGNORED]
        loss = F.nll_loss((shares - shares.logsumexp(0)).expand(len(references), -1), torch.tensor(references)).item()
        majority = max(range(classes), key=lambda label: (counts[label], -label))
        return self.metrics(loss, [majority] * len(references), references)


def labelled(labels: Sequence[int]) -> tuple[list[int], tuple[str, ...]]:
    """Return the rows that have a label, and a note that counts those marked as having none (IGNORED)."""
    kept = [row for row, label in enumerate(labels) if label != IGNORED]
    if not (lost := len(labels) - len(kept)):
        return kept, ()
    verb = "has no label and was" if lost == 1 else "have no label and were"
    return kept, (f"{lost:,} of {len(labels):,} rows {verb} left out: marked {IGNORED}",)


def counted(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return the logits and labels of the places that are targets."""
    is_target = labels != IGNORED
    if is_target.all():  # to choose costs as much as a head
        return logits.reshape(-1, logits.shape[-1]), labels.reshape(-1)
    return logits[is_target], labels[is_target]

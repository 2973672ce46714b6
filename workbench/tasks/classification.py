"""What text and image classification share: one target per row, accuracy and F1, and the majority-class baseline."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import Module
from torch.nn import functional as F

from workbench.errors import counted
from workbench.tasks import cross_entropy, output_layer
from workbench.tasks.examples import IGNORED, Batch, Examples
from workbench.tasks.metrics import classification_metrics


class Classification:
    """Prediction of one class id per row."""

    predicts_classes = True
    baseline_name = "always guess the most common class"

    def score(self, model: Module, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return logits (targets, classes) and class ids (targets,); rows labelled IGNORED are left out."""
        inputs = {name: value for name, value in batch.items() if name != "labels"}
        return select_targets(output_layer.run(model, inputs), batch["labels"])

    def nats(self, model: Module, batch: Batch) -> tuple[Tensor, int]:
        """Return the cross-entropy summed over the targets, in nats, and the target count."""
        logits, truth = self.score(model, batch)
        return cross_entropy.summed(logits, truth), len(truth)

    def pack(self, examples: Examples, model: Module) -> Examples:
        """Return the examples unchanged: a model that classifies whole rows can't read packed ones."""
        return examples

    def metrics(self, loss: float, predictions: Sequence[int], references: Sequence[int]) -> Mapping[str, float]:
        """Return loss, accuracy, macro and weighted F1."""
        return {"loss": loss, **classification_metrics(predictions, references)}

    def baseline(self, train: Examples, validation: Examples, config: Any) -> Mapping[str, float]:
        """Return the metrics of always predicting the majority class of the training rows.

        The loss is that of predicting the class frequencies in training. One row is added to each class, so that the
        loss is finite for a class that is missing in training.
        """
        counts, classes = Counter(train.labels), config.num_labels
        log_counts = torch.tensor([counts[label] + 1.0 for label in range(classes)], dtype=torch.float64).log()
        references = [label for label in validation.labels if label != IGNORED]
        log_shares = log_counts - log_counts.logsumexp(0)  # (classes,)
        loss = F.nll_loss(log_shares.expand(len(references), -1), torch.tensor(references)).item()
        majority = max(range(classes), key=lambda label: (counts[label], -label))
        return self.metrics(loss, [majority] * len(references), references)


def rows_with_label(labels: Sequence[int]) -> tuple[list[int], tuple[str, ...]]:
    """Return the indices of the rows that have a label, and a note with the number of rows that have none (IGNORED)."""
    kept = [row for row, label in enumerate(labels) if label != IGNORED]
    if not (lost := len(labels) - len(kept)):
        return kept, ()
    return kept, (f"{lost:,} of {counted(len(labels), 'row')} left out: without a label ({IGNORED})",)


def select_targets(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return the logits and labels whose label is not IGNORED."""
    is_target = labels != IGNORED
    if is_target.all():  # indexing would cost as much as the head itself
        return logits.reshape(-1, logits.shape[-1]), labels.reshape(-1)
    return logits[is_target], labels[is_target]

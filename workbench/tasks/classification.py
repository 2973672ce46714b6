"""What text and image classification share: one target a row, accuracy and F1, the majority class as the floor."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import Module
from torch.nn import functional as F

from workbench.monitoring import classification_metrics
from workbench.tasks.examples import Batch, Examples


class Classification:
    """One class id a row."""

    names_classes = True
    trivial_name = "always the most frequent class"

    def score(self, model: Module, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return logits (rows, classes) and class ids (rows,)."""
        inputs = {name: value for name, value in batch.items() if name != "labels"}
        return model(**inputs).logits, batch["labels"]

    def metrics(self, loss: float, predictions: Sequence[int], references: Sequence[int]) -> Mapping[str, float]:
        """Return loss, accuracy, macro and weighted F1."""
        return {"loss": loss, **classification_metrics(predictions, references)}

    def trivial(self, train: Examples, validation: Examples, config: Any) -> Mapping[str, float]:
        """Return the metrics of naming the majority class; its loss is that of the class shares in training.

        Shares are smoothed by one row a class, so that a class that training lacks costs finite nats.
        """
        counts, classes = Counter(train.labels), config.num_labels
        shares = torch.tensor([counts[label] + 1.0 for label in range(classes)], dtype=torch.float64).log()
        references = torch.tensor(validation.labels)
        loss = F.nll_loss((shares - shares.logsumexp(0)).expand(len(validation), -1), references).item()
        majority = max(range(classes), key=lambda label: (counts[label], -label))
        return self.metrics(loss, [majority] * len(validation), validation.labels)

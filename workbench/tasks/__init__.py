"""The kinds of task: how rows become tensors, and how logits are compared with targets.

Each task is one file and one line in TABLE. The engine knows none of them: it asks a task for the summed loss of a
batch and the number of its targets.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from datasets import Dataset
from torch import Tensor
from torch.nn import Module

from workbench.data import Split
from workbench.models import Backbone
from workbench.plan import choices
from workbench.tasks.examples import Batch, Examples
from workbench.tasks.image_classification import ImageClassification
from workbench.tasks.language_modeling import LanguageModeling
from workbench.tasks.text_classification import TextClassification


class Task(Protocol):
    """A kind of task. It has no state."""

    evaluation_rows: int  # default number of validation examples; they take about a second on a laptop

    predicts_classes: bool  # whether its metrics compare predicted class ids with true ones

    def encode(self, rows: Dataset, backbone: Backbone, choice: choices.Data) -> Examples:
        """Convert rows into examples that the model accepts."""

    def score(self, model: Module, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the logits (targets, classes) and the true class ids (targets,)."""

    def nats(self, model: Module, batch: Batch) -> tuple[Tensor, int]:
        """Return the cross-entropy summed over the targets, a scalar in nats with a gradient, and the target count."""

    def pack(self, examples: Examples, model: Module) -> Examples:
        """Return examples that pack their training batches if task and model support it, else the same examples."""

    def metrics(self, loss: float, predictions: Sequence[int], references: Sequence[int]) -> Mapping[str, float]:
        """Return the metrics that are shown, from the loss in nats per target and the predicted and true class ids."""

    def baseline(self, train: Examples, validation: Examples, config: Any) -> Mapping[str, float]:
        """Return the metrics of the best baseline that ignores its input."""

    baseline_name: str  # description of the baseline, shown with its metrics


TABLE: dict[choices.TaskName, Task] = {
    "text-classification": TextClassification(),
    "language-modeling": LanguageModeling(),
    "image-classification": ImageClassification(),
}


def encode(split: Split, backbone: Backbone, choice: choices.Data) -> tuple[Examples, Examples]:
    """Return the training and the validation examples of a split."""
    task = TABLE[split.task]
    return task.encode(split.train, backbone, choice), task.encode(split.validation, backbone, choice)

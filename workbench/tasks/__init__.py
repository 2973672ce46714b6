"""What differs between kinds of task: how rows become tensors, and which logits answer which targets.

One file a task, one line in TABLE. The engine knows none of them: it asks for nats and their targets.
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
    """A kind of task, without state."""

    evaluation_rows: int  # as many validation examples as take about a second on a laptop

    names_classes: bool  # whether its metrics compare predicted with true class ids

    def encode(self, rows: Dataset, backbone: Backbone, choice: choices.Data) -> Examples:
        """Turn rows into examples that the model takes."""

    def score(self, model: Module, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return logits (targets, classes) and the class ids they should have named (targets,)."""

    def nats(self, model: Module, batch: Batch) -> tuple[Tensor, int]:
        """Return the cross-entropy summed over the targets, a scalar in nats to go backward from, and their number."""

    def pack(self, examples: Examples, model: Module) -> Examples:
        """Return the examples in the layout that wastes least in training, if the model reads it as the plain one."""

    def metrics(self, loss: float, predictions: Sequence[int], references: Sequence[int]) -> Mapping[str, float]:
        """Return what people read, from the loss in nats per target and the predicted and true class ids."""

    def trivial(self, train: Examples, validation: Examples, config: Any) -> Mapping[str, float]:
        """Return the metrics of the best guess that looks at no input."""

    trivial_name: str  # what `trivial` does, in words


TABLE: dict[choices.Task, Task] = {
    "text-classification": TextClassification(),
    "language-modeling": LanguageModeling(),
    "image-classification": ImageClassification(),
}


def encode(split: Split, backbone: Backbone, choice: choices.Data) -> tuple[Examples, Examples]:
    """Return the training and the validation examples of a split."""
    task = TABLE[split.task]
    return task.encode(split.train, backbone, choice), task.encode(split.validation, backbone, choice)

"""Image in, one class out. Images are resized and normalised batch by batch: 2,000 at 224 pixels would be 1.2 GB."""

from collections.abc import Sequence
from typing import Any

import torch
from datasets import Dataset
from torch import Tensor

from workbench import choices
from workbench.baseline import Backbone
from workbench.tasks.classification import Classification
from workbench.tasks.examples import Batch, Examples


class ImageClassification(Classification):
    """Image classification with any vision backbone."""

    evaluation_rows = 100
    prefers_bf16 = False

    def encode(self, rows: Dataset, backbone: Backbone, choice: choices.Data) -> Examples:
        """Keep the decoded images; pixels are made when a batch is."""
        images = [image.convert("RGB") for image in rows["image"]]
        labels = list(rows["label"])
        processor, side = backbone.preprocessor, choice.image_size

        def collate(items: Sequence[tuple[Any, int]]) -> Batch:
            pictures, classes = zip(*items, strict=True)
            return {"pixel_values": pixels(pictures, processor, side), "labels": torch.tensor(classes)}

        return Examples(list(zip(images, labels, strict=True)), [1] * len(labels), labels, collate)


def pixels(images: Sequence[Any], processor: Any, side: int | None) -> Tensor:
    """Return normalised pixels (batch, 3, height, width): the processor's own size, or `side` × `side`."""
    square = {} if side is None else {"size": {"height": side, "width": side}, "do_center_crop": False}
    values: Tensor = processor(images=list(images), return_tensors="pt", **square)["pixel_values"]
    return values

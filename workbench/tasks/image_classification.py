"""Image classification: one class per image. Images are decoded, resized and normalised batch by batch.

Decoded images would not fit in memory: 500 photos of 12 megapixels take 18 GB, and 2,000 images of 224 pixels 1.2 GB.
"""

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import PIL
import torch
import xxhash
from datasets import Dataset
from PIL.Image import Image, Resampling
from torch import Tensor
from torch.nn import Module

from workbench.errors import PlanError
from workbench.models import Backbone
from workbench.plan import choices
from workbench.tasks import output_layer
from workbench.tasks.classification import Classification, rows_with_label, select_targets
from workbench.tasks.examples import Batch, Examples


class ImageClassification(Classification):
    """Image classification with any vision backbone."""

    evaluation_rows = 100

    def encode(self, rows: Dataset, backbone: Backbone, choice: choices.Data) -> Examples:
        """Keep only the row numbers; the pixels are computed when a batch is requested.

        Raises:
            PlanError: The backbone does not accept images of the requested size.
        """
        classes = list(rows["label"])
        kept, notes = rows_with_label(classes)
        items = [(row, classes[row]) for row in kept]
        processor, side = backbone.preprocessor, choice.image_size

        def collate(items: Sequence[tuple[int, int]]) -> Batch:
            images = [rows[index]["image"].convert("RGB") for index, _ in items]
            return {
                "pixel_values": pixels(images, processor, side),
                "labels": torch.tensor([label for _, label in items]),
            }

        image_shape = functools.cache(lambda: tuple(collate(items[:1])["pixel_values"].shape[1:]))  # the same for all
        examples = Examples(
            items,
            [1] * len(items),
            [label for _, label in items],
            collate,
            notes,
            kept,
            outline=lambda items: _blank(items, image_shape()),
            content=_ContentHash(rows, processor, side),
        )
        if side is not None and len(examples):
            self._try(backbone.model, examples, side)
        return examples

    def score(self, model: Module, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return logits (targets, classes) and class ids (targets,).

        Position embeddings are interpolated if the images have another size than the model was trained with.
        """
        options = {}
        if "interpolate_pos_encoding" in output_layer.accepted(type(model).forward):
            options["interpolate_pos_encoding"] = batch["pixel_values"].shape[-1] != _trained_size(model)
        return select_targets(model(pixel_values=batch["pixel_values"], **options).logits, batch["labels"])

    def _try(self, model: Module, examples: Examples, side: int) -> None:
        model.eval()  # in training mode a single image would change batch norm statistics, or raise an error
        try:
            with torch.no_grad():
                self.score(model, examples.batch([0]))
        except Exception as error:  # a model may raise anything at a size that it does not support
            raise PlanError(
                f"image_size is {side}, which this backbone does not accept: {error}",
                hint=f"image_size={_trained_size(model) or 224}, or None for the size of its training",
            ) from error


def pixels(images: Sequence[Image], processor: Any, side: int | None) -> Tensor:
    """Return normalised pixels (batch, 3, height, width) at `side` × `side`, or at the processor's size if None."""
    options = {}
    if side is not None:
        images = [image.resize((side, side), Resampling.BICUBIC) for image in images]
        options = {"do_resize": False, "do_center_crop": False}
    values: Tensor = processor(images=list(images), return_tensors="pt", **options)["pixel_values"]
    return values


def _blank(items: Sequence[tuple[int, int]], image_shape: tuple[int, ...]) -> Batch:
    """Return the batch of these rows with zeros for pixels; they are one number, expanded without taking memory."""
    labels = torch.tensor([label for _, label in items])
    return {"pixel_values": torch.zeros(()).expand(len(items), *image_shape), "labels": labels}


class _ContentHash:
    """Hashes what the pixels of a row are computed from: the image file and the preprocessing."""

    def __init__(self, rows: Dataset, processor: Any, side: int | None) -> None:
        self._rows = rows.with_format("arrow")
        self._how = f"{type(processor).__qualname__} {processor.to_json_string()} {side} {PIL.__version__}".encode()

    def __call__(self, item: tuple[int, int]) -> bytes:
        (image,) = self._rows[item[0] : item[0] + 1]["image"].to_pylist()
        return xxhash.xxh3_128(self._how + _bytes_of(image)).digest()


def _bytes_of(image: Mapping[str, Any]) -> bytes:
    return image["bytes"] or Path(image["path"]).read_bytes()


def _trained_size(model: Module) -> int | None:
    size = getattr(model.config, "image_size", None)
    return size if isinstance(size, int) or size is None else size[0]

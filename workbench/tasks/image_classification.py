"""Image in, one class out. Images are decoded, resized and normalised batch by batch.

Kept decoded, 500 photos of 12 megapixels would take 18 GB, and 2,000 small images at 224 pixels 1.2 GB.
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
from workbench.tasks.classification import Classification, counted, labelled
from workbench.tasks.examples import Batch, Examples


class ImageClassification(Classification):
    """Image classification with any vision backbone."""

    evaluation_rows = 100

    def encode(self, rows: Dataset, backbone: Backbone, choice: choices.Data) -> Examples:
        """Keep the numbers of the rows; pixels are made when a batch is.

        Raises:
            PlanError: The backbone can't take images of the size asked for.
        """
        classes = list(rows["label"])
        kept, notes = labelled(classes)
        items = [(row, classes[row]) for row in kept]
        processor, side = backbone.preprocessor, choice.image_size

        def collate(items: Sequence[tuple[int, int]]) -> Batch:
            images = [rows[index]["image"].convert("RGB") for index, _ in items]
            return {
                "pixel_values": pixels(images, processor, side),
                "labels": torch.tensor([label for _, label in items]),
            }

        form = functools.cache(lambda: tuple(collate(items[:1])["pixel_values"].shape[1:]))  # that of every image
        examples = Examples(
            items,
            [1] * len(items),
            [label for _, label in items],
            collate,
            notes,
            kept,
            outline=lambda items: _blank(items, form()),
            content=_Content(rows, processor, side),
        )
        if side is not None and len(examples):
            self._try(backbone.model, examples, side)
        return examples

    def score(self, model: Module, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return logits (targets, classes) and class ids (targets,); position tables are stretched to other sizes."""
        stretch = {}
        if "interpolate_pos_encoding" in output_layer.accepted(type(model).forward):
            stretch["interpolate_pos_encoding"] = batch["pixel_values"].shape[-1] != _trained_size(model)
        return counted(model(pixel_values=batch["pixel_values"], **stretch).logits, batch["labels"])

    def _try(self, model: Module, examples: Examples, side: int) -> None:
        model.eval()  # as it was loaded: in training mode one image would move a norm's statistics, or be refused
        try:
            with torch.no_grad():
                self.score(model, examples.batch([0]))
        except Exception as error:  # whatever a model raises at a size it was not made for
            raise PlanError(
                f"image_size is {side}, which this backbone can't take: {error}",
                hint=f"image_size={_trained_size(model) or 224}, or None for the backbone's own",
            ) from error


def pixels(images: Sequence[Image], processor: Any, side: int | None) -> Tensor:
    """Return normalised pixels (batch, 3, height, width): the processor's own size, or `side` × `side`."""
    ready = {}
    if side is not None:
        images = [image.resize((side, side), Resampling.BICUBIC) for image in images]
        ready = {"do_resize": False, "do_center_crop": False}
    values: Tensor = processor(images=list(images), return_tensors="pt", **ready)["pixel_values"]
    return values


def _blank(items: Sequence[tuple[int, int]], form: tuple[int, ...]) -> Batch:
    """Return the batch of these rows without their pixels: one black one, seen everywhere."""
    labels = torch.tensor([label for _, label in items])
    return {"pixel_values": torch.zeros(()).expand(len(items), *form), "labels": labels}


class _Content:
    """Hashes what a row's pixels are made from: the file it came in, and the preprocessing."""

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

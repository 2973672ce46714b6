"""Rows, tokenizers and image processors that are made up instead of loaded; runs treat them like any others."""

from collections.abc import Mapping, Sequence
from typing import Any

import datasets
import numpy as np
import transformers as tf
from PIL import Image
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

from workbench.data import Split
from workbench.models import Backbone
from workbench.plan.plan import Plan
from workbench.runs.preparation import Preparation

ROWS = {  # task -> (column of the inputs, its type)
    "text-classification": ("text", datasets.Value("string")),
    "language-modeling": ("text", datasets.Value("string")),
    "image-classification": ("image", datasets.Image()),
}
Rows = Mapping[str, Sequence[Any]]  # column -> values


class Synthetic(Preparation):
    """Prepares a fixed backbone and fixed rows, whatever the plan says.

    Args:
        backbone: The backbone.
        train: The training rows; a classification task gets random labels.
        validation: The validation rows.
        name: The fingerprint of the rows.
        classes: The number of classes.
    """

    def __init__(
        self, backbone: Backbone, train: Sequence[Any], validation: Sequence[Any], *, name: str, classes: int = 2
    ) -> None:
        super().__init__()
        labels = () if backbone.task == "language-modeling" else tuple(f"class {i}" for i in range(classes))
        parts = [_dataset(backbone.task, contents, labels) for contents in (train, validation, validation[:1])]
        self._backbone = backbone
        self._split = Split(*parts, backbone.task, labels, {}, "table", (), name)

    def split(self, plan: Plan) -> Split:
        """Return the split of these rows."""
        return self._split

    def backbone(self, plan: Plan) -> Backbone:
        """Return the backbone."""
        return self._backbone


def _dataset(task: str, contents: Sequence[Any], labels: Sequence[str]) -> datasets.Dataset:
    column, kind = ROWS[task]
    features, values = {column: kind}, {column: list(contents)}
    if labels:
        features["label"] = datasets.ClassLabel(names=list(labels))
        values["label"] = np.random.default_rng(1).integers(len(labels), size=len(contents)).tolist()
    return datasets.Dataset.from_dict(values, features=datasets.Features(features))


def tokenizer(words: int, *, padding: int) -> Any:
    """Return a tokenizer for the words w0, w1 and so on: the number is the token id; `padding` is the padding id."""
    core = Tokenizer(models.WordLevel({f"w{index}": index for index in range(words)}, unk_token="w3"))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return tf.PreTrainedTokenizerFast(tokenizer_object=core, pad_token=f"w{padding}", unk_token="w3")


def texts(lengths: Sequence[int], *, words: tuple[int, int], last: int | None = None) -> list[str]:
    """Return texts of random words.

    Args:
        lengths: The number of tokens of each text.
        words: The range of token ids to draw from; the second one is excluded.
        last: The id of the token at the end of each text, if there is to be one.
    """
    rng = np.random.default_rng(0)
    rows = [rng.integers(*words, size=length).tolist() for length in lengths]
    ended = [ids if last is None else [*ids[:-1], last] for ids in rows]
    return [" ".join(f"w{index}" for index in ids) for ids in ended]


def images(count: int, *, side: int) -> list[Image.Image]:
    """Return images of random pixels, `side` × `side`."""
    rng = np.random.default_rng(0)
    return [Image.fromarray(rng.integers(0, 255, (side, side, 3), dtype=np.uint8)) for _ in range(count)]


def image_processor(side: int) -> Any:
    """Return an image processor for images of this size."""
    return ViTImageProcessorPil(size={"height": side, "width": side})

"""Outputs of a model on some held-out rows, for a person to read: predicted classes, or continuations of texts."""

from typing import Any

import pandas as pd
from datasets import Dataset

from workbench.data import Split
from workbench.data.inputs import Inputs
from workbench.data.pictures import PictureFrame
from workbench.models import Backbone
from workbench.models.generation import complete
from workbench.plan import choices
from workbench.runs.predict import BATCH, probabilities

WORDS = 8  # length of a prompt, taken from the start of a text
TOKENS = 24  # length of a continuation


def samples(backbone: Backbone, split: Split, choice: choices.Data, *, count: int = 6) -> pd.DataFrame:
    """Return a table with one line for each of `count` rows of the validation split.

    The columns are "text" or "image", "label", "predicted" and its "probability"; for a language model "prompt",
    "completion" by the model and "original", which is how the text continues there. The rows are spread evenly over
    the split, so that they are the same at every step. A notebook shows images as pictures.
    """
    chosen = spread(len(split.validation), count)
    rows = split.validation.select(chosen)
    if backbone.task == "language-modeling":
        return pd.DataFrame([_continued(backbone, text) for text in rows["text"]], index=chosen)
    return PictureFrame(_classified(backbone, rows, split.labels, choice), index=chosen)


def spread(total: int, count: int) -> list[int]:
    """Return the numbers of `count` rows that are spread evenly over `total` rows."""
    return [index * total // min(count, total) for index in range(min(count, total))]


def first_words(text: str) -> str:
    """Return the start of a text, as a prompt."""
    return " ".join(text.split()[:WORDS])


def _continued(backbone: Backbone, text: str) -> dict[str, str]:
    prompt = first_words(text)
    completion = complete(backbone, prompt, max_new_tokens=TOKENS) if prompt else ""
    return {"prompt": prompt, "completion": completion, "original": " ".join(text.split()[WORDS : WORDS + TOKENS])}


def _classified(backbone: Backbone, rows: Dataset, labels: tuple[str, ...], choice: choices.Data) -> dict[str, Any]:
    kind = "text" if "text" in rows.column_names else "image"
    inputs = Inputs(rows, list(rows[kind]), None)
    best = probabilities(backbone, inputs, choice, BATCH).max(-1)
    return {
        kind: inputs.given,
        "label": [labels[label] for label in rows["label"]],
        "predicted": [labels[label] for label in best.indices.tolist()],
        "probability": [round(value, 3) for value in best.values.tolist()],
    }

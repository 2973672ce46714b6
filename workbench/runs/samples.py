"""Outputs of a model on some held-out rows, for a person to read: predicted classes, or continuations of texts."""

from typing import Any

import pandas as pd
import torch
from datasets import Dataset

from workbench.data import Split
from workbench.models import Backbone
from workbench.models.generation import complete
from workbench.plan import choices
from workbench.tasks import TABLE

WORDS = 8  # length of a prompt, taken from the start of a text
TOKENS = 24  # length of a continuation


def samples(backbone: Backbone, split: Split, choice: choices.Data, *, count: int = 6) -> pd.DataFrame:
    """Return a table with one line for each of `count` rows of the validation split.

    The columns are "text" (for texts), "label", "predicted" and its "probability"; for a language model "prompt",
    "continuation" by the model and "reference", which is how the text really continues. The rows are spread evenly over
    the split, so that they are the same at every step.
    """
    total = len(split.validation)
    chosen = [index * total // min(count, total) for index in range(min(count, total))]
    rows = split.validation.select(chosen)
    if backbone.task == "language-modeling":
        return pd.DataFrame([_continued(backbone, text) for text in rows["text"]], index=chosen)
    return pd.DataFrame(_classified(backbone, rows, split.labels, choice), index=chosen)


def _continued(backbone: Backbone, text: str) -> dict[str, str]:
    words = text.split()
    prompt = " ".join(words[:WORDS])
    continuation = complete(backbone, prompt, tokens=TOKENS) if prompt else ""
    return {"prompt": prompt, "continuation": continuation, "reference": " ".join(words[WORDS : WORDS + TOKENS])}


def _classified(backbone: Backbone, rows: Dataset, labels: tuple[str, ...], choice: choices.Data) -> dict[str, Any]:
    task = TABLE[backbone.task]
    examples = task.encode(rows, backbone, choice)
    device = next(backbone.model.parameters()).device
    batch = {name: value.to(device) for name, value in examples.batch(range(len(rows))).items()}
    with torch.inference_mode():
        probabilities = task.score(backbone.model, batch)[0].float().softmax(-1).cpu()  # (rows, classes)
    best = probabilities.max(-1)
    shown = {"text": list(rows["text"])} if "text" in rows.column_names else {}
    return {
        **shown,
        "label": [labels[label] for label in rows["label"]],
        "predicted": [labels[label] for label in best.indices.tolist()],
        "probability": [round(value, 3) for value in best.values.tolist()],
    }

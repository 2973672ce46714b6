"""What a model makes of some held-out rows, for a person to read: predicted classes, or how a text goes on."""

from typing import Any

import pandas as pd
import torch
from datasets import Dataset

from workbench.data import Split
from workbench.models import Backbone
from workbench.models.generation import complete
from workbench.plan import choices
from workbench.tasks import TABLE

WORDS = 8  # of a text that are given to a language model to go on from
TOKENS = 24  # that it may say


def samples(backbone: Backbone, split: Split, choice: choices.Data, *, count: int = 6) -> pd.DataFrame:
    """Return one line a row: for classes "text" or "row", "label", "predicted" and its probability; for a language
    model "prompt", "goes on" and how the text truly does.

    Rows are spread evenly over the validation split, so that they are the same ones at every step.
    """  # noqa: D205
    total = len(split.validation)
    places = [index * total // min(count, total) for index in range(min(count, total))]
    rows = split.validation.select(places)
    if backbone.task == "language-modeling":
        return pd.DataFrame([_continued(backbone, text) for text in rows["text"]], index=places)
    return pd.DataFrame(_classified(backbone, rows, split.labels, choice), index=places)


def _continued(backbone: Backbone, text: str) -> dict[str, str]:
    words = text.split()
    prompt = " ".join(words[:WORDS])
    said = complete(backbone, prompt, tokens=TOKENS) if prompt else ""
    return {"prompt": prompt, "goes on": said, "truly": " ".join(words[WORDS : WORDS + TOKENS])}


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

"""Predictions of a model for new inputs: class probabilities, or completions of texts.

Inputs are encoded exactly as the rows of an evaluation, and the model is a plain transformers model in eval mode and
float32. So the answers are those that transformers gives for the exported model, for any batch size.
"""

from collections.abc import Sequence
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from workbench.data.inputs import Inputs, read_inputs
from workbench.data.pictures import PictureFrame
from workbench.errors import RunError
from workbench.models import Backbone
from workbench.models.generation import complete
from workbench.plan import choices
from workbench.tasks import TABLE

BATCH = 32  # inputs that the model reads at once


def predict(
    backbone: Backbone,
    inputs: Any,
    choice: choices.Data,
    labels: Sequence[str],
    columns: Sequence[str] = (),
    *,
    batch_size: int = BATCH,
    max_new_tokens: int = 40,
) -> pd.DataFrame:
    """Return one line per input: see `Run.predict`.

    Args:
        backbone: The model, plain and in eval mode.
        inputs: Texts, images or a table, as `read_inputs` accepts them.
        choice: `max_length` and `image_size` of the run.
        labels: Names of the classes in id order; () for a language model.
        columns: The columns that the run read, for a table.
        batch_size: Inputs that the model reads at once; the answers do not depend on it.
        max_new_tokens: Length of a completion.

    Raises:
        DataError: An input can't be read; the message says which row.
        RunError: An input has no token, or a prompt is too long for the model.
    """
    if not isinstance(batch_size, int) or batch_size < 1:
        raise RunError(f"batch_size is {batch_size!r}; expected a whole number from 1", hint=f"batch_size={BATCH}")
    found = read_inputs(inputs, backbone.task, columns, choice.text_separator)
    if backbone.task == "language-modeling":
        lines: dict[str, Any] = {
            "prompt": found.given,
            "completion": [_completed(backbone, row, text, max_new_tokens) for row, text in enumerate(found.given)],
        }
    else:
        lines = _classified(found, probabilities(backbone, found, choice, batch_size), labels)
    return PictureFrame(lines, index=found.index)


def _completed(backbone: Backbone, row: int, prompt: str, tokens: int) -> str:
    try:
        return complete(backbone, prompt, max_new_tokens=tokens)
    except RunError as error:
        raise RunError(f"row {row}: {error.what}", hint=error.hint) from None


def probabilities(backbone: Backbone, inputs: Inputs, choice: choices.Data, batch_size: int) -> Tensor:
    """Return the probability of each class for each input, as a tensor (inputs, classes)."""
    task = TABLE[backbone.task]
    device = next(backbone.model.parameters()).device
    examples = task.encode(inputs.rows, backbone, choice)
    rows = [examples.row(index) for index in range(len(examples))]
    if missing := sorted({*range(len(inputs.given))} - {*rows}):
        raise RunError(f"row {missing[0]} has no token that this model knows", hint="leave it out")
    found: dict[int, Tensor] = {}  # row -> (classes,)
    with torch.inference_mode():
        for indices in examples.sorted_batches(batch_size):
            batch = {name: value.to(device) for name, value in examples.padded(indices).items()}
            answers = task.score(backbone.model, batch)[0].float().softmax(-1).cpu()  # (batch, classes)
            found |= {rows[index]: answer for index, answer in zip(indices, answers, strict=True)}
    return torch.stack([found[row] for row in range(len(rows))])


def class_names(backbone: Backbone) -> tuple[str, ...]:
    """Return the names of the classes of a saved model, in id order; () for a language model."""
    names = {} if backbone.task == "language-modeling" else backbone.model.config.id2label
    return tuple(str(names[key]) for key in sorted(names))


def is_untrained(backbone: Backbone) -> bool:
    """Whether the head of an unchanged backbone is new, so that its answers mean nothing."""
    return any("new and untrained" in note for note in backbone.notes)


def probability_column(name: str) -> str:
    """Return the name of the column with the probability of a class, which no other column can have."""
    return f"P({name})"


def _classified(inputs: Inputs, found: Tensor, labels: Sequence[str]) -> dict[str, Any]:
    best = found.max(-1)
    return {
        "input": inputs.given,
        "label": [labels[number] for number in best.indices.tolist()],
        "probability": best.values.tolist(),
        **{probability_column(name): found[:, number].tolist() for number, name in enumerate(labels)},
    }

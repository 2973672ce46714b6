"""Makes a backbone from a model object instead of a name. The object is copied, checked, and never changed.

The model needs a head that fits the task and the classes. A backbone that is loaded by name gets a new head if needed;
a model object does not, because its head is the caller's choice.
"""

import copy
from collections.abc import Sequence
from typing import Any

from workbench.errors import BackboneError, a
from workbench.models.blocks import find
from workbench.models.heads import BUILDERS, _are_other_classes, first_line
from workbench.models.load import Backbone, _check_causal, _check_vocabulary, _ensure_padding
from workbench.models.quiet import quiet
from workbench.plan.choices import TaskName

NAME = "the given model"


def pinned(model: Any, preprocessor: Any) -> tuple[Any, Any]:
    """Return copies of a model and its preprocessor, so that later changes of the originals have no effect.

    Raises:
        BackboneError: One of them is missing, the model is not a transformers model, or it can't be copied.
    """
    if model is None and preprocessor is None:
        return None, None
    _check_model(model)
    if preprocessor is None:
        raise BackboneError(
            f"model is {a(type(model).__name__)} without its preprocessor",
            hint="give preprocessor=tokenizer, or the image processor of the model",
        )
    try:
        return copy.deepcopy(model), copy.deepcopy(preprocessor)
    except Exception as error:
        hint = "save it with save_pretrained, and give the folder as backbone="
        raise BackboneError(f"the given model can't be copied: {first_line(error)}", hint=hint) from error


def adopt(model: Any, preprocessor: Any, *, task: TaskName, labels: Sequence[str] = ()) -> Backbone:
    """Return a backbone made from copies of a model and its tokenizer or image processor.

    Args:
        model: A transformers model with a head for `task`.
        preprocessor: Its tokenizer, or its image processor.
        task: Task that its head must be made for.
        labels: Names of the classes in id order; empty for language modeling.

    Raises:
        BackboneError: The model is not a transformers model, its preprocessor is missing or of the wrong kind, or its
            head does not fit the task or the classes.
    """
    import torch

    _check_kinds(model, preprocessor, task)
    model, preprocessor = copy.deepcopy(model), copy.deepcopy(preprocessor)
    model.zero_grad(set_to_none=True)
    model.to("cpu", torch.float32).requires_grad_(True).eval()
    notes = [f"the model was given as an object ({type(model).__name__})"]
    if task != "image-classification":
        _check_vocabulary(NAME, preprocessor, model)
        notes += _ensure_padding(preprocessor, model)
    _check_head(model, preprocessor, task, labels)
    if task == "language-modeling":
        _check_causal(NAME, model)
    else:
        _check_names(model, labels)
        model.config.id2label = dict(enumerate(labels))
        model.config.label2id = {label: i for i, label in enumerate(labels)}
    return Backbone("object", model, preprocessor, task, find(model), tuple(notes))


def _check_model(model: Any) -> None:
    from transformers import PreTrainedModel

    if not isinstance(model, PreTrainedModel):
        raise BackboneError(
            f"model is {a(type(model).__name__)}; expected a transformers model",
            hint="load it with AutoModelForSequenceClassification.from_pretrained(…), or name it with backbone=",
        )
    if getattr(model, "is_quantized", False):
        raise BackboneError(
            "the weights of the given model are quantized and can't be trained",
            hint="give the model before quantization",
        )


def _check_kinds(model: Any, preprocessor: Any, task: TaskName) -> None:
    from transformers.image_processing_base import ImageProcessingMixin
    from transformers.tokenization_utils_base import PreTrainedTokenizerBase

    _check_model(model)
    is_image = task == "image-classification"
    if not isinstance(preprocessor, ImageProcessingMixin if is_image else PreTrainedTokenizerBase):
        kind = "image processor" if is_image else "tokenizer"
        found = "missing" if preprocessor is None else a(type(preprocessor).__name__)
        raise BackboneError(
            f"preprocessor is {found}; expected the {kind} of the model, since the rows are for {task}",
            hint=f"give preprocessor={kind.split()[-1]}",
        )


def _check_head(model: Any, preprocessor: Any, task: TaskName, labels: Sequence[str]) -> None:
    """Run the model once: the shape of its logits shows what its head is for, whatever its class is called."""
    import torch

    try:
        with torch.no_grad(), quiet():
            shape = tuple(model(**_sample(preprocessor, task)).logits.shape)
    except Exception as error:
        raise BackboneError(
            f"the given model ({type(model).__name__}) returns no logits for {task}: {first_line(error)}",
            hint=f"give a model with a head, as {BUILDERS[task]} loads it",
        ) from error
    wanted = 3 if task == "language-modeling" else 2
    if len(shape) != wanted or (labels and shape[-1] != len(labels)):
        expected = (
            "one logit per token of the vocabulary" if wanted == 3 else f"{len(labels)} classes ({_named(labels)})"
        )
        raise BackboneError(
            f"the head of the given model ({type(model).__name__}) returns logits of shape {shape}; "
            f"the rows need {expected}",
            hint=f"{BUILDERS[task]}.from_pretrained(…{'' if wanted == 3 else f', num_labels={len(labels)}'}) loads one",
        )


def _check_names(model: Any, labels: Sequence[str]) -> None:
    """Raise BackboneError if the head was trained for classes of other names, or for the same ones in another order."""
    had = dict(model.config.id2label or {})
    if _are_other_classes(had, labels):
        names = [str(had[key]) for key in sorted(had)]
        raise BackboneError(
            f"the head of the given model is for the classes {_named(names)}; the rows have {_named(labels)}",
            hint=f"if these are the same classes, set model.config.id2label = {dict(enumerate(labels))}",
        )


def _sample(preprocessor: Any, task: TaskName) -> dict[str, Any]:
    if task == "image-classification":
        from PIL import Image

        return dict(preprocessor(Image.new("RGB", (64, 64)), return_tensors="pt"))
    encoded = preprocessor(preprocessor.convert_ids_to_tokens(0) or "a", return_tensors="pt")
    return {name: encoded[name] for name in ("input_ids", "attention_mask")}


def _named(labels: Sequence[str]) -> str:
    return f"{', '.join(labels[:4])}{' …' if len(labels) > 4 else ''}"

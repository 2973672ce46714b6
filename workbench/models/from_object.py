"""A model given as an object in place of a name: copied, checked against the rows, and never changed itself.

Its head has to be there and to fit; what a plan's name would get (a new head, other classes) is left to the giver.
"""

import copy
from collections.abc import Sequence
from typing import Any

from workbench.errors import BackboneError
from workbench.models.blocks import find
from workbench.models.heads import BUILDERS, _are_other_classes, first_line
from workbench.models.load import Backbone, _check_vocabulary, _ensure_padding
from workbench.models.quiet import quiet
from workbench.plan.choices import Task

NAME = "the model given"


def pinned(model: Any, preprocessor: Any) -> tuple[Any, Any]:
    """Return copies of a model and its preprocessor, so that what becomes of the originals changes nothing here.

    Raises:
        BackboneError: One without the other, or no transformers model.
    """
    if model is None and preprocessor is None:
        return None, None
    _check_model(model)
    if preprocessor is None:
        raise BackboneError(
            f"model is a {type(model).__name__} without its preprocessor",
            hint="preprocessor=tokenizer, or the image processor that goes with it",
        )
    try:
        return copy.deepcopy(model), copy.deepcopy(preprocessor)
    except Exception as error:
        raise BackboneError(f"the model given can't be copied: {first_line(error)}", hint="save_pretrained") from error


def adopt(model: Any, preprocessor: Any, *, task: Task, labels: Sequence[str] = ()) -> Backbone:
    """Return a backbone made of copies of a model and of its tokenizer or image processor.

    Args:
        model: A transformers model with a head for `task`.
        preprocessor: Its tokenizer, or its image processor.
        task: What its head has to be for.
        labels: Names of the classes in id order; empty for language modeling.

    Raises:
        BackboneError: No transformers model, no preprocessor that goes with it, or a head that does not fit.
    """
    import torch

    _check_kinds(model, preprocessor, task)
    model, preprocessor = copy.deepcopy(model), copy.deepcopy(preprocessor)
    model.zero_grad(set_to_none=True)
    model.to("cpu", torch.float32).requires_grad_(True).eval()
    notes = [f"the backbone was given as an object ({type(model).__name__})"]
    if task != "image-classification":
        _check_vocabulary(NAME, preprocessor, model)
        notes += _ensure_padding(preprocessor, model)
    _check_head(model, preprocessor, task, labels)
    if task != "language-modeling":
        _check_names(model, labels)
        model.config.id2label = dict(enumerate(labels))
        model.config.label2id = {label: i for i, label in enumerate(labels)}
    return Backbone("object", model, preprocessor, task, find(model), tuple(notes))


def _check_model(model: Any) -> None:
    from transformers import PreTrainedModel

    if not isinstance(model, PreTrainedModel):
        raise BackboneError(
            f"model is a {type(model).__name__}; expected a transformers model",
            hint="AutoModelForSequenceClassification.from_pretrained(…), or a name as backbone=",
        )
    if getattr(model, "is_quantized", False):
        raise BackboneError("the weights of the model given are quantized and can't be trained", hint="the original")


def _check_kinds(model: Any, preprocessor: Any, task: Task) -> None:
    from transformers.image_processing_base import ImageProcessingMixin
    from transformers.tokenization_utils_base import PreTrainedTokenizerBase

    _check_model(model)
    is_image = task == "image-classification"
    if not isinstance(preprocessor, ImageProcessingMixin if is_image else PreTrainedTokenizerBase):
        kind = "image processor" if is_image else "tokenizer"
        found = "missing" if preprocessor is None else f"a {type(preprocessor).__name__}"
        raise BackboneError(
            f"preprocessor is {found}; expected the {kind} of the model, since the rows are for {task}",
            hint=f"preprocessor={kind.split()[-1]}",
        )


def _check_head(model: Any, preprocessor: Any, task: Task, labels: Sequence[str]) -> None:
    """Ask the model once and look at what it answers: that is what its head is for, whatever its class is called."""
    import torch

    try:
        with torch.no_grad(), quiet():
            shape = tuple(model(**_sample(preprocessor, task)).logits.shape)
    except Exception as error:
        raise BackboneError(
            f"the model given ({type(model).__name__}) gives no logits for {task}: {first_line(error)}",
            hint=f"a model with a head, as {BUILDERS[task]} builds it",
        ) from error
    wanted = 3 if task == "language-modeling" else 2
    if len(shape) != wanted or (labels and shape[-1] != len(labels)):
        expected = "one logit a token of the vocabulary" if wanted == 3 else f"{len(labels)} classes ({_named(labels)})"
        raise BackboneError(
            f"the head of the model given ({type(model).__name__}) gives logits of shape {shape}; "
            f"the rows need {expected}",
            hint=f"{BUILDERS[task]}.from_pretrained(…{'' if wanted == 3 else f', num_labels={len(labels)}'})",
        )


def _check_names(model: Any, labels: Sequence[str]) -> None:
    """Refuse a head that has learnt classes of other names, or the same ones in another order."""
    had = dict(model.config.id2label or {})
    if _are_other_classes(had, labels):
        names = [str(had[key]) for key in sorted(had)]
        raise BackboneError(
            f"the head of the model given is for the classes {_named(names)}; the rows have {_named(labels)}",
            hint=f"if they are the same: model.config.id2label = {dict(enumerate(labels))}",
        )


def _sample(preprocessor: Any, task: Task) -> dict[str, Any]:
    if task == "image-classification":
        from PIL import Image

        return dict(preprocessor(Image.new("RGB", (64, 64)), return_tensors="pt"))
    encoded = preprocessor(preprocessor.convert_ids_to_tokens(0) or "a", return_tensors="pt")
    return {name: encoded[name] for name in ("input_ids", "attention_mask")}


def _named(labels: Sequence[str]) -> str:
    return f"{', '.join(labels[:4])}{' …' if len(labels) > 4 else ''}"

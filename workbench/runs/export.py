"""Exports the model of a run as a plain transformers model with merged adapters, in a folder for any program."""

import copy
import os
import shutil
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from PIL.Image import Resampling

from workbench.models import Backbone, lora
from workbench.models.blocks import find
from workbench.models.quiet import quiet
from workbench.models.stock import as_stock
from workbench.runs.checkpoints import Checkpoint, load_weights, state_of
from workbench.tasks.image_classification import pixels
from workbench.training.learner import Learner
from workbench.training.settings import make_contiguous

AUTO = {
    "text-classification": "AutoModelForSequenceClassification",
    "language-modeling": "AutoModelForCausalLM",
    "image-classification": "AutoModelForImageClassification",
}


def copy_of(learner: Learner, checkpoint: Checkpoint | None = None) -> Backbone:
    """Return a plain copy, in eval mode, of the learner's model or of the model in one of its earlier checkpoints.

    Raises:
        RunError: The checkpoint is damaged.
    """
    copied = copy.copy(learner.backbone)
    copied.model = copy.deepcopy(learner.model)
    if checkpoint is not None:
        _undo_training(copied, learner)
        load_weights(copied, state_of(checkpoint).progress.trained, checkpoint)
    return plain(copied, image_size=learner.plan.data.image_size)


def to_save(learner: Learner, checkpoint: Checkpoint | None = None) -> Backbone:
    """Return the same as `copy_of`, for writing only: without a copy if nothing has to be changed."""
    is_plain = not any(lora.is_adapter(name) for name, _ in learner.model.named_parameters())
    is_text = learner.backbone.task != "image-classification"
    return learner.backbone if checkpoint is None and is_plain and is_text else copy_of(learner, checkpoint)


def _undo_training(backbone: Backbone, learner: Learner) -> None:
    """Undo all training: blocks that became trainable only after a checkpoint are not in it."""
    tensors = dict(backbone.model.named_parameters()) | dict(backbone.model.named_buffers())
    with torch.no_grad():
        for name, tensor in tensors.items():
            if name in learner.origin:
                tensor.copy_(learner.origin[name])
            elif lora.is_adapter(name) and ".lora_B." in name:  # with B = 0 an adapter has no effect
                tensor.zero_()


def plain(backbone: Backbone, *, image_size: int | None = None) -> Backbone:
    """Make it a plain transformers model, in place, and return it: adapters merged, in eval mode, of a stock class.

    Args:
        backbone: The backbone.
        image_size: The size of the images of the run; its image processor will make such images.
    """
    backbone.model = lora.fold(backbone.model)
    make_contiguous(backbone.model)
    if backbone.task == "image-classification":
        backbone.model = as_stock(backbone.model, image_size=image_size)
        backbone.blocks = find(backbone.model)
        backbone.preprocessor = _sized(backbone.preprocessor, image_size)
    backbone.model.requires_grad_(True).eval()
    return backbone


def _sized(processor: Any, side: int | None) -> Any:
    """Return an image processor that does itself what the run did; the given one if it can't."""
    if side is None:
        return processor
    image = Image.effect_noise((side + 7, side + 3), 64).convert("RGB")
    try:
        own = copy.deepcopy(processor)
        own.size, own.resample, own.do_center_crop = {"height": side, "width": side}, Resampling.BICUBIC, False
        is_same = torch.equal(pixels([image], own, None), pixels([image], processor, side))
    except Exception:  # a processor may want another form of size
        return processor
    return own if is_same else processor


def save_model(backbone: Backbone, folder: Path) -> int:
    """Save model and preprocessor for plain transformers, completely or not at all; return the size in bytes.

    Raises:
        OSError: It could not be written.
    """
    from safetensors import SafetensorError

    partial = folder.with_name(f".partial-{folder.name}-{os.getpid()}")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        with quiet():
            backbone.model.save_pretrained(partial)
            backbone.preprocessor.save_pretrained(partial)
        for file in partial.rglob("*.safetensors"):  # safetensors makes them private to the owner, whatever the umask
            file.chmod(partial.stat().st_mode & 0o666)
        shutil.rmtree(folder, ignore_errors=True)
        partial.rename(folder)
    except BaseException as error:
        shutil.rmtree(partial, ignore_errors=True)
        if isinstance(error, SafetensorError):  # raised when the disk is full
            raise OSError(str(error)) from error
        raise
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def load_line(backbone: Backbone) -> str:
    """Return Python code that loads a saved model; the name `folder` stands for its path."""
    kind = type(backbone.model)
    if not kind.__module__.startswith("transformers."):
        return f"from {kind.__module__} import {kind.__name__}\nmodel = {kind.__name__}.from_pretrained(folder)"
    auto = AUTO[backbone.task]
    return f"from transformers import {auto}\nmodel = {auto}.from_pretrained(folder)"

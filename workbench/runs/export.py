"""Models as a run leaves them behind: plain transformers, adapters merged, in a folder that any program can load."""

import copy
import os
import shutil
from pathlib import Path

import torch

from workbench.models import Backbone, lora
from workbench.models.quiet import quiet
from workbench.runs.checkpoints import Checkpoint, load_weights, state_of
from workbench.training.learner import Learner
from workbench.training.settings import make_contiguous

AUTO = {
    "text-classification": "AutoModelForSequenceClassification",
    "language-modeling": "AutoModelForCausalLM",
    "image-classification": "AutoModelForImageClassification",
}


def copy_of(learner: Learner, checkpoint: Checkpoint | None = None) -> Backbone:
    """Return the learner's model, or that of an earlier checkpoint of it, as a plain copy in eval mode.

    Raises:
        RunError: The checkpoint is broken.
    """
    twin = copy.copy(learner.backbone)
    twin.model = copy.deepcopy(learner.model)
    if checkpoint is not None:
        _go_back(twin, learner)
        load_weights(twin, state_of(checkpoint).progress.trained, checkpoint)
    return plain(twin)


def to_save(learner: Learner, checkpoint: Checkpoint | None = None) -> Backbone:
    """Return what `copy_of` does, only to be written: nothing is copied where nothing has to be changed."""
    is_plain = not any(lora.is_adapter(name) for name, _ in learner.model.named_parameters())
    return learner.backbone if checkpoint is None and is_plain else copy_of(learner, checkpoint)


def _go_back(backbone: Backbone, learner: Learner) -> None:
    """Undo all learning: blocks that learnt only after a checkpoint are not in it."""
    tensors = dict(backbone.model.named_parameters()) | dict(backbone.model.named_buffers())
    with torch.no_grad():
        for name, tensor in tensors.items():
            if name in learner.origin:
                tensor.copy_(learner.origin[name])
            elif lora.is_adapter(name) and ".lora_B." in name:  # what B is zero for adds nothing
                tensor.zero_()


def plain(backbone: Backbone) -> Backbone:
    """Fold adapters into the weights beside them and go into eval mode, in place; return the backbone."""
    backbone.model = lora.fold(backbone.model)
    make_contiguous(backbone.model)
    backbone.model.requires_grad_(True).eval()
    return backbone


def save_model(backbone: Backbone, folder: Path) -> int:
    """Write model and preprocessor as plain transformers reads them; the folder is whole or not there. Return bytes.

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
        for file in partial.rglob("*.safetensors"):  # written for the owner only, whatever the umask says
            file.chmod(partial.stat().st_mode & 0o666)
        shutil.rmtree(folder, ignore_errors=True)
        partial.rename(folder)
    except BaseException as error:
        shutil.rmtree(partial, ignore_errors=True)
        if isinstance(error, SafetensorError):  # what it makes of a full disk
            raise OSError(str(error)) from error
        raise
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def load_line(backbone: Backbone) -> str:
    """Return the Python that loads a saved model, `folder` standing for where it lies."""
    kind = type(backbone.model)
    if not kind.__module__.startswith("transformers."):
        return f"from {kind.__module__} import {kind.__name__}\nmodel = {kind.__name__}.from_pretrained(folder)"
    auto = AUTO[backbone.task]
    return f"from transformers import {auto}\nmodel = {auto}.from_pretrained(folder)"

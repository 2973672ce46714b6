"""Checkpoints: what can differ from the backbone, written so that a half-written one is never taken for whole.

    checkpoints/step-000120/
        weights.safetensors     trainable parameters, and norm statistics of trainable blocks
        optimizer.safetensors   AdamW's two moments and its step count, for each of those parameters
        state.json              step, best step, best loss, last step measured
        manifest.json           size and sha256 of the three files above; written last

A folder is filled under another name, synced to disk and renamed. Batch order, dropout and the learning rate are
functions of the step, so there is no generator or scheduler to keep. No pickle is ever read or written.
"""

import hashlib
import json
import math
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from workbench.baseline import Backbone
from workbench.errors import RunError
from workbench.learner import Learner

FILES = {"weights.safetensors", "optimizer.safetensors", "state.json"}


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint on disk."""

    path: Path
    step: int

    @property
    def size_bytes(self) -> int:
        """What it takes on disk."""
        return sum(file.stat().st_size for file in self.path.iterdir())


def save(learner: Learner, root: Path) -> Checkpoint:
    """Write a checkpoint of the learner under `root`; it is whole and on disk when this returns."""
    final = root / f"step-{learner.step:06d}"
    partial = root / f".partial-{final.name}-{os.getpid()}"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    save_file(_detached(changeable(learner.backbone, learner.trainable)), partial / "weights.safetensors")
    save_file(_detached(_moments(learner)), partial / "optimizer.safetensors")
    best_loss = learner.best_loss if math.isfinite(learner.best_loss) else None
    state = {
        "step": learner.step,
        "best_step": learner.best_step,
        "best_loss": best_loss,
        "measured_step": learner.measured_step,
    }
    (partial / "state.json").write_text(json.dumps(state))
    manifest = {file.name: _entry(file) for file in sorted(partial.iterdir())}
    (partial / "manifest.json").write_text(json.dumps(manifest, indent=2))
    for file in partial.iterdir():
        _sync(file)
    shutil.rmtree(final, ignore_errors=True)
    partial.rename(final)
    _sync(root)
    return Checkpoint(final, learner.step)


def restore(learner: Learner, checkpoint: Checkpoint) -> None:
    """Put the learner back to where the checkpoint was taken, bit for bit.

    Raises:
        RunError: The checkpoint is broken, or is of another model or another choice of trainable blocks.
    """
    state = json.loads((verified(checkpoint).path / "state.json").read_text())
    load_weights(learner.backbone, learner.trainable, checkpoint)
    _load_moments(learner, _read(checkpoint, "optimizer.safetensors"))
    learner.step, learner.best_step, learner.measured_step = (
        state[name] for name in ("step", "best_step", "measured_step")
    )
    learner.best_loss = math.inf if state["best_loss"] is None else state["best_loss"]


def load_weights(backbone: Backbone, trainable: Sequence[str], checkpoint: Checkpoint) -> None:
    """Put the checkpoint's tensors into a model whose blocks were frozen and adapted as in the run that wrote it.

    Raises:
        RunError: The checkpoint is broken or of another model.
    """
    saved, own = _read(checkpoint, "weights.safetensors"), changeable(backbone, trainable)
    if {name: tensor.shape for name, tensor in saved.items()} != {name: tensor.shape for name, tensor in own.items()}:
        raise RunError(
            f"{checkpoint.path} holds {len(saved)} tensors that do not fit the {len(own)} trainable ones of this model",
            hint="the plan of the run that wrote it",
        )
    with torch.no_grad():
        for name, tensor in own.items():
            tensor.copy_(saved[name])


def _read(checkpoint: Checkpoint, name: str) -> dict[str, Tensor]:
    try:
        tensors: dict[str, Tensor] = load_file(verified(checkpoint).path / name)
        return tensors
    except (OSError, SafetensorError) as error:  # deleted between the check and the reading, for one
        raise RunError(f"{checkpoint.path / name} can't be read: {error}", hint="an older step") from None


def verified(checkpoint: Checkpoint) -> Checkpoint:
    """Return the checkpoint if every file is as its manifest says.

    Raises:
        RunError: Names the first file that is missing or differs.
    """
    try:
        manifest = json.loads((checkpoint.path / "manifest.json").read_text())
        if set(manifest) != FILES:
            raise ValueError(f"its manifest names {', '.join(sorted(manifest)) or 'nothing'}")
        broken = [name for name, entry in manifest.items() if _entry(checkpoint.path / name) != entry]
    except (OSError, ValueError, AttributeError) as error:
        raise RunError(f"the checkpoint {checkpoint.path} can't be read: {error}", hint="an older step") from None
    if broken:
        raise RunError(f"{checkpoint.path / broken[0]} is not as it was written", hint="an older step")
    return checkpoint


def all_in(root: Path) -> list[Checkpoint]:
    """Return the checkpoints under `root` by step, unchecked."""
    paths = [path for path in root.glob("step-*") if path.name[5:].isdecimal()]
    return sorted((Checkpoint(path, int(path.name[5:])) for path in paths), key=lambda checkpoint: checkpoint.step)


def at(root: Path, step: int) -> Checkpoint:
    """Return the checkpoint of that step.

    Raises:
        RunError: There is none; says which steps there are.
    """
    known = all_in(root)
    found = next((checkpoint for checkpoint in known if checkpoint.step == step), None)
    if found is None:
        steps = ", ".join(str(checkpoint.step) for checkpoint in known) or "none yet"
        raise RunError(f"there is no checkpoint of step {step}", hint=f"steps with one: {steps}")
    return found


def changeable(backbone: Backbone, trainable: Sequence[str]) -> dict[str, Tensor]:
    """Return by name every tensor that training can move: trainable parameters, buffers of trainable blocks."""
    paths = [path for block in backbone.blocks if block.name in trainable for path in block.modules]
    kept = backbone.model.state_dict(keep_vars=True)
    found = {name: p for name, p in backbone.model.named_parameters() if p.requires_grad}
    buffers = {name: b for name, b in backbone.model.named_buffers() if name in kept and _is_under(name, paths)}
    return {**found, **buffers}


def _is_under(name: str, paths: list[str]) -> bool:
    return any(name.startswith(f"{path}.") for path in paths)


def _detached(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}


def _moments(learner: Learner) -> dict[str, Tensor]:
    """Return the optimizer's tensors as "<what>/<parameter>"."""
    names = {id(parameter): name for name, parameter in learner.model.named_parameters()}
    state = learner.optimizer.state
    return {f"{what}/{names[id(p)]}": tensor for p, entry in state.items() for what, tensor in entry.items()}


def _load_moments(learner: Learner, tensors: dict[str, Tensor]) -> None:
    parameters = dict(learner.model.named_parameters())
    learner.optimizer.state.clear()
    for key, tensor in tensors.items():
        what, name = key.split("/", 1)
        # AdamW's fused step keeps its count beside the parameter, and so do we
        learner.optimizer.state[parameters[name]][what] = tensor.to(learner.device)


def _entry(file: Path) -> dict[str, Any]:
    with file.open("rb") as stream:
        return {"bytes": file.stat().st_size, "sha256": hashlib.file_digest(stream, "sha256").hexdigest()}


def _sync(path: Path) -> None:
    """Ask the disk to have it; a rename of what is not yet there could survive a crash that its content does not."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)

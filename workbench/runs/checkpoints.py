"""Checkpoints: what can differ from the backbone, written so that a half-written one is never taken for whole.

    checkpoints/step-000120/
        weights.safetensors     what learns or learnt: parameters, and norm statistics of their blocks
        optimizer.safetensors   AdamW's two moments and its step count, for each parameter that learns
        state.json              step, best step, best loss, last step measured, the plan as it is by now, what learnt
        frozen.json             hash of every frozen tensor, so that no other backbone is taken for this one
        manifest.json           size and sha256 of the files above; written last

A folder is filled under another name, synced to disk and renamed. Batch order, dropout and the learning rate are
functions of the step, so there is no generator or scheduler to keep. No pickle is ever read or written.
"""

import dataclasses
import json
import math
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from workbench.models import fingerprints
from workbench.models import freezing
from workbench.training.adjust import rebuild_optimizer
from workbench.models import Backbone
from workbench.training.build import adapt
from workbench.runs.disk.checkpoint_files import OLD, PARTIAL, entry, sync
from workbench.runs.disk.checkpoint_files import Checkpoint as Checkpoint
from workbench.runs.disk.checkpoint_files import State as State
from workbench.runs.disk.checkpoint_files import all_in as all_in
from workbench.runs.disk.checkpoint_files import at as at
from workbench.runs.disk.checkpoint_files import newest_valid as newest_valid
from workbench.runs.disk.checkpoint_files import set_aside as set_aside
from workbench.runs.disk.checkpoint_files import state_of as state_of
from workbench.runs.disk.checkpoint_files import tidy as tidy
from workbench.runs.disk.checkpoint_files import verified as verified
from workbench.errors import RunError
from workbench.untrusted import reader
from workbench.training.learner import Learner
from workbench.untrusted import read_text


def save(learner: Learner, root: Path) -> Checkpoint:
    """Write a checkpoint of the learner under `root`; it is whole and on disk when this returns.

    Raises:
        OSError: It could not be written; nothing of it is left behind.
    """
    final = root / f"step-{learner.step:06d}"
    partial = root / f"{PARTIAL}{final.name}-{os.getpid()}"
    shutil.rmtree(partial, ignore_errors=True)
    root.mkdir(exist_ok=True)  # not its parents: a run folder that was moved away must not come back half
    partial.mkdir()
    try:
        _fill(partial, learner)
        _put_in_place(partial, final)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    return Checkpoint(final, learner.step)


def _fill(folder: Path, learner: Learner) -> None:
    (folder / "state.json").write_text(json.dumps(_state(learner), ensure_ascii=False))
    (folder / "frozen.json").write_text(json.dumps(learner.frozen))
    _write(_detached(changeable(learner.backbone, learner.learnt)), folder / "weights.safetensors")
    _write(_detached(_moments(learner)), folder / "optimizer.safetensors")
    manifest = {file.name: entry(file) for file in sorted(folder.iterdir())}
    (folder / "manifest.json").write_text(json.dumps(manifest, indent=2))
    for file in (*folder.iterdir(), folder):
        sync(file)


def _put_in_place(partial: Path, final: Path) -> None:
    """Give a filled folder its name; one of that name before is there until the new one is."""
    old = final.with_name(f"{OLD}{final.name}")
    shutil.rmtree(old, ignore_errors=True)
    if final.exists():
        final.rename(old)
    partial.rename(final)
    sync(final.parent)
    shutil.rmtree(old, ignore_errors=True)


def _state(learner: Learner) -> dict[str, Any]:
    return {
        "step": learner.step,
        "best_step": learner.best_step,
        "best_loss": learner.best_loss if math.isfinite(learner.best_loss) else None,
        "measured_step": learner.measured_step,
        "decided_step": learner.decided_step,
        "adjusted": learner.adjusted,
        "plan": dataclasses.asdict(learner.plan),
        "learnt": learner.learnt,
        "joined": learner.joined,
    }


def _write(tensors: dict[str, Tensor], path: Path) -> None:
    """Write tensors with the permissions that any other new file gets; safetensors gives them to the owner alone."""
    mode = (path.parent / "state.json").stat().st_mode
    try:
        save_file(tensors, path)
    except SafetensorError as error:  # what it makes of a full disk
        raise OSError(str(error)) from error
    path.chmod(mode)


def restore(learner: Learner, checkpoint: Checkpoint) -> None:
    """Put the learner back to where the checkpoint was taken, bit for bit.

    Args:
        learner: At step 0, built from the checkpoint's plan and with what learnt by then (`state_of`).
        checkpoint: Where to go back to.

    Raises:
        RunError: The checkpoint is broken, or is of another backbone or another choice of trainable blocks.
    """
    state = state_of(checkpoint)
    if learner.learnt != state.learnt:
        raise RunError(
            f"{checkpoint.path} holds {', '.join(state.learnt)}, which do not fit {', '.join(learner.learnt)}",
            hint="the plan of the run that wrote it",
        )
    load_weights(learner.backbone, state.learnt, checkpoint)
    learner.frozen = _frozen(learner, checkpoint)
    learner.joined, learner.adjusted = dict(state.joined), state.adjusted
    rebuild_optimizer(learner)
    _load_moments(learner, checkpoint)
    learner.step, learner.best_step, learner.measured_step = state.step, state.best_step, state.measured_step
    learner.decided_step = state.decided_step
    learner.best_loss = math.inf if state.best_loss is None else state.best_loss


def _frozen(learner: Learner, checkpoint: Checkpoint) -> dict[str, str]:
    """Return the checkpoint's hashes of what is frozen, once the learner's own are found to be the same."""
    try:
        saved: dict[str, str] = reader(Mapping[str, str])(json.loads(read_text(checkpoint.path / "frozen.json")))
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise RunError(f"{checkpoint.path / 'frozen.json'} can't be read: {error}", hint="an older step") from None
    tensors = fingerprints.frozen_tensors(learner.model, learner.backbone.blocks, learner.trainable)
    own = fingerprints.fingerprints(tensors)
    differing = sorted(name for name in {*saved, *own} if saved.get(name) != own.get(name))
    if differing:
        raise RunError(
            f"{checkpoint.path} was trained from another backbone: {differing[0]} and {len(differing) - 1} more frozen "
            "tensors differ",
            hint="the backbone, the data and the plan that the run began with",
        )
    return saved


def load_weights(backbone: Backbone, learnt: Sequence[str], checkpoint: Checkpoint) -> None:
    """Put the checkpoint's tensors into a model whose blocks were frozen and adapted as in the run that wrote it.

    Raises:
        RunError: The checkpoint is broken or of another model.
    """
    saved, own = _read(checkpoint, "weights.safetensors"), changeable(backbone, learnt)
    if _forms(saved) != _forms(own):
        raise RunError(
            f"{checkpoint.path} holds {len(saved)} tensors that do not fit the {len(own)} trainable ones of this model",
            hint="the plan of the run that wrote it",
        )
    with torch.no_grad():
        for name, tensor in own.items():
            tensor.copy_(saved[name])


def put_into(backbone: Backbone, checkpoint: Checkpoint) -> None:
    """Make a pristine backbone, in place, the model of the checkpoint: adapted to its plan, with its weights.

    Raises:
        RunError: The checkpoint is broken or of another model.
    """
    state = state_of(checkpoint)
    adapt(backbone, state.plan, learnt=state.learnt)
    load_weights(backbone, state.learnt, checkpoint)


def _forms(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    return {name: (tensor.shape, tensor.dtype) for name, tensor in tensors.items()}


def _read(checkpoint: Checkpoint, name: str) -> dict[str, Tensor]:
    try:
        tensors: dict[str, Tensor] = load_file(verified(checkpoint).path / name)
        return tensors
    except (OSError, SafetensorError) as error:  # deleted between the check and the reading, for one
        raise RunError(f"{checkpoint.path / name} can't be read: {error}", hint="an older step") from None


def changeable(backbone: Backbone, learnt: Sequence[str]) -> dict[str, Tensor]:
    """Return by name every tensor that can differ from the backbone where these blocks learn or learnt."""
    return freezing.changeable(backbone.model, backbone.blocks, learnt)


def _detached(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}


def _moments(learner: Learner) -> dict[str, Tensor]:
    """Return the optimizer's tensors as "<what>/<parameter>"."""
    names = {id(parameter): name for name, parameter in learner.model.named_parameters()}
    state = learner.optimizer.state
    return {f"{what}/{names[id(p)]}": tensor for p, entry in state.items() for what, tensor in entry.items()}


def _load_moments(learner: Learner, checkpoint: Checkpoint) -> None:
    tensors, parameters = _read(checkpoint, "optimizer.safetensors"), dict(learner.model.named_parameters())
    known = {key.partition("/")[2] for key in tensors} & {n for n, p in parameters.items() if p.requires_grad}
    wanted = {f"step/{name}": torch.tensor(0.0) for name in known}
    wanted |= {f"{what}/{name}": parameters[name] for name in known for what in ("exp_avg", "exp_avg_sq")}
    if _forms(tensors) != _forms(wanted):
        raise RunError(
            f"{checkpoint.path} holds moments that do not fit the parameters of this model",
            hint="the plan of the run that wrote it",
        )
    learner.optimizer.state.clear()
    for key, tensor in tensors.items():
        what, name = key.split("/", 1)
        # AdamW's fused step keeps its count beside the parameter, and so do we
        learner.optimizer.state[parameters[name]][what] = _laid_out(tensor, parameters[name]).to(learner.device)


def _laid_out(tensor: Tensor, parameter: Tensor) -> Tensor:
    """Return a moment with its numbers in the order of the parameter's: the fused step takes that for granted."""
    return torch.empty_like(parameter, device="cpu").copy_(tensor) if tensor.ndim else tensor

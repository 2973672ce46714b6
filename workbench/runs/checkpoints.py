"""Checkpoints: what can differ from the backbone, written so that a half-written one is never taken for whole.

    checkpoints/step-000120/
        weights.safetensors     what learns or learnt: parameters, and norm statistics of their blocks
        optimizer.safetensors   AdamW's two moments and its step count, for each parameter that learns
        state.json              the plan as it is by now, steps taken, best step …: training/progress.py
        tactics.safetensors     tensors that tactics keep, if any do
        frozen.json             hash of every frozen tensor, so that no other backbone is taken for this one
        manifest.json           size and sha256 of the files above; written last

A folder is filled under another name, synced to disk and renamed. Batch order, dropout and the learning rate are
functions of the step, so there is no generator or scheduler to keep. No pickle is ever read or written.
"""

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from workbench.errors import RunError
from workbench.models import Backbone, fingerprints, freezing
from workbench.runs.disk.checkpoint_files import OLD, PARTIAL, TACTICS, manifest_entry, state_json, sync
from workbench.runs.disk.checkpoint_files import Checkpoint as Checkpoint
from workbench.runs.disk.checkpoint_files import State as State
from workbench.runs.disk.checkpoint_files import all_in as all_in
from workbench.runs.disk.checkpoint_files import at as at
from workbench.runs.disk.checkpoint_files import newest_valid as newest_valid
from workbench.runs.disk.checkpoint_files import set_aside as set_aside
from workbench.runs.disk.checkpoint_files import state_of as state_of
from workbench.runs.disk.checkpoint_files import tidy as tidy
from workbench.runs.disk.checkpoint_files import verified as verified
from workbench.training.build import adapt
from workbench.training.learner import Learner
from workbench.training.restore import optimizer_tensors, progress_of, restore, shapes_and_types, tensors_of_tactics
from workbench.untrusted import read_text, reader


def save(learner: Learner, root: Path, *, adjustments: int | None = None) -> Checkpoint:
    """Write a checkpoint of the learner under `root`; it is complete and on disk when this returns.

    Args:
        learner: What is saved.
        root: The folder of the checkpoints of a run.
        adjustments: How often the plan has changed in the run that continues from here; left out: in this one.

    Raises:
        OSError: It could not be written; nothing of it is left behind.
    """
    final = root / f"step-{learner.step:06d}"
    partial = root / f"{PARTIAL}{final.name}-{os.getpid()}"
    shutil.rmtree(partial, ignore_errors=True)
    root.mkdir(exist_ok=True)  # not its parents: a run folder that was moved away must not come back half
    partial.mkdir()
    try:
        _fill(partial, learner, adjustments)
        _put_in_place(partial, final)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    return Checkpoint(final, learner.step)


def _fill(folder: Path, learner: Learner, adjustments: int | None) -> None:
    progress = progress_of(learner)
    if adjustments is not None:
        progress.adjustments = adjustments
    (folder / "state.json").write_text(state_json(learner.plan, progress), encoding="utf-8")
    (folder / "frozen.json").write_text(json.dumps(learner.frozen))
    _write(changeable(learner.backbone, progress.trained), folder / "weights.safetensors")
    _write(optimizer_tensors(learner), folder / "optimizer.safetensors")
    if tensors := tensors_of_tactics(learner):
        _write(tensors, folder / TACTICS)
    manifest = {file.name: manifest_entry(file) for file in sorted(folder.iterdir())}
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


def _write(tensors: dict[str, Tensor], path: Path) -> None:
    """Write tensors with the permissions that any other new file gets; safetensors gives them to the owner alone."""
    mode = (path.parent / "state.json").stat().st_mode
    try:
        save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, path)
    except SafetensorError as error:  # what it makes of a full disk
        raise OSError(str(error)) from error
    path.chmod(mode)


def load(learner: Learner, checkpoint: Checkpoint) -> None:
    """Put the learner back to where the checkpoint was saved, bit for bit.

    Args:
        learner: At step 0, built from the checkpoint's plan and with the blocks that were trained by then (`state_of`).
        checkpoint: Where to go back to.

    Raises:
        RunError: The checkpoint is broken, or is of another backbone or another choice of trainable blocks.
    """
    progress, trained = state_of(checkpoint).progress, learner.progress.trained
    if trained != progress.trained:
        raise RunError(
            f"{checkpoint.path} holds {', '.join(progress.trained)}, which do not fit {', '.join(trained)}",
            hint="the plan of the run that wrote it",
        )
    load_weights(learner.backbone, trained, checkpoint)
    tactics = _read(checkpoint, TACTICS) if (checkpoint.path / TACTICS).exists() else {}
    optimizer = _read(checkpoint, "optimizer.safetensors")
    try:
        restore(learner, progress, frozen=_frozen(learner, checkpoint), optimizer=optimizer, tactics=tactics)
    except RunError as error:
        raise RunError(f"{checkpoint.path}: {error.what}", hint=error.hint) from None


def _frozen(learner: Learner, checkpoint: Checkpoint) -> dict[str, str]:
    """Return the checkpoint's hashes of what is frozen, once the learner's own are found to be the same."""
    try:
        saved: dict[str, str] = reader(Mapping[str, str])(json.loads(read_text(checkpoint.path / "frozen.json")))
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise RunError(f"{checkpoint.path / 'frozen.json'} can't be read: {error}", hint="an older step") from None
    tensors = fingerprints.frozen_tensors(learner.model, learner.backbone.blocks, learner.trainable)
    own = fingerprints.hashes(tensors)
    differing = sorted(name for name in {*saved, *own} if saved.get(name) != own.get(name))
    if differing:
        raise RunError(
            f"{checkpoint.path} was trained from another backbone: {differing[0]} and {len(differing) - 1} more frozen "
            "tensors differ",
            hint="the backbone, the data and the plan that the run began with",
        )
    return saved


def load_weights(backbone: Backbone, trained: Sequence[str], checkpoint: Checkpoint) -> None:
    """Put the checkpoint's tensors into a model whose blocks were frozen and adapted as in the run that wrote it.

    Raises:
        RunError: The checkpoint is broken or of another model.
    """
    saved, own = _read(checkpoint, "weights.safetensors"), changeable(backbone, trained)
    if shapes_and_types(saved) != shapes_and_types(own):
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
    adapt(backbone, state.plan, trained=state.progress.trained)
    load_weights(backbone, state.progress.trained, checkpoint)


def _read(checkpoint: Checkpoint, name: str) -> dict[str, Tensor]:
    try:
        tensors: dict[str, Tensor] = load_file(verified(checkpoint).path / name)
        return tensors
    except (OSError, SafetensorError) as error:  # deleted between the check and the reading, for one
        raise RunError(f"{checkpoint.path / name} can't be read: {error}", hint="an older step") from None


def changeable(backbone: Backbone, trained: Sequence[str]) -> dict[str, Tensor]:
    """Return by name every tensor that can differ from the backbone where these blocks are or were trainable."""
    return freezing.changeable(backbone.model, backbone.blocks, trained)

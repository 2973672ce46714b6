"""Checkpoints: everything that can differ from the backbone, written so that an incomplete one is never used.

    checkpoints/step-000120/
        weights.safetensors     parameters that are or were trainable, and norm statistics of their blocks
        optimizer.safetensors   AdamW's two moments and its step count, for every trainable parameter
        state.json              the current plan, steps taken, best step …: training/progress.py
        tactics.safetensors     tensors in the state of tactics, if there are any
        frozen.json             hash of every frozen tensor, to detect another backbone
        manifest.json           size and sha256 of the files above; written last

A folder is written under a temporary name, synced to disk and renamed. Batch order, dropout and the learning rate are
functions of the step, so no state of a generator or scheduler is needed. No pickle is ever read or written.
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

from workbench.errors import RunError, counted
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
    """Write a checkpoint of the learner under `root`; it is complete and on disk when this function returns.

    Args:
        learner: The learner to save.
        root: The folder of the run's checkpoints.
        adjustments: Number of changes of the plan in the log of the run that continues from this checkpoint; by default
            those of the learner's own run.

    Raises:
        OSError: It could not be written; no part of it is left on disk.
    """
    final = root / f"step-{learner.step:06d}"
    partial = root / f"{PARTIAL}{final.name}-{os.getpid()}"
    shutil.rmtree(partial, ignore_errors=True)
    root.mkdir(
        exist_ok=True
    )  # without parents=True: a run folder that was moved away must not be recreated with only this in it
    partial.mkdir()
    try:
        _write_files(partial, learner, adjustments)
        _rename(partial, final)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    return Checkpoint(final, learner.step)


def _write_files(folder: Path, learner: Learner, adjustments: int | None) -> None:
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


def _rename(partial: Path, final: Path) -> None:
    """Give a complete folder its final name; an existing folder of that name stays until then."""
    old = final.with_name(f"{OLD}{final.name}")
    shutil.rmtree(old, ignore_errors=True)
    if final.exists():
        final.rename(old)
    partial.rename(final)
    sync(final.parent)
    shutil.rmtree(old, ignore_errors=True)


def _write(tensors: dict[str, Tensor], path: Path) -> None:
    """Write tensors with the permissions of any new file; safetensors would make the file private to its owner."""
    mode = (path.parent / "state.json").stat().st_mode
    try:
        save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, path)
    except SafetensorError as error:  # raised when the disk is full
        raise OSError(str(error)) from error
    path.chmod(mode)


def load(learner: Learner, checkpoint: Checkpoint) -> None:
    """Restore the learner from a checkpoint, bit for bit.

    Args:
        learner: A learner at step 0, built with the plan and the trained blocks of the checkpoint (`state_of`).
        checkpoint: The checkpoint to restore.

    Raises:
        RunError: The checkpoint is damaged, or is of another backbone or other trained blocks.
    """
    progress, trained = state_of(checkpoint).progress, learner.progress.trained
    if trained != progress.trained:
        raise RunError(
            f"{checkpoint.path} has the trained blocks {', '.join(progress.trained)}; expected {', '.join(trained)}",
            hint="use the plan of the run that wrote it",
        )
    load_weights(learner.backbone, trained, checkpoint)
    tactics = _read(checkpoint, TACTICS) if (checkpoint.path / TACTICS).exists() else {}
    optimizer = _read(checkpoint, "optimizer.safetensors")
    try:
        restore(learner, progress, frozen=_frozen(learner, checkpoint), optimizer=optimizer, tactics=tactics)
    except RunError as error:
        raise RunError(f"{checkpoint.path}: {error.what}", hint=error.hint) from None


def _frozen(learner: Learner, checkpoint: Checkpoint) -> dict[str, str]:
    """Return the checkpoint's hashes of the frozen tensors, after checking that the learner's hashes are the same."""
    try:
        saved: dict[str, str] = reader(Mapping[str, str])(json.loads(read_text(checkpoint.path / "frozen.json")))
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise RunError(f"{checkpoint.path / 'frozen.json'} can't be read: {error}", hint="use an older step") from None
    tensors = fingerprints.frozen_tensors(learner.model, learner.backbone.blocks, learner.trainable)
    own = fingerprints.hashes(tensors)
    differing = sorted(name for name in {*saved, *own} if saved.get(name) != own.get(name))
    if differing:
        raise RunError(
            f"{checkpoint.path} was trained from another backbone: {differing[0]} and {len(differing) - 1} more frozen "
            "tensors differ",
            hint="use the backbone, the data and the plan that the run started with",
        )
    return saved


def load_weights(backbone: Backbone, trained: Sequence[str], checkpoint: Checkpoint) -> None:
    """Load the tensors of a checkpoint into a model with the same trained blocks and adapters.

    Raises:
        RunError: The checkpoint is damaged or of another model.
    """
    saved, own = _read(checkpoint, "weights.safetensors"), changeable(backbone, trained)
    if shapes_and_types(saved) != shapes_and_types(own):
        raise RunError(
            f"the {counted(len(saved), 'tensor')} of {checkpoint.path} do not fit the {len(own)} of this model",
            hint="use the plan of the run that wrote it",
        )
    with torch.no_grad():
        for name, tensor in own.items():
            tensor.copy_(saved[name])


def put_into(backbone: Backbone, checkpoint: Checkpoint) -> None:
    """Turn an unchanged backbone into the model of the checkpoint, in place: adapters and weights.

    Raises:
        RunError: The checkpoint is damaged or of another model.
    """
    state = state_of(checkpoint)
    adapt(backbone, state.plan, trained=state.progress.trained)
    load_weights(backbone, state.progress.trained, checkpoint)


def _read(checkpoint: Checkpoint, name: str) -> dict[str, Tensor]:
    try:
        tensors: dict[str, Tensor] = load_file(verified(checkpoint).path / name)
        return tensors
    except (OSError, SafetensorError) as error:  # for example deleted after the check
        raise RunError(f"{checkpoint.path / name} can't be read: {error}", hint="use an older step") from None


def changeable(backbone: Backbone, trained: Sequence[str]) -> dict[str, Tensor]:
    """Return by name every tensor that can differ from the backbone, given the blocks that are or were trainable."""
    return freezing.changeable(backbone.model, backbone.blocks, trained)

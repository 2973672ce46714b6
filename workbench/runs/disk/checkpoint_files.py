"""Checkpoints as files: which exist, whether they are intact, and the state of the run in them.

This module reads no tensors and imports no torch. It uses a file only if its size and hash are those in the manifest.
"""

import dataclasses
import errno
import hashlib
import json
import os
import secrets
import shutil
import typing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workbench.errors import RunError
from workbench.plan.plan import Plan
from workbench.training.progress import Progress
from workbench.untrusted import check_ordinary, read_text, reader, shown, to_json

PARTIAL, OLD = ".partial-", ".old-"  # prefixes of folders that are being written, and being replaced
FILES = {"weights.safetensors", "optimizer.safetensors", "state.json", "frozen.json"}
TACTICS = "tactics.safetensors"  # exists only if the state of a tactic has tensors
_RENAMED = {  # key in checkpoints of version 0.1.0 -> key now
    "learnt": "trained",
    "joined": "trainable_since",
    "measured_step": "evaluated_step",
    "adjusted": "adjustments",
}
_TEMPORARY = {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EACCES, errno.EPERM}


class UnreadableError(RunError):
    """A checkpoint can't be read at the moment: too many open files, or no permission."""


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint on disk."""

    path: Path
    step: int

    @property
    def size_bytes(self) -> int:
        """Its size on disk."""
        return sum(file.stat().st_size for file in self.path.iterdir())


@dataclass(frozen=True)
class State:
    """The state of a run in a checkpoint, without tensors.

    Attributes:
        plan: The plan at that step, with all changes until then.
        progress: The progress of the learner at that step.
    """

    plan: Plan
    progress: Progress

    @property
    def step(self) -> int:
        """Number of optimizer steps taken."""
        return self.progress.step


def state_json(plan: Plan, progress: Progress) -> str:
    """Return the content of state.json."""
    return json.dumps({**to_json(dataclasses.asdict(progress)), "plan": dataclasses.asdict(plan)}, ensure_ascii=False)


def state_of(checkpoint: Checkpoint) -> State:
    """Read the state of the run in a checkpoint.

    Raises:
        RunError: The checkpoint is damaged.
    """
    try:
        tree = json.loads(read_text(verified(checkpoint).path / "state.json"))
        plan = Plan.from_dict(tree.pop("plan"))
        tree = {_RENAMED.get(name, name): value for name, value in tree.items()}
        tree.setdefault("best_value", tree.get("best_loss"))
        hints = typing.get_type_hints(Progress)
        return State(plan, Progress(**{name: reader(hints[name])(value) for name, value in tree.items()}))
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise RunError(f"the state of {checkpoint.path} can't be read: {error}", hint="use an older step") from None


def newest_valid(root: Path) -> tuple[Checkpoint | None, list[RunError]]:
    """Return the newest intact checkpoint, or None, and the errors of the newer ones.

    Raises:
        UnreadableError: A checkpoint can't be read at the moment, so it may be intact.
    """
    refusals: list[RunError] = []
    for checkpoint in reversed(all_in(root)):
        try:
            state_of(checkpoint)
            return checkpoint, refusals
        except UnreadableError:
            raise
        except RunError as error:
            refusals.append(error)
    return None, refusals


def all_in(root: Path) -> list[Checkpoint]:
    """Return the checkpoints under `root`, sorted by step; their files are not checked."""
    paths = [path for path in root.glob("step-*") if path.name[5:].isdecimal()]
    return sorted((Checkpoint(path, int(path.name[5:])) for path in paths), key=lambda checkpoint: checkpoint.step)


def at(root: Path, step: int) -> Checkpoint:
    """Return the checkpoint of a step.

    Raises:
        RunError: There is none; the message gives the steps that have one.
    """
    known = all_in(root)
    found = next((checkpoint for checkpoint in known if checkpoint.step == step), None)
    if found is None:
        steps = ", ".join(str(checkpoint.step) for checkpoint in known) or "none yet"
        raise RunError(f"there is no checkpoint of step {step}", hint=f"use a step that has one: {steps}")
    return found


def verified(checkpoint: Checkpoint) -> Checkpoint:
    """Return the checkpoint, after checking the size and hash of every file against the manifest.

    Raises:
        RunError: A file is missing or differs; the message names the first one.
    """
    try:
        manifest = json.loads(read_text(checkpoint.path / "manifest.json"))
        if not isinstance(manifest, dict) or set(manifest) - {TACTICS} != FILES:
            raise ValueError(f"its manifest names {shown(manifest)}; expected {', '.join(sorted(FILES))}")
        damaged = [name for name, noted in manifest.items() if manifest_entry(checkpoint.path / name) != noted]
    except (OSError, ValueError, RecursionError) as error:
        is_temporary = isinstance(error, OSError) and error.errno in _TEMPORARY
        kind, hint = (
            (UnreadableError, "fix that, then do the same again") if is_temporary else (RunError, "use an older step")
        )
        raise kind(f"the checkpoint {checkpoint.path} can't be read: {error}", hint=hint) from None
    if damaged:
        raise RunError(f"{checkpoint.path / damaged[0]} has changed since it was written", hint="use an older step")
    return checkpoint


def tidy(root: Path) -> None:
    """Clean up after a process that died while saving: delete partial folders, restore one that was being replaced."""
    for left in root.glob(f"{OLD}step-*"):
        if not (final := root / left.name.removeprefix(OLD)).exists():
            left.rename(final)
    for left in (*root.glob(f"{OLD}*"), *root.glob(f"{PARTIAL}*")):
        shutil.rmtree(left, ignore_errors=True)


def set_aside(checkpoint: Checkpoint) -> None:
    """Rename a damaged checkpoint, so that it is not used and its step can be saved again."""
    checkpoint.path.rename(checkpoint.path.with_name(f"broken-{checkpoint.path.name}-{secrets.token_hex(2)}"))


def manifest_entry(file: Path) -> dict[str, Any]:
    """Return the entry of a file in the manifest: its size and its sha256."""
    check_ordinary(file)
    with file.open("rb") as stream:
        return {"bytes": file.stat().st_size, "sha256": hashlib.file_digest(stream, "sha256").hexdigest()}


def sync(path: Path) -> None:
    """Sync a file or folder to disk. Otherwise a rename could survive a power failure that the content does not."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)

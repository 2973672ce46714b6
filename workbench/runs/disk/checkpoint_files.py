"""Checkpoints as they lie on disk: which there are, whether one is as it was written, and what it says of its moment.

Reads no tensor and imports no torch; what is in a folder is only taken for what its manifest says it is.
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
from workbench.plan.choices import Plan
from workbench.training.progress import Progress
from workbench.untrusted import check_ordinary, read_text, reader, shown, to_json

PARTIAL, OLD = ".partial-", ".old-"  # folders on their way in and out
FILES = {"weights.safetensors", "optimizer.safetensors", "state.json", "frozen.json"}
TACTICS = "tactics.safetensors"  # there only if a tactic keeps tensors
_RENAMED = {  # names in the checkpoints of version 0.1.0
    "learnt": "trained",
    "joined": "trainable_since",
    "measured_step": "evaluated_step",
    "adjusted": "adjustments",
}


_PASSING = {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EACCES, errno.EPERM}


class UnreadableError(RunError):
    """A checkpoint that can't be looked at now: too many open files, or no permission."""


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint on disk."""

    path: Path
    step: int

    @property
    def size_bytes(self) -> int:
        """What it takes on disk."""
        return sum(file.stat().st_size for file in self.path.iterdir())


@dataclass(frozen=True)
class State:
    """What a checkpoint says of its moment.

    Attributes:
        plan: The plan as it was by then, live changes included.
        progress: What the learner had done until then.
    """

    plan: Plan
    progress: Progress

    @property
    def step(self) -> int:
        """Optimizer steps that had been taken."""
        return self.progress.step


def state_json(plan: Plan, progress: Progress) -> str:
    """Return the content of state.json."""
    return json.dumps({**to_json(dataclasses.asdict(progress)), "plan": dataclasses.asdict(plan)}, ensure_ascii=False)


def state_of(checkpoint: Checkpoint) -> State:
    """Read what a checkpoint says of its moment.

    Raises:
        RunError: The checkpoint is broken.
    """
    try:
        tree = json.loads(read_text(verified(checkpoint).path / "state.json"))
        plan = Plan.from_dict(tree.pop("plan"))
        tree = {_RENAMED.get(name, name): value for name, value in tree.items()}
        tree.setdefault("best_value", tree.get("best_loss"))
        hints = typing.get_type_hints(Progress)
        return State(plan, Progress(**{name: reader(hints[name])(value) for name, value in tree.items()}))
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise RunError(f"the state of {checkpoint.path} can't be read: {error}", hint="an older step") from None


def newest_valid(root: Path) -> tuple[Checkpoint | None, list[RunError]]:
    """Return the newest checkpoint that is as it was written, or none, and what is wrong with each newer one.

    Raises:
        UnreadableError: One can't be looked at now, which says nothing of what is in it.
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


def verified(checkpoint: Checkpoint) -> Checkpoint:
    """Return the checkpoint if every file is as its manifest says.

    Raises:
        RunError: Names the first file that is missing or differs.
    """
    try:
        manifest = json.loads(read_text(checkpoint.path / "manifest.json"))
        if not isinstance(manifest, dict) or set(manifest) - {TACTICS} != FILES:
            raise ValueError(f"its manifest names {shown(manifest)}")
        broken = [name for name, told in manifest.items() if manifest_entry(checkpoint.path / name) != told]
    except (OSError, ValueError, RecursionError) as error:
        is_passing = isinstance(error, OSError) and error.errno in _PASSING
        kind, hint = (UnreadableError, "the same once that is put right") if is_passing else (RunError, "an older step")
        raise kind(f"the checkpoint {checkpoint.path} can't be read: {error}", hint=hint) from None
    if broken:
        raise RunError(f"{checkpoint.path / broken[0]} is not as it was written", hint="an older step")
    return checkpoint


def tidy(root: Path) -> None:
    """Clear away what a process left behind that died while it saved; a checkpoint on its way out comes back."""
    for left in root.glob(f"{OLD}step-*"):
        if not (final := root / left.name.removeprefix(OLD)).exists():
            left.rename(final)
    for left in (*root.glob(f"{OLD}*"), *root.glob(f"{PARTIAL}*")):
        shutil.rmtree(left, ignore_errors=True)


def set_aside(checkpoint: Checkpoint) -> None:
    """Give a broken checkpoint another name, so that it is taken for none and its step can be saved anew."""
    checkpoint.path.rename(checkpoint.path.with_name(f"broken-{checkpoint.path.name}-{secrets.token_hex(2)}"))


def manifest_entry(file: Path) -> dict[str, Any]:
    """Return what a manifest says of a file: its size and its sha256."""
    check_ordinary(file)
    with file.open("rb") as stream:
        return {"bytes": file.stat().st_size, "sha256": hashlib.file_digest(stream, "sha256").hexdigest()}


def sync(path: Path) -> None:
    """Ask the disk to have it; a rename of what is not yet there could survive a crash that its content does not."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)

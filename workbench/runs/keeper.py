"""Saves a run to disk while it runs: checkpoints, with a check that frozen tensors are unchanged, and the final model.

Every save yields events. A save that fails, for example on a full disk, yields an event too and does not end the run:
the earlier checkpoints still exist.
"""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from workbench.errors import RunError
from workbench.events import (
    CheckpointFailed,
    CheckpointSaved,
    EvaluationEnded,
    Event,
    FrozenMoved,
    ModelSaved,
    StepEnded,
)
from workbench.events.run_state import RunState
from workbench.models import fingerprints
from workbench.runs import checkpoints
from workbench.runs.checkpoints import Checkpoint
from workbench.runs.export import load_line, save_model, to_save
from workbench.training.learner import Learner

MODEL = "model"  # folder of the model that is saved at the end


class Keeper:
    """Keeps the best checkpoint, the newest ones, and the one that a fork started from.

    Attributes:
        saved: Step -> the checkpoint of that step.
    """

    def __init__(self, learner: Learner, folder: Path, *, origin: int | None = None) -> None:
        self.learner, self.folder = learner, folder
        self.saved: dict[int, Checkpoint] = {found.step: found for found in checkpoints.all_in(self.root)}
        self._origin = origin  # the step at which a fork started: without its checkpoint a fork can't be resumed
        self._best = learner.progress.best_step
        self._logged = RunState()
        progress = learner.progress
        self._logged.step, self._logged.evaluated_step = progress.step, progress.evaluated_step
        self._logged.adjustments = progress.adjustments

    @property
    def root(self) -> Path:
        """The folder of the checkpoints."""
        return self.folder / "checkpoints"

    @property
    def is_kept(self) -> bool:
        """Whether the current state of the learner is on disk."""
        return self.learner.step == 0 or self.learner.step in self.saved

    def note_logged(self, event: Event) -> None:
        """Record that an event is in the log: only a state that the log describes may be saved."""
        self._logged.note(event)

    @property
    def _is_logged(self) -> bool:
        """Whether the log has everything that the learner has done."""
        log, progress = self._logged, self.learner.progress
        return (log.step, log.evaluated_step, log.adjustments) == (
            progress.step,
            progress.evaluated_step,
            progress.adjustments,
        )

    def save_if_due(self, event: Event) -> Iterator[Event]:
        """Save after an evaluation or every `checkpoint_every` steps, but never before a due evaluation."""
        if not isinstance(event, (StepEnded, EvaluationEnded)) or self.learner.is_due:
            return
        every = self.learner.plan.monitoring.checkpoint_every
        is_best = isinstance(event, EvaluationEnded) and event.best
        is_time = event.step % every == 0 if every else isinstance(event, EvaluationEnded)
        if is_best or is_time:
            yield from self.save()

    def save(self) -> Iterator[Event]:
        """Save the learner, unless this step is saved already; step 0 is the backbone itself and needs no file."""
        learner = self.learner
        if not learner.is_consistent or learner.step == 0 or learner.step in self.saved or not self._is_logged:
            return
        if moved := learner.changed_frozen_tensors():
            yield FrozenMoved(
                step=learner.step, tensors=moved, blocks=fingerprints.where(moved, learner.backbone.blocks)
            )
        try:
            checkpoint = checkpoints.save(learner, self.root)
        except OSError as error:
            yield CheckpointFailed(
                step=learner.step, what=_reason(error), hint="free some disk space; the run continues"
            )
            return
        self.saved[learner.step] = checkpoint
        self._prune()
        yield self._saved_event(checkpoint, len(learner.frozen) - len(moved))

    def save_model(self) -> Iterator[Event]:
        """Save the best or the last model, as the plan says, as a plain transformers model.

        If no evaluation was better than that of the untrained model, the last model is saved.
        """
        learner, which = self.learner, self.learner.plan.monitoring.save_model
        if which == "none" or learner.step == 0 or not learner.is_consistent:
            return
        if which == "best" and not (learner.progress.best_step and learner.progress.best_step in self.saved):
            which = "last"
        step = learner.progress.best_step if which == "best" and learner.progress.best_step else learner.step
        try:
            backbone = to_save(learner, None if step == learner.step else self.saved[step])
            size = save_model(backbone, self.folder / MODEL)
        except (OSError, RunError) as error:
            yield CheckpointFailed(
                step=step, what=f"the model could not be written: {_reason(error)}", hint="get it with run.model()"
            )
            return
        yield ModelSaved(step=step, which=which, folder=MODEL, size_bytes=size, load=load_line(backbone))

    def _prune(self) -> None:
        """Delete checkpoints that are neither the best, nor among the newest, nor the start of a fork."""
        self.saved = {step: checkpoint for step, checkpoint in self.saved.items() if checkpoint.path.is_dir()}
        self._best = self.learner.progress.best_step if self.learner.progress.best_step in self.saved else self._best
        count = self.learner.plan.monitoring.keep_last
        newest = sorted(self.saved)[-count:] if count else [*self.saved]
        for step in {*self.saved} - {*newest, self._best, self._origin}:
            shutil.rmtree(self.saved.pop(step).path, ignore_errors=True)

    def _saved_event(self, checkpoint: Checkpoint, verified: int) -> CheckpointSaved:
        return CheckpointSaved(
            step=checkpoint.step,
            folder=f"checkpoints/{checkpoint.path.name}",
            size_bytes=checkpoint.size_bytes,
            best=self.learner.progress.best_step == checkpoint.step,
            frozen_tensors=verified,
            kept=tuple(sorted(self.saved)),
            kept_bytes=sum(kept.size_bytes for kept in self.saved.values()),
        )


def _reason(error: Any) -> str:
    return str(getattr(error, "strerror", None) or getattr(error, "what", None) or error)

"""Time travel: a run as it was after any of its steps, with its weights and what they say.

A step without a checkpoint of its own is reached by repeating the steps since the checkpoint before it, which gives the
same weights to the bit: batch order, dropout and rate are functions of the step. So any point of a curve can be asked.
"""

import contextlib
import functools
from collections.abc import Callable, Mapping
from typing import Any

import pandas as pd

from workbench.errors import RunError
from workbench.events import EvaluationEnded, Event, RunForked, StepEnded
from workbench.models import Backbone, generation
from workbench.runs.build import learner_of
from workbench.runs.checkpoints import all_in
from workbench.runs.disk.control import Control
from workbench.runs.disk.run_folder import RunFolder
from workbench.runs.export import copy_of
from workbench.runs.preparation import Preparation
from workbench.runs.replay import ChangeQueue, pending_changes
from workbench.runs.samples import samples
from workbench.training import engine
from workbench.training.evaluate import evaluate
from workbench.training.learner import Learner

OnProgress = Callable[[int, int], None]  # steps repeated, and how many there are to repeat


class Moment:
    """A run after `step` steps. Nothing is loaded until it is asked for; then it is kept.

    Attributes:
        step: Steps taken.
        events: What was logged of the run until then.
        differs: What repeating the steps gave otherwise than was logged, in words; empty where it was the same.
    """

    def __init__(
        self, folder: RunFolder, preparation: Preparation, step: int, *, progress: OnProgress = lambda done, of: None
    ) -> None:
        folder, logged = _whose(folder, step)
        last = max((event.step for event in logged if isinstance(event, (StepEnded, RunForked))), default=0)
        if not isinstance(step, int) or not 0 <= step <= last:
            raise RunError(f"step is {step!r}; {folder.name} has taken {last} steps", hint=f"a step from 0 to {last}")
        self.step, self.differs = step, ""
        self.events = [event for event in logged if getattr(event, "step", 0) <= step]
        self._folder, self._preparation, self._logged, self._progress = folder, preparation, logged, progress

    def __repr__(self) -> str:
        return f"<{self._folder.name} after {self.step} steps: loss {self.loss}, {dict(self.metrics)}>"

    @property
    def loss(self) -> float | None:
        """The training loss of this step, in nats per target; None before the first."""
        return next((e.loss for e in self.events if isinstance(e, StepEnded) and e.step == self.step), None)

    @property
    def metrics(self) -> Mapping[str, float]:
        """What the last evaluation until this step measured."""
        found = [event for event in self.events if isinstance(event, EvaluationEnded) and event.split == "validation"]
        return found[-1].metrics if found else {}

    @functools.cached_property
    def learner(self) -> Learner:
        """The learner as it was, with its optimizer; it is yours to train on."""
        learner = self._nearest()
        self._repeat(learner)
        return learner

    def as_backbone(self) -> Backbone:
        """Return the model with its tokenizer or image processor: a plain copy, adapters merged, in eval mode."""
        return copy_of(self.learner)

    def model(self) -> Any:
        """Return the model as plain transformers: a copy, adapters merged, in eval mode."""
        return self.as_backbone().model

    def complete(self, prompt: str, *, tokens: int = 40) -> str:
        """Return how the language model goes on from a prompt, greedily. Raises RunError for another kind of model."""
        return generation.complete(self.as_backbone(), prompt, tokens=tokens)

    def samples(self, count: int = 6) -> pd.DataFrame:
        """Return what the model makes of some held-out rows, the same ones at every step, to be read by a person."""
        split = self._preparation.split(self.learner.plan)
        return samples(self.as_backbone(), split, self.learner.plan.data, count=count)

    def measure(self, split: str = "test") -> Mapping[str, float]:
        """Return the metrics on every row of a split.

        Raises:
            DataError: There is no such split.
            RunError: It has no rows.
        """
        learner = self.learner
        rows = self._preparation.split(learner.plan).part(split)
        examples = learner.task.encode(rows, learner.backbone, learner.plan.data)
        if not len(examples):
            raise RunError(f"the {split} split of this run has no rows", hint="a plan with test_fraction=0.15")
        events = evaluate(learner, examples, split=split)
        return next(event.metrics for event in events if isinstance(event, EvaluationEnded))

    def _nearest(self) -> Learner:
        """Return the learner at the last checkpoint until this step that is whole, or at the backbone."""
        for checkpoint in reversed(all_in(self._folder.path / "checkpoints")):
            if checkpoint.step <= self.step:
                with contextlib.suppress(RunError):  # broken, or taken away meanwhile by the run itself
                    return learner_of(self._folder, self._preparation, checkpoint)
        if any(isinstance(event, RunForked) and event.step for event in self._logged):
            raise RunError(
                f"the checkpoint that {self._folder.name} began from is broken", hint="fork the parent again"
            )
        return learner_of(self._folder, self._preparation)

    def _repeat(self, learner: Learner) -> None:
        """Take the steps from where the learner is to this moment, with the changes that were made in between."""
        first, logged = learner.step, {event.step: event for event in self._logged if isinstance(event, StepEnded)}
        known = pending_changes(self._folder.path, self._logged, learner.progress.adjustments)
        for event in engine.repeat(learner, self.step, self._logged, changes=ChangeQueue(known, Control())):
            if not self.differs and event != logged[event.step]:
                self.differs = f"step {event.step} gave loss {event.loss!r}; the log has {logged[event.step].loss!r}"
            self._progress(learner.step - first, self.step - first)


def _whose(folder: RunFolder, step: int) -> tuple[RunFolder, list[Event]]:
    """Return the run that took this step, which is the parent before a fork's beginning, and its log."""
    logged = list(folder.events())
    fork = next((event for event in logged[:1] if isinstance(event, RunForked)), None)
    if fork is None or not isinstance(step, int) or not 0 <= step < fork.step:
        return folder, logged
    parent = RunFolder(folder.path.parent / fork.parent)
    if not (parent.path / "plan.json").exists():
        what = f"{folder.name} began at step {fork.step} of {fork.parent}, which is not there any more"
        raise RunError(what, hint=f"a step from {fork.step} on")
    return _whose(parent, step)

"""A moment: the state of a run after any of its steps, with the model and its outputs.

If a step has no checkpoint, the steps since the last checkpoint before it are repeated. That gives the same weights bit
for bit, because batch order, dropout and learning rate are functions of the step. So a user can ask about any point of
a curve.
"""

import contextlib
import functools
import operator
from collections.abc import Callable, Mapping
from typing import Any

import pandas as pd

from workbench.errors import RunError, counted
from workbench.events import EvaluationEnded, Event, RunForked, StepEnded
from workbench.events.sentences import in_words
from workbench.models import Backbone, generation
from workbench.runs.build import learner_of
from workbench.runs.checkpoints import all_in
from workbench.runs.disk import test_scores
from workbench.runs.disk.control import Control
from workbench.runs.disk.run_folder import RunFolder
from workbench.runs.export import copy_of
from workbench.runs.predict import BATCH, predict
from workbench.runs.preparation import Preparation
from workbench.runs.replay import ChangeQueue, pending_changes
from workbench.runs.results import OnRows, Results, results_of
from workbench.runs.samples import samples
from workbench.tasks.examples import Examples
from workbench.training import engine
from workbench.training.evaluate import evaluate
from workbench.training.learner import Learner

OnProgress = Callable[[int, int], None]  # is called with the number of steps repeated, and of steps to repeat


class Moment:
    """A run after `step` steps. The learner is loaded when it is first needed.

    Attributes:
        step: Number of steps taken.
        folder: The folder of the run that took them: of this run, or of the one that it was forked from.
        events: The events of the run until then.
        differs: The first difference between repeated steps and the log, in words; empty if there is none.
    """

    def __init__(
        self, folder: RunFolder, preparation: Preparation, step: int, *, progress: OnProgress = lambda done, of: None
    ) -> None:
        self._asked = folder
        with contextlib.suppress(TypeError):
            step = operator.index(step)  # also of NumPy; something else is refused below
        folder, logged = run_with_step(folder, step)
        last = max((event.step for event in logged if isinstance(event, (StepEnded, RunForked))), default=0)
        if not isinstance(step, int) or not 0 <= step <= last:
            what = f"step must be a whole number from 0 to {last}; got {step!r}"
            raise RunError(what, hint=f"use step={last}, the last one of {folder.name}")
        self.step, self.differs = step, ""
        self.events = [event for event in logged if getattr(event, "step", 0) <= step]
        self.folder, self._preparation, self._logged, self._progress = folder, preparation, logged, progress

    def __repr__(self) -> str:
        return f"<{self.folder.name} after {counted(self.step, 'step')}: validation {in_words(self.metrics)}>"

    @property
    def loss(self) -> float | None:
        """The training loss of this step, in nats per target; None at step 0."""
        return next((e.loss for e in self.events if isinstance(e, StepEnded) and e.step == self.step), None)

    @property
    def metrics(self) -> Mapping[str, float]:
        """The metrics of the last evaluation until this step."""
        found = [event for event in self.events if isinstance(event, EvaluationEnded) and event.split == "validation"]
        return found[-1].metrics if found else {}

    @functools.cached_property
    def learner(self) -> Learner:
        """The learner at this step, with its optimizer. You may train it further."""
        learner = self._nearest()
        self._repeat(learner)
        return learner

    def as_backbone(self) -> Backbone:
        """Return the model with its tokenizer or image processor, as a copy in eval mode with merged adapters."""
        return copy_of(self.learner)

    def model(self) -> Any:
        """Return the model as a plain transformers model: a copy in eval mode with merged adapters."""
        return self.as_backbone().model

    def complete(self, prompt: str, *, max_new_tokens: int = 40, tokens: int | None = None) -> str:
        """Return the greedy continuation of a prompt, as `Run.complete` does."""
        longest = max_new_tokens if tokens is None else tokens
        return generation.complete(self.as_backbone(), prompt, max_new_tokens=longest)

    def samples(self, count: int = 6) -> pd.DataFrame:
        """Return the model's outputs on some held-out rows, the same rows at every step, for a person to read."""
        split = self._preparation.split(self.learner.plan)
        return samples(self.as_backbone(), split, self.learner.plan.data, count=count)

    def predict(self, inputs: Any, *, batch_size: int = BATCH, max_new_tokens: int = 40) -> pd.DataFrame:
        """Return the model's answers to texts or images, as `Run.predict` does."""
        split, choice = self._preparation.split(self.learner.plan), self.learner.plan.data
        options = {"batch_size": batch_size, "max_new_tokens": max_new_tokens}
        return predict(self._plain, inputs, choice, split.labels, split.inputs, **options)

    @functools.cached_property
    def _plain(self) -> Backbone:
        return self.as_backbone()

    def results(self, split: str = "validation", *, progress: OnRows = lambda done, of: None) -> Results:
        """Return what the model gets right and wrong on the validation rows of the run, or on another split.

        Results on the test rows are recorded, as a score by `measure` is.

        Args:
            split: validation (the rows of the run's evaluations) | test (all rows) | train (all rows)
            progress: Is called with (rows evaluated, rows to evaluate).

        Raises:
            DataError: There is no such split.
            RunError: The split has no rows.
        """
        learner, rows = self.learner, self._preparation.split(self.learner.plan)
        examples = learner.validation if split == "validation" else self._examples(split)
        found = results_of(learner, examples, rows.part(split), rows.labels, split=split, progress=progress)
        if split == "test":
            self._record(found.as_evaluation())
        return found

    def measure(self, split: str = "test") -> Mapping[str, float]:
        """Return the metrics on all rows of a split. A score on the test rows is recorded: see `Run.test_scores`.

        Raises:
            DataError: There is no such split.
            RunError: The split has no rows.
        """
        learner = self.learner
        events = evaluate(learner, self._examples(split), split=split)
        ended = next(event for event in events if isinstance(event, EvaluationEnded))
        if split == "test":
            self._record(ended)
        return ended.metrics

    def _examples(self, split: str) -> Examples:
        learner = self.learner
        rows = self._preparation.split(learner.plan).part(split)
        examples = learner.task.encode(rows, learner.backbone, learner.plan.data)
        if not len(examples):
            raise RunError(f"the {split} split of this run has no rows", hint="use a plan with test_fraction=0.15")
        return examples

    def _record(self, score: EvaluationEnded) -> None:
        with contextlib.suppress(RunError):  # a folder that can't be written, such as one of another person
            test_scores.record(self._asked.path, score)

    def _nearest(self) -> Learner:
        """Return the learner at the last intact checkpoint until this step, or at step 0."""
        for checkpoint in reversed(all_in(self.folder.path / "checkpoints")):
            if checkpoint.step <= self.step:
                with contextlib.suppress(RunError):  # damaged, or deleted meanwhile by the run itself
                    return learner_of(self.folder, self._preparation, checkpoint)
        if any(isinstance(event, RunForked) and event.step for event in self._logged):
            raise RunError(
                f"the checkpoint that {self.folder.name} starts from is damaged", hint="fork the parent again"
            )
        return learner_of(self.folder, self._preparation)

    def _repeat(self, learner: Learner) -> None:
        """Repeat the steps from the learner's current step to this one, with the logged changes of the plan."""
        first, logged = learner.step, {event.step: event for event in self._logged if isinstance(event, StepEnded)}
        known = pending_changes(self.folder.path, self._logged, learner.progress.adjustments)
        for event in engine.repeat(learner, self.step, self._logged, changes=ChangeQueue(known, Control())):
            if not self.differs and event != logged[event.step]:
                self.differs = (
                    f"step {event.step} gave loss {event.loss!r}, but the log has {logged[event.step].loss!r}"
                )
            self._progress(learner.step - first, self.step - first)


def run_with_step(folder: RunFolder, step: int) -> tuple[RunFolder, list[Event]]:
    """Return the run that took this step, and its log; a step before the start of a fork was taken by its parent."""
    logged = list(folder.events())
    fork = next((event for event in logged[:1] if isinstance(event, RunForked)), None)
    if fork is None or not isinstance(step, int) or not 0 <= step < fork.step:
        return folder, logged
    return run_with_step(parent_of(folder, fork), step)


def parent_of(folder: RunFolder, fork: RunForked) -> RunFolder:
    """Return the run that this one was forked from. Raises RunError if it does not exist any more."""
    parent = RunFolder(folder.path.parent / fork.parent)
    if not (parent.path / "plan.json").exists():
        what = f"{folder.name} was forked at step {fork.step} of {fork.parent}, which does not exist any more"
        raise RunError(what, hint=f"use a step from {fork.step} on")
    return parent

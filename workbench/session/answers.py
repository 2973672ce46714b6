"""What the models of a run answer: predictions for new inputs, and results on held-out rows.

The models that were asked last stay in memory, so that the next answer takes a fraction of a second. They are copies,
so asking never changes the model in training.
"""

import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from workbench.errors import RunError, WorkbenchError
from workbench.events import EvaluationEnded
from workbench.models import Backbone
from workbench.plan.plan import Plan
from workbench.runs.disk import test_scores
from workbench.runs.preparation import Preparation

if TYPE_CHECKING:  # a session, and with it the panel, is there before torch and pandas are imported
    import pandas as pd

    from workbench.runs.moment import Moment
    from workbench.runs.results import OnRows, Results

KEPT_MODELS = 3  # the backbone, the best model, and one more


class _Run(Protocol):
    """What this module needs of a run."""

    plan: Plan
    folder: Path
    _preparation: Preparation
    _answering: "Answering"

    def at(self, step: int) -> "Moment": ...
    def _step_of(self, which: str) -> int: ...
    def _backbone_at(self, step: int) -> Backbone: ...


class Answering:
    """The models that a run was asked for last, by step."""

    def __init__(self) -> None:
        self._models: dict[int, Backbone] = {}
        self._lock = threading.Lock()

    def model(self, run: _Run, step: int) -> Backbone:
        """Return the plain model at a step, on the fastest device. Do not change it."""
        from workbench.training.device import choose_device

        with self._lock:
            found = self._models.pop(step, None)
            if found is None:
                found = run._backbone_at(step)
                found.model.to(choose_device("auto"))
            self._models[step] = found  # the newest last
            for old in list(self._models)[:-KEPT_MODELS]:
                del self._models[old]
            return found


class Answers:
    """The part of a run's handle that asks its models."""

    def predict(
        self: _Run,
        inputs: Any,
        *,
        step: int | None = None,
        which: str | None = None,
        batch_size: int = 32,
        max_new_tokens: int = 40,
    ) -> "pd.DataFrame":
        """Return the answers of a model of this run to texts or images, one line per input.

        A classifier gives the columns "input", "label" (the most probable class), its "probability", and for each class
        a column "P(name of the class)". A language model gives "prompt" and "completion", the most probable token at
        each place. Inputs are encoded as in the run's evaluations. The model computes in float32 and without dropout,
        so the answers are those of `run.model(which)` in plain transformers. The run may be training meanwhile.

        Args:
            inputs: A text or several; or images: paths, PIL images, uint8 arrays (height, width, 3), or the bytes of
                image files; or a frame or `datasets.Dataset` with the column that the run read.
            step: Ask the model after this step, in place of `which`.
            which: "best" (as without `step` and `which`), "last", or "backbone" for the model before training. If the
                classifier on top of the backbone is new, its answers before training mean nothing.
            batch_size: Inputs that the model reads at once; the answers do not depend on it.
            max_new_tokens: Longest completion, in tokens.

        Raises:
            DataError: An input is missing, empty, or of a wrong type; the message says which row.
            RunError: There is no such model, both `step` and `which` are given, or a prompt is too long.
        """
        from workbench.runs.predict import class_names, predict

        backbone = self._answering.model(self, _chosen_step(self, step, which))
        try:
            split = self._preparation.split(self.plan)
            labels, columns = split.labels, split.inputs
        except WorkbenchError:  # the rows are not here any more; a saved model knows its classes
            labels, columns = class_names(backbone), ()
        options = {"batch_size": batch_size, "max_new_tokens": max_new_tokens}
        return predict(backbone, inputs, self.plan.data, labels, columns, **options)

    def results(
        self: _Run,
        step: int | None = None,
        *,
        which: str | None = None,
        split: str = "validation",
        progress: "OnRows" = lambda done, of: None,
    ) -> "Results":
        """Return what a model of this run gets right and wrong: per class, as a confusion matrix, and row by row.

        On the validation rows, these are the rows of the run's evaluations, so the accuracy is the logged one. Results
        on the test rows are recorded: see `test_scores`.

        Args:
            step: The step of the model, in place of `which`.
            which: "best" (as without `step` and `which`), "last" or "backbone".
            split: validation | test | train
            progress: Is called with (rows evaluated, rows to evaluate).

        Raises:
            DataError: There is no such split.
            RunError: There is no such model, both `step` and `which` are given, or the split has no rows.
        """
        return self.at(_chosen_step(self, step, which)).results(split, progress=progress)

    @property
    def test_scores(self: _Run) -> list[EvaluationEnded]:
        """All scores of this run on its test rows, oldest first; each has its `step`, `metrics`, `rows` and `time`.

        Test rows are for one score at the end. Whoever chooses a model by them needs new rows for an honest score.
        """
        return test_scores.read(self.folder)

    def is_untrained(self: _Run) -> bool:
        """Whether the classifier on top of the backbone was new, so that "backbone" answers by chance."""
        from workbench.runs.predict import is_untrained

        return is_untrained(self._answering.model(self, 0))

    def held_out(self: _Run, count: int = 4) -> list[Any]:
        """Return texts (for a language model: the first words), or PIL images, of some validation rows."""
        from workbench.runs.samples import first_words, spread

        rows = self._preparation.split(self.plan).validation
        chosen = rows.select(spread(len(rows), count))
        kind = "image" if "image" in rows.column_names else "text"
        is_prompt = "label" not in rows.column_names
        return [first_words(value) if is_prompt else value for value in chosen[kind]]


def _chosen_step(run: _Run, step: int | None, which: str | None) -> int:
    if step is None:
        return run._step_of(which or "best")
    if which is not None:
        raise RunError(f"got step={step!r} and which={which!r}; expected one of them", hint="leave one out")
    return step

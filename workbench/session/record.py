"""A run as its folder and its events describe it: its numbers, its models, and its parent.

This part of a run's handle only reads; the part that also controls the run is in handle.py.
"""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.errors import QUESTION, RunError, WorkbenchError, nearest
from workbench.events import CheckpointSaved, Event, ModelSaved, PlanAdjusted, RunForked, RunStarted
from workbench.events.pace import Pace
from workbench.events.run_state import RunState
from workbench.models import Backbone
from workbench.plan.plan import Plan
from workbench.runs.disk.run_folder import RunFolder
from workbench.runs.preparation import Preparation
from workbench.session import usage
from workbench.session.answers import Answering, Answers
from workbench.session.saved import saved_backbone

if TYPE_CHECKING:  # a session, and with it the panel, is there before torch and pandas are imported
    import pandas as pd

    from workbench.runs.moment import Moment, OnProgress

MODELS = ("best", "last", "backbone")  # the models of a run that have a name


class Record(Answers):
    """A run as its folder and its events describe it.

    Attributes:
        plan: The plan of the run, with all changes that have taken effect.
        folder: The run folder on disk.
        events: All events so far.
    """

    def __init__(self, folder: RunFolder, preparation: Preparation) -> None:
        self.plan = folder.plan()
        self.folder: Path = folder.path
        self.events: list[Event] = []
        self._store, self._preparation = folder, preparation
        self._state, self._pace = RunState(), Pace()
        self._created = time.time()
        self._answering = Answering()

    def note(self, event: Event) -> None:
        """Update the record with one event."""
        self.events.append(event)
        self._pace.note(event)
        self._state.note(event)
        if isinstance(event, PlanAdjusted):
            self.plan = self.plan.change(**event.after)

    def __repr__(self) -> str:
        steps = f", step {self.step:,} of {self.steps:,}" if self.steps else ""
        fork = self._state.parent
        origin = f", forked from {fork.parent} at step {fork.step:,}" if fork else ""
        return f"<Run {self.name}: {self.state}{steps}{origin}>"

    @property
    def name(self) -> str:
        """The name of the run, which is the name of its folder."""
        return self.folder.name

    @property
    def is_over(self) -> bool:
        """Whether the run has ended."""
        return self._state.is_over

    @property
    def state(self) -> str:
        """The phase of the run: preparing | running | paused | completed | stopped | failed."""
        return self._state.phase

    @property
    def step(self) -> int:
        """Optimizer steps taken so far."""
        return self._pace.step

    @property
    def steps(self) -> int:
        """Optimizer steps of the run in total; 0 until that is known."""
        return self._pace.steps

    @property
    def seconds_left(self) -> float | None:
        """Time until the end at the current speed, including evaluations; None before the first step."""
        return self._pace.seconds_left

    @property
    def seconds_silent(self) -> float:
        """Time since the last event; without events, since this object was created."""
        return max(0.0, time.time() - (self.events[-1].time if self.events else self._created))

    @property
    def disk_bytes(self) -> int:
        """The size of the run folder on disk."""
        return sum(_size(path) for path in self.folder.rglob("*"))

    @property
    def saved_model(self) -> ModelSaved | None:
        """The last plain transformers model that the run saved, if any."""
        return self._state.model

    @property
    def load_line(self) -> str | None:
        """Python code that loads the saved `model`, and its `tokenizer` or image `processor`, with plain transformers.

        None if there is no saved model.
        """
        if (saved := self.saved_model) is None:
            return None
        return usage.loading(saved.load, self._task, str((self.folder / saved.folder).resolve()))

    @property
    def use_lines(self) -> str | None:
        """Python code that loads the saved model and asks it once, with plain transformers; None without a model."""
        if (load := self.load_line) is None:
            return None
        return "\n".join(part for part in (load, usage.asking(self._task, self.plan.data.max_length)) if part)

    @property
    def _task(self) -> str:
        return next((event.task for event in self.events if isinstance(event, RunStarted)), "")

    @property
    def parent(self) -> str | None:
        """The name of the run that this one was forked from, if any."""
        return self._state.parent.parent if self._state.parent else None

    @property
    def differences(self) -> dict[str, tuple[Any, Any]]:
        """How the plan differs from the parent's: field -> (value there, value here); (None, …) without the parent."""
        if (fork := self._state.parent) is None:
            return {}
        mine = self.plan.change(
            **{name: value for name, value in fork.changes.items() if name not in self._state.changed}
        )
        if (theirs := _final_plan(self.folder.parent, fork.parent)) is None:
            return {name: (None, mine.flat()[name]) for name in fork.changes}
        return theirs.differences(mine)

    def model(self, which: str = "best") -> Any:
        """Return the model at the "best" evaluation, at the "last" checkpoint, or before training ("backbone").

        It is a copy of the model as a plain transformers model in eval mode: save it with `save_pretrained`, or train
        it further. Before the first checkpoint, the best and the last model are the backbone.

        Raises:
            RunError: `which` is another word, or the checkpoint is damaged.
        """
        return self.as_backbone(which).model

    def complete(self, prompt: str, *, which: str = "best", max_new_tokens: int = 40, tokens: int | None = None) -> str:
        """Return the greedy continuation of a prompt by the "best", "last" or "backbone" model.

        Args:
            prompt: The start of a text.
            which: "best", "last" or "backbone".
            max_new_tokens: Longest continuation, in tokens.
            tokens: The earlier name of `max_new_tokens`.

        Raises:
            RunError: The model of this run is not a language model.
        """
        from workbench.models import generation

        return generation.complete(
            self.as_backbone(which), prompt, max_new_tokens=max_new_tokens if tokens is None else tokens
        )

    def as_backbone(self, which: str = "best") -> Backbone:
        """Return the "best", "last" or "backbone" model with its tokenizer or image processor, as a copy.

        It is a plain transformers model in eval mode: adapters are merged into the weights that they adapt.
        """
        return self._backbone_at(self._step_of(which))

    def _backbone_at(self, step: int) -> Backbone:
        from workbench.runs.checkpoints import at, put_into
        from workbench.runs.export import plain

        saved = saved_backbone(self.folder, self.plan, self._preparation, self.saved_model, self.events, step)
        if saved is not None:
            return saved
        backbone = self._preparation.own_backbone(self.plan)
        if step == 0:
            return plain(backbone, image_size=self.plan.data.image_size)
        try:
            put_into(backbone, at(self.folder / "checkpoints", step))
        except RunError:  # without an intact checkpoint, the steps are repeated
            return self.at(step).as_backbone()
        return plain(backbone, image_size=self.plan.data.image_size)

    def measure(self, split: str = "test", *, which: str = "best") -> Mapping[str, float]:
        """Return the metrics of the "best", "last" or "backbone" model on all rows of a split, which may take long.

        A score on the test rows is recorded: see `test_scores`.

        Raises:
            DataError: There is no such split.
            RunError: The split has no rows.
        """
        return self.at(self._step_of(which)).measure(split)

    def at(self, step: int, *, progress: "OnProgress" = lambda done, of: None) -> "Moment":
        """Return the run as it was after `step` steps: its model, its outputs, its numbers.

        Args:
            step: Number of steps, from 0 (the backbone) to the number of steps taken.
            progress: Is called with (steps repeated, steps to repeat) while steps since a checkpoint are repeated.

        Raises:
            RunError: The run has not taken so many steps.
        """
        from workbench.runs.moment import Moment

        return Moment(self._store, self._preparation, step, progress=progress)

    def _step_of(self, which: str) -> int:
        """Return the step of the "best", "last" or "backbone" model; 0 is the backbone."""
        if which not in MODELS:
            what = f"unknown model {which!r}: use best, last or backbone"
            meant = nearest(str(which), MODELS)
            raise RunError(what, hint=meant if meant.startswith(QUESTION) else "")
        if which == "backbone":
            return 0
        if which == "best" and (self._state.best_step is not None or self._state.parent is None):
            return self._state.best_step or 0
        kept = [event.step for event in self.events if isinstance(event, CheckpointSaved | RunForked)]
        return max(kept, default=0)

    def history(self) -> "pd.DataFrame":
        """Return a table with one row per step or evaluation: step, split, loss and metrics."""
        from workbench.session import history

        return history.history(self.events)

    def plot(self) -> Any:
        """Return a matplotlib Figure of the loss, and of perplexity, or accuracy and F1."""
        from workbench.session import history

        return history.plot(self.events)


def _final_plan(root: Path, name: str) -> Plan | None:
    """Return the current plan of a run, with its changes, or None if that can't be read."""
    if Path(name).name != name:  # the log may be a stranger's: read no other folder
        return None
    folder = RunFolder(root / name)
    try:
        plan = folder.plan().change(**RunState(folder.events()).changed)
    except WorkbenchError:
        return None
    return plan


def _size(path: Path) -> int:
    try:
        return path.lstat().st_size if path.is_file() else 0
    except OSError:  # deleted meanwhile
        return 0

"""What a run folder and its events tell of a run, whoever carries it out: its numbers, its models, what it came from.

Reads only; the handle that can also steer the run is in handle.py.
"""

import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from workbench.errors import RunError, WorkbenchError, nearest
from workbench.events import CheckpointSaved, Event, ModelSaved, PlanAdjusted, RunForked
from workbench.events.pace import Pace
from workbench.events.run_state import RunState
from workbench.models import Backbone, generation
from workbench.plan.choices import Plan
from workbench.runs.checkpoints import at, put_into
from workbench.runs.disk.run_folder import RunFolder
from workbench.runs.export import plain
from workbench.runs.moment import Moment, OnProgress
from workbench.runs.preparation import Preparation
from workbench.session import history

_LOAD = re.compile(r"from [\w.]+ import (\w+)\nmodel = \1\.from_pretrained\(folder\)")
MOMENTS = ("best", "last", "backbone")  # whose weights a run can give back


class Record:
    """A run as it tells of itself.

    Attributes:
        plan: What is carried out; changes made on the way are in it once they hold.
        folder: The run folder on disk.
        events: Every event so far.
    """

    def __init__(self, folder: RunFolder, preparation: Preparation) -> None:
        self.plan = folder.plan()
        self.folder: Path = folder.path
        self.events: list[Event] = []
        self._store, self._preparation = folder, preparation
        self._state, self._pace = RunState(), Pace()
        self._since = time.time()

    def note(self, event: Event) -> None:
        """Take one event in."""
        self.events.append(event)
        self._pace.note(event)
        self._state.note(event)
        if isinstance(event, PlanAdjusted):
            self.plan = self.plan.change(**event.after)

    def __repr__(self) -> str:
        return f"<Run {self.name}: {self.state}, step {self.step} of {self.steps}>"

    @property
    def name(self) -> str:
        """The name of the run folder."""
        return self.folder.name

    @property
    def is_over(self) -> bool:
        """Whether nothing more will come of it."""
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
        """Optimizer steps that the whole run takes; 0 until that is known."""
        return self._pace.steps

    @property
    def seconds_left(self) -> float | None:
        """Time to the end at the present speed, evaluations included; None until a step was taken."""
        return self._pace.seconds_left

    @property
    def seconds_silent(self) -> float:
        """Time since its last event; since this handle was made, if there was none."""
        return max(0.0, time.time() - (self.events[-1].time if self.events else self._since))

    @property
    def disk_bytes(self) -> int:
        """What the run folder takes on disk."""
        return sum(_size(path) for path in self.folder.rglob("*"))

    @property
    def saved_model(self) -> ModelSaved | None:
        """The model that was last written as plain transformers reads it, if any was."""
        return self._state.model

    @property
    def load_line(self) -> str | None:
        """Python that loads the saved model with plain transformers; None as long as there is none."""
        if (saved := self.saved_model) is None:
            return None
        path = repr(str((self.folder / saved.folder).resolve()))
        is_ours = _LOAD.fullmatch(saved.load)  # the log may be a stranger's, and people copy what they are shown
        return saved.load.replace("(folder)", f"({path})") if is_ours else None

    @property
    def parent(self) -> str | None:
        """The name of the run that this one was forked from, if it was."""
        return self._state.parent.parent if self._state.parent else None

    @property
    def differences(self) -> dict[str, tuple[Any, Any]]:
        """How the plan differs from the parent's: field -> (there, here); None stands for a parent that is gone."""
        if (fork := self._state.parent) is None:
            return {}
        mine = self.plan.change(
            **{name: value for name, value in fork.changes.items() if name not in self._state.changed}
        )
        if (theirs := _final_plan(self.folder.parent, fork.parent)) is None:
            return {name: (None, mine.flat()[name]) for name in fork.changes}
        return theirs.differences(mine)

    def model(self, which: str = "best") -> Any:
        """Return the model as it was at its "best" evaluation, at the "last" step kept, or as the "backbone".

        A plain transformers model in eval mode, and a copy: save it with `save_pretrained`, or train it further.
        As long as no checkpoint was kept, the best and the last are the backbone.

        Raises:
            RunError: Another word, or a checkpoint that is broken.
        """
        return self.as_backbone(which).model

    def complete(self, prompt: str, *, which: str = "best", tokens: int = 40) -> str:
        """Return how the language model of `which` moment goes on from a prompt, greedily.

        Raises:
            RunError: This run's model is no language model.
        """
        return generation.complete(self.as_backbone(which), prompt, tokens=tokens)

    def as_backbone(self, which: str = "best") -> Backbone:
        """Return the model of that moment with its tokenizer or image processor, as a copy in eval mode.

        Adapters are merged into the weights they adapt, so that it is a plain transformers model to save.
        """
        step = self._step_of(which)
        backbone = self._preparation.own_backbone(self.plan)
        if step == 0:
            return plain(backbone)
        try:
            put_into(backbone, at(self.folder / "checkpoints", step))
        except RunError:  # it is not kept, or not any more: its steps can be repeated
            return self.at(step).as_backbone()
        return plain(backbone)

    def measure(self, split: str = "test", *, which: str = "best") -> Mapping[str, float]:
        """Return the metrics of the model of that moment on every row of a split; it takes as long as it takes.

        Raises:
            DataError: There is no such split.
            RunError: It has no rows.
        """
        return self.at(self._step_of(which)).measure(split)

    def at(self, step: int, *, progress: OnProgress = lambda done, of: None) -> Moment:
        """Return the run as it was after `step` steps: its model, its outputs, its numbers.

        Args:
            step: From 0, the backbone, to the steps taken.
            progress: Told how many steps were repeated and how many there are to repeat, where no checkpoint lies.

        Raises:
            RunError: It has not taken so many steps.
        """
        return Moment(self._store, self._preparation, step, progress=progress)

    def _step_of(self, which: str) -> int:
        """Return the step of the checkpoint of that moment; 0, the backbone itself, as long as there is none."""
        if which not in MOMENTS:
            raise RunError(f"which is {which!r}", hint=nearest(which, MOMENTS))
        if which == "backbone":
            return 0
        if which == "best" and (self._state.best_step is not None or self._state.parent is None):
            return self._state.best_step or 0
        kept = [event.step for event in self.events if isinstance(event, CheckpointSaved | RunForked)]
        return max(kept, default=0)

    def history(self) -> pd.DataFrame:
        """Return the numbers as a table, one row a step or evaluation: step, split, loss, and metrics."""
        return history.history(self.events)

    def plot(self) -> Any:
        """Return a matplotlib Figure of the loss, and of perplexity or accuracy and F1."""
        return history.plot(self.events)


def _final_plan(root: Path, name: str) -> Plan | None:
    """Return the plan of a run as it is by now, its changes included; None if that can't be read."""
    if Path(name).name != name:  # a log may be a stranger's: look nowhere else
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
    except OSError:  # gone while we looked
        return 0

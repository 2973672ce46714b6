"""A run in a daemon thread of this kernel, and the handle that a person holds on it.

Nothing here waits for the run except `wait` and `await`, and nothing but the run's own thread touches the model.
"""

import asyncio
import threading
import traceback
from collections.abc import Callable, Generator, Mapping
from pathlib import Path
from typing import Any, Self

import pandas as pd

from workbench import monitoring, transfer
from workbench.baseline import Backbone
from workbench.checkpoints import at, load_weights
from workbench.choices import Plan
from workbench.errors import RunError, nearest
from workbench.events import CheckpointSaved, EvaluationEnded, Event
from workbench.learner import adapt, build
from workbench.measuring import evaluate
from workbench.pace import Pace
from workbench.preparation import Preparation
from workbench.run import Control, run
from workbench.store import RunFolder, state_after

MOMENTS = ("best", "last", "backbone")  # whose weights a run can give back


class Run:
    """A run under way, or over. `Session.start` makes one.

    Attributes:
        plan: What is carried out.
        folder: The run folder on disk.
        state: preparing | running | paused | stopped | completed | failed
        events: Every event so far.
        error: What broke the run off, if anything did.
    """

    def __init__(
        self, plan: Plan, folder: RunFolder, preparation: Preparation, publish: Callable[[Event], None]
    ) -> None:
        self.plan = plan
        self.folder: Path = folder.path
        self.state = "preparing"
        self.events: list[Event] = []
        self.error: Exception | None = None
        self._log, self._preparation, self._publish = folder, preparation, publish
        self._control, self._pace = Control(), Pace()
        self._thread = threading.Thread(target=self._carry_out, name=folder.name, daemon=True)

    def start(self) -> Self:
        """Begin; a session does that."""
        self._thread.start()
        return self

    def __repr__(self) -> str:
        return f"<Run {self.name}: {self.state}, step {self.step} of {self.steps}>"

    @property
    def name(self) -> str:
        """The name of the run folder."""
        return self.folder.name

    @property
    def is_over(self) -> bool:
        """Whether nothing more will come of it."""
        return self.state in {"stopped", "completed", "failed"}

    @property
    def wish(self) -> str | None:
        """What was asked for and is not true yet: "pausing", "stopping" or nothing."""
        if self.is_over:
            return None
        if self._control.is_stopping:
            return "stopping"
        return "pausing" if self._control.is_pausing and self.state != "paused" else None

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

    def pause(self) -> Self:
        """Let the run wait after the step it is at."""
        self._control.pause()
        return self

    def resume(self) -> Self:
        """Let a paused run go on."""
        self._control.resume()
        return self

    def stop(self) -> Self:
        """Let the run end after the step it is at; its model is kept."""
        self._control.stop()
        return self

    def wait(self, timeout: float | None = None) -> Self:
        """Wait for the end, at most `timeout` seconds; an interrupt of the cell stops the run.

        Raises:
            WorkbenchError: What broke the run off.
        """
        try:
            self._thread.join(timeout)
        except KeyboardInterrupt:
            self.stop()
            self._thread.join()
        return self._checked()

    def __await__(self) -> Generator[Any, None, Self]:
        return self._over().__await__()

    async def _over(self) -> Self:
        try:
            while self._thread.is_alive():  # a look now and then leaves the kernel free for clicks
                await asyncio.sleep(0.1)
        except asyncio.CancelledError:
            self.stop()
            raise
        return self._checked()

    def model(self, which: str = "best") -> Any:
        """Return the model as it was at its "best" evaluation, at the "last" step kept, or as the "backbone".

        A plain transformers model in eval mode, and a copy: save it with `save_pretrained`, or train it further.
        As long as no checkpoint was kept, the best and the last are the backbone.

        Raises:
            RunError: Another word, or a checkpoint that is broken.
        """
        return self.learned(which).model

    def complete(self, prompt: str, *, which: str = "best", tokens: int = 40) -> str:
        """Return how the language model of `which` moment goes on from a prompt, greedily.

        Raises:
            RunError: This run's model is no language model.
        """
        return monitoring.complete(self.learned(which), prompt, tokens=tokens)

    def learned(self, which: str = "best") -> Backbone:
        """Return the model of that moment with its tokenizer or image processor, as a copy in eval mode.

        Adapters are merged into the weights they adapt, so that it is a plain transformers model to save.
        """
        backbone = self._preparation.own_backbone(self.plan)
        adapt(backbone, self.plan)
        self._put_back(backbone, which)
        if self.plan.transfer.method == "lora":
            backbone.model = transfer.merge(backbone.model)
        backbone.model.eval()
        return backbone

    def measure(self, split: str = "test", *, which: str = "best") -> Mapping[str, float]:
        """Return the metrics of the model of that moment on every row of a split; it takes as long as it takes.

        Raises:
            DataError: There is no such split.
            RunError: It has no rows.
        """
        train, validation = self._preparation.examples(self.plan)
        learner = build(self._preparation.own_backbone(self.plan), train, validation, self.plan)
        self._put_back(learner.backbone, which)
        rows = self._preparation.split(self.plan).part(split)
        examples = learner.task.encode(rows, learner.backbone, self.plan.data)
        if not len(examples):
            raise RunError(f"the {split} split of this run has no rows", hint="a plan with test_fraction=0.15")
        events = evaluate(learner, examples, split=split)
        return next(event.metrics for event in events if isinstance(event, EvaluationEnded))

    def _put_back(self, backbone: Backbone, which: str) -> None:
        """Load the weights of that moment into a backbone that was adapted to this run's plan."""
        if step := self._step_of(which):
            checkpoint = at(self.folder / "checkpoints", step)
            load_weights(backbone, transfer.resolve(backbone.blocks, self.plan.transfer), checkpoint)

    def _step_of(self, which: str) -> int:
        """Return the step of the checkpoint of that moment; 0, the backbone itself, as long as there is none."""
        if which not in MOMENTS:
            raise RunError(f"which is {which!r}", hint=nearest(which, MOMENTS))
        saved = [event for event in self.events if isinstance(event, CheckpointSaved)]
        wanted = {"best": [event for event in saved if event.best], "last": saved, "backbone": []}[which]
        return wanted[-1].step if wanted else 0

    def history(self) -> pd.DataFrame:
        """Return the numbers as a table, one row a step or evaluation: step, split, loss, and metrics."""
        return monitoring.history(self.events)

    def plot(self) -> Any:
        """Return a matplotlib Figure of the loss, and of perplexity or accuracy and F1."""
        return monitoring.plot(self.events)

    def _carry_out(self) -> None:
        try:
            for event in run(self.plan, folder=self._log, preparation=self._preparation, control=self._control):
                self.events.append(event)
                self._pace.note(event)
                self.state = state_after(event, self.state)
                self._publish(event)
        except Exception as error:
            self.error = error
            traceback.clear_frames(error.__traceback__)  # they hold the model and its optimizer
        finally:
            self.state = self.state if self.is_over else "failed"
            self._preparation.forget("backbone", "examples")

    def _checked(self) -> Self:
        if self.error is not None:
            raise self.error
        return self

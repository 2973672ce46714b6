"""A run as one story: prepare, train, keep, end. Every event is in the log before anybody is told of it.

`Control` carries the wishes of a person (pause, resume, stop) to a run in another thread; a run looks at them between
two events.
"""

import contextlib
import shutil
import threading
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from workbench import checkpoints, engine
from workbench.checkpoints import Checkpoint
from workbench.choices import Plan
from workbench.errors import WorkbenchError
from workbench.events import (
    CheckpointSaved,
    EvaluationEnded,
    Event,
    RunEnded,
    RunFailed,
    RunPaused,
    RunResumed,
    StageStarted,
    StepEnded,
)
from workbench.learner import Learner, build
from workbench.preparation import Preparation
from workbench.store import RunFolder

STOPPED = "stopped by the user"


class Control:
    """What a person wants of a run that another thread carries out. Safe to call from any thread."""

    def __init__(self) -> None:
        self._may_go_on = threading.Event()
        self._may_go_on.set()
        self.is_stopping = False

    @property
    def is_pausing(self) -> bool:
        """Whether the run is to wait (it may not have come to it yet); a run that is to stop never waits."""
        return not self.is_stopping and not self._may_go_on.is_set()

    def pause(self) -> None:
        """Let the run wait before its next event."""
        if not self.is_stopping:
            self._may_go_on.clear()

    def resume(self) -> None:
        """Let the run go on."""
        self._may_go_on.set()

    def stop(self) -> None:
        """Let the run end before its next event, paused or not, with a model that can be used."""
        self.is_stopping = True
        self._may_go_on.set()

    def wait(self) -> None:
        """Return when the run may go on."""
        self._may_go_on.wait()


def run(
    plan: Plan | None = None,
    *,
    table: Any = None,
    runs: Path | str = "runs",
    folder: RunFolder | None = None,
    preparation: Preparation | None = None,
    control: Control | None = None,
) -> Iterator[Event]:
    """Carry out a plan, yielding each fact as it becomes true; the run starts with the first one asked for.

    Args:
        plan: What to do; a plan of defaults if left out.
        table: Rows given as a pandas frame or `datasets.Dataset`, in place of the plan's source.
        runs: Folder under which the run folder is made.
        folder: A run folder made before, in place of a new one.
        preparation: What was loaded before, to load nothing twice.
        control: How another thread pauses or stops this run. A loop can just leave off: the run then ends as stopped.

    Raises:
        WorkbenchError: What can't be carried out, after the run has put it into its log as RunFailed.
    """
    preparation = preparation or Preparation(table)
    plan = preparation.stamped(plan or Plan())
    folder = folder or RunFolder.create(plan, runs)
    story = _Story(plan, folder, preparation, control or Control())
    try:
        for event in story.events():
            folder.append(event)
            yield event
    except (GeneratorExit, KeyboardInterrupt):
        for event in story.ending(STOPPED):
            folder.append(event)
        raise
    except Exception as error:
        for event in story.failing(error):
            with contextlib.suppress(OSError):  # a disk that is full must not hide what went wrong from the panel
                folder.append(event)
            yield event
        raise
    finally:
        folder.close()


class _Story:
    """The state of one run between its events."""

    def __init__(self, plan: Plan, folder: RunFolder, preparation: Preparation, control: Control) -> None:
        self.plan, self.folder, self.preparation, self.control = plan, folder, preparation, control
        self.learner: Learner | None = None
        self.saved: dict[int, Checkpoint] = {}  # step -> the checkpoint kept of it
        self.is_over = False

    def events(self) -> Iterator[Event]:
        for event in self._facts():
            if isinstance(event, RunEnded):
                yield from self.ending(event.reason)
                return
            yield event
            yield from self._keep(event)
            yield from self._pause()
            if self.control.is_stopping:
                yield from self.ending(STOPPED)
                return

    def ending(self, reason: str) -> Iterator[Event]:
        """Keep the last weights, then tell that the run is over, once: nobody hears of a model that is not on disk."""
        if not self.is_over:
            yield from self._save()
            self.is_over = True
            yield engine.ended(self.learner, reason) if self.learner else RunEnded(step=0, reason=reason)

    def failing(self, error: Exception) -> Iterator[Event]:
        """Keep the weights of the last whole step if that can still be done, then tell what went wrong."""
        saved: list[Event] = []
        with contextlib.suppress(Exception):  # the error to tell is the first one
            saved = list(self._save())
        yield from saved
        step = self.learner.step if self.learner else 0
        if isinstance(error, WorkbenchError):
            yield RunFailed(step=step, what=error.what, hint=error.hint)
        else:
            told = "".join(traceback.format_exception(error))
            yield RunFailed(step=step, what=f"{type(error).__name__}: {error}", traceback=told)

    def _facts(self) -> Iterator[Event]:
        yield StageStarted(stage="reading the data")
        split = self.preparation.split(self.plan)
        self.folder.note_environment(data=split.fingerprint)
        yield StageStarted(stage="loading the backbone")
        backbone = self.preparation.own_backbone(self.plan)
        yield StageStarted(stage="encoding the data")
        train, validation = self.preparation.examples(self.plan)
        yield StageStarted(stage="training")
        self.learner = build(backbone, train, validation, self.plan)
        self.folder.note_environment(data=split.fingerprint, device=str(self.learner.device))
        yield from engine.train(self.learner)

    def _keep(self, event: Event) -> Iterator[Event]:
        """Save after the best evaluation so far, and every so many steps, each once its evaluation is over."""
        if not isinstance(event, (StepEnded, EvaluationEnded)) or self.learner is None or self.learner.is_due:
            return
        is_best = isinstance(event, EvaluationEnded) and event.best
        if is_best or self._is_periodic(event.step):
            yield from self._save()

    def _save(self) -> Iterator[Event]:
        """Save the learner as it is, unless it was; step 0 is the backbone itself and needs no file."""
        learner = self.learner
        if learner is None or not learner.is_whole or learner.step == 0 or learner.step in self.saved:
            return
        checkpoint = checkpoints.save(learner, self.folder.path / "checkpoints")
        self.saved[learner.step] = checkpoint
        self._prune({learner.step, learner.best_step})
        yield CheckpointSaved(
            step=learner.step,
            folder=f"checkpoints/{checkpoint.path.name}",
            size_bytes=checkpoint.size_bytes,
            best=learner.best_step == learner.step,
        )

    def _prune(self, wanted: set[int | None]) -> None:
        for step in [step for step in self.saved if step not in wanted and not self._is_periodic(step)]:
            shutil.rmtree(self.saved.pop(step).path)

    def _is_periodic(self, step: int) -> bool:
        every = self.plan.monitoring.checkpoint_every
        return every is not None and step % every == 0

    def _pause(self) -> Iterator[Event]:
        if self.control.is_pausing and self.learner is not None:
            yield RunPaused(step=self.learner.step)
            self.control.wait()
            if not self.control.is_stopping:
                yield RunResumed(step=self.learner.step)

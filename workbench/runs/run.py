"""Executes a run: prepare, train, save, end. Every event is in the log before the caller gets it.

A folder that already has a log is a run that was interrupted or stopped, or a fork. Such a run continues from its
newest valid checkpoint, and its log becomes the same as that of an uninterrupted run. Requests of people (pause, stop,
change) arrive through `Control`, which the run checks between two events.
"""

import contextlib
import traceback
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from workbench.errors import LossError, RunError, WorkbenchError
from workbench.events import (
    ChangeRefused,
    CheckpointRefused,
    Event,
    PlanAdjusted,
    RunEnded,
    RunFailed,
    RunForked,
    RunPaused,
    RunResumed,
    RunStarted,
    StageStarted,
)
from workbench.events.run_state import STOPPED_BY_USER, RunState
from workbench.plan.arguments import named
from workbench.runs.build import learner_of
from workbench.runs.disk.control import Control as Control
from workbench.runs.disk.run_folder import RunFolder
from workbench.runs.keeper import Keeper
from workbench.runs.preparation import Preparation, plan_and_table
from workbench.runs.replay import ChangeQueue, Replay, pending_changes
from workbench.runs.start import find_start
from workbench.training import engine
from workbench.training.learner import Learner


@named
def run(
    plan: Any = None,
    *,
    table: Any = None,
    metrics: Sequence[Any] = (),
    runs: Path | str = "runs",
    folder: RunFolder | None = None,
    preparation: Preparation | None = None,
    control: Control | None = None,
) -> Iterator[Event]:
    """Execute a plan and yield each event as it happens; the run starts when the first event is requested.

    Args:
        plan: The plan; by default a plan with default values. Or a table, or the name of a source, with such a plan.
        table: Rows as a pandas frame or `datasets.Dataset`, in place of the plan's source.
        metrics: Metrics to compute besides those of the task: `evaluate.Metric` objects, or their names.
        runs: Folder in which the run folder is created.
        folder: An existing run folder, in place of a new one; if it has a log, that run is resumed.
        preparation: Has loaded data and backbone before, so that they need not be loaded again.
        control: Lets another thread pause or stop this run. A loop over the events can also just end: the run is then
            stopped.

    Raises:
        WorkbenchError: The run failed; its log has a RunFailed event. If nothing could be loaded, a new folder is
            removed again.
        RunError: The run is complete, or another process is executing it; nothing is written to its log.
    """
    plan, table = plan_and_table(plan, table)
    preparation = preparation or Preparation(table, metrics=tuple(metrics))
    given, folder = folder, folder or RunFolder.create(preparation.label_objects(plan), runs)
    state = RunState()
    try:
        with folder.locked():
            for event in _logged_events(folder, preparation, control or Control(folder.path)):
                state.note(event)
                yield event
    finally:
        if given is None and state.never_loaded:
            folder.remove()


def _logged_events(folder: RunFolder, preparation: Preparation, control: Control) -> Iterator[Event]:
    """Yield the new events of the run, each after it was written to the log."""
    active = _ActiveRun(folder, preparation, control)
    try:
        for event in active.events():
            folder.append(event)
            active.note_logged(event)
            yield event
    except (GeneratorExit, KeyboardInterrupt):
        for event in active.ending(STOPPED_BY_USER):
            folder.append(event)
        raise
    except Exception as error:
        for event in active.failing(error):
            with contextlib.suppress(OSError, RunError):  # if the disk is full, the caller must still see the failure
                folder.append(event)
            yield event
        raise
    finally:
        folder.close()


SEARCH = "finding the fastest settings (once for each model and batch size)"


class _ActiveRun:
    """A run that is being executed."""

    def __init__(self, folder: RunFolder, preparation: Preparation, control: Control) -> None:
        self.folder, self.preparation, self.control = folder, preparation, control
        self.logged = list(folder.events())
        self.learner: Learner | None = None
        self.keeper: Keeper | None = None
        self.is_over = False
        self.has_started = any(isinstance(event, RunStarted) for event in self.logged)
        self.start, self.refusals = find_start(folder, self.logged)
        self.replay = Replay(self.logged, self.start.state)

    def events(self) -> Iterator[Event]:
        """Yield every event that is not in the log yet."""
        for event in self._all_events():
            self.control.look()
            if isinstance(event, RunEnded):
                yield from self.ending(event.reason)
                return
            new = self.replay.new_events(event)
            yield from new
            if all(other is not event for other in new):  # it was in the log before
                self.note_logged(event)
            yield from self.keeper.save_if_due(event) if self.keeper else ()
            yield from self._pause()
            if self.control.is_stopping:
                yield from self.ending(STOPPED_BY_USER)
                return

    def note_logged(self, event: Event) -> None:
        """Record that an event is in the log."""
        self.has_started |= isinstance(event, RunStarted)
        if self.keeper:
            self.keeper.note_logged(event)

    def ending(self, reason: str) -> Iterator[Event]:
        """Save the last weights and the model, then yield RunEnded; a second call yields nothing."""
        if self.is_over:
            return
        step = self.learner.step if self.learner else 0
        for fields in self.control.taken_changes():
            what = f"the run ended before {', '.join(fields)} could change"
            yield ChangeRefused(step=step, what=what, hint="resume the run, then change it")
        if self.keeper:
            yield from self.keeper.save()
            if reason != STOPPED_BY_USER and not self.keeper.is_kept:
                raise RunError(
                    "the weights of the last step could not be saved", hint="free some disk space, then run.resume()"
                )
            yield from self.keeper.save_model()
        self.is_over = True
        yield engine.ended(self.learner, reason) if self.learner else RunEnded(step=0, reason=reason)

    def failing(self, error: Exception) -> Iterator[Event]:
        """Save the weights of the last complete step if that is still possible, then yield RunFailed."""
        saved: list[Event] = []
        with contextlib.suppress(Exception):  # the first error is the one to report
            saved = list(self.keeper.save()) if self.keeper else []
        yield from saved
        step, never_loaded = self.learner.step if self.learner else 0, not self.has_started
        if isinstance(error, WorkbenchError):
            rows = error.rows if isinstance(error, LossError) else ()
            yield RunFailed(step=step, what=error.what, hint=error.hint, rows=rows, never_loaded=never_loaded)
        else:
            what, formatted = f"{type(error).__name__}: {error}", "".join(traceback.format_exception(error))
            yield RunFailed(step=step, what=what, traceback=formatted, never_loaded=never_loaded)

    def _all_events(self) -> Iterator[Event]:
        """Yield all events from the start on, including those of repeated steps, which are in the log already."""
        if any(not isinstance(event, RunForked | PlanAdjusted) for event in self.logged):  # a new fork has these two
            yield RunResumed(step=self.start.step)
        for refusal in self.refusals:
            yield CheckpointRefused(step=self.start.step, what=refusal.what)
        yield from self._prepare()
        learner = self.learner = self._build_learner()
        forked = next((event.step for event in self.logged if isinstance(event, RunForked)), None)
        self.keeper = Keeper(learner, self.folder.path, origin=forked)
        known = pending_changes(self.folder.path, self.logged, learner.progress.adjustments)
        since = self.replay.last_step
        queue = ChangeQueue(known, self.control, since=since, steps=lambda: learner.steps)
        yield from engine.train(learner, changes=queue)

    def _prepare(self) -> Iterator[Event]:
        """Load everything that the learner is built from; the preparation keeps it."""
        plan, step, until = self.start.plan, self.start.step, self.replay.last_step
        yield StageStarted(stage="reading the data")
        self._check_data(self.preparation.split(plan).fingerprint)
        yield StageStarted(stage="loading the backbone")
        self.preparation.backbone(plan)
        yield StageStarted(stage="encoding the data")
        self.preparation.examples(plan)
        last_stage = "restoring the checkpoint" if self.start.checkpoint else SEARCH
        yield StageStarted(stage=f"repeating steps {step + 1} to {until}" if until > step else last_stage)

    def _build_learner(self) -> Learner:
        learner = learner_of(self.folder, self.preparation, self.start.checkpoint)
        here = {"device": str(learner.device), "threads": torch.get_num_threads()}
        learner.add_notes(self._differences(here))
        self.folder.note_environment(**here, settings=learner.settings.to_dict())
        return learner

    def _differences(self, here: Mapping[str, Any]) -> tuple[str, ...]:
        """Return a note if something changed since the last execution that can change the last digits of numbers."""
        before = self.folder.environment()
        changed = [f"{name} {before[name]} → {now}" for name, now in here.items() if before.get(name, now) != now]
        what = f"changed since the run was last executed: {', '.join(changed)}"
        return (f"{what}; numbers may differ in their last digits",) if changed else ()

    def _check_data(self, fingerprint: str) -> None:
        """Check that the rows are the same as at the start of the run. Raises RunError."""
        known = self.folder.environment().get("data")
        if known not in (None, fingerprint):
            raise RunError(
                "the rows differ from those that this run started with",
                hint="restore the file, or give the same table=",
            )
        self.folder.note_environment(data=fingerprint)

    def _pause(self) -> Iterator[Event]:
        if not self.control.is_pausing or self.learner is None:
            return
        if self.keeper:
            yield from self.keeper.save()
        yield RunPaused(step=self.learner.step)
        self.control.wait()
        if not self.control.is_stopping:
            yield RunResumed(step=self.learner.step)

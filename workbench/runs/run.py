"""A run as one story: prepare, train, keep, end. Every event is in the log before anybody is told of it.

A folder that has a log already is a run that was broken off, stopped, or forked: it goes on from its newest valid
checkpoint, and its log becomes that of an unbroken run. What people wish meanwhile (pause, stop, change) comes through
`Control` and is looked at between two events.
"""

import contextlib
import traceback
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from workbench.errors import LossError, RunError, WorkbenchError
from workbench.events import (
    ChangeRefused,
    CheckpointRefused,
    Event,
    RunEnded,
    RunFailed,
    RunForked,
    RunPaused,
    RunResumed,
    StageStarted,
)
from workbench.events.run_state import STOPPED_BY_USER
from workbench.plan.choices import Plan
from workbench.runs.build import learner_of
from workbench.runs.checkpoints import Checkpoint, State, all_in, newest_valid, set_aside, state_of, tidy
from workbench.runs.disk.control import Control as Control
from workbench.runs.disk.run_folder import RunFolder
from workbench.runs.keeper import Keeper
from workbench.runs.preparation import Preparation
from workbench.runs.replay import ChangeQueue, Replay, pending_changes
from workbench.training import engine
from workbench.training.learner import Learner


def run(
    plan: Plan | None = None,
    *,
    table: Any = None,
    metrics: Sequence[Any] = (),
    runs: Path | str = "runs",
    folder: RunFolder | None = None,
    preparation: Preparation | None = None,
    control: Control | None = None,
) -> Iterator[Event]:
    """Carry out a plan, yielding each fact as it becomes true; the run starts with the first one asked for.

    Args:
        plan: What to do; a plan of defaults if left out.
        table: Rows given as a pandas frame or `datasets.Dataset`, in place of the plan's source.
        metrics: What is measured beside the metrics of the task: `evaluate.Metric` objects, or names.
        runs: Folder under which the run folder is made.
        folder: A run folder made before, in place of a new one; with a log in it, that run goes on.
        preparation: What was loaded before, to load nothing twice.
        control: How another thread pauses or stops this run. A loop can just leave off: the run then ends as stopped.

    Raises:
        WorkbenchError: What can't be carried out, after the run has put it into its log as RunFailed.
        RunError: The run is complete, or another process carries it out; nothing is put into its log.
    """
    preparation = preparation or Preparation(table, metrics=tuple(metrics))
    folder = folder or RunFolder.create(preparation.label_objects(plan or Plan()), runs)
    with folder.locked():
        yield from _told(folder, preparation, control or Control(folder.path))


def _told(folder: RunFolder, preparation: Preparation, control: Control) -> Iterator[Event]:
    """Yield what happens, each fact once it is in the log."""
    story = _ActiveRun(folder, preparation, control)
    try:
        for event in story.events():
            folder.append(event)
            story.note_logged(event)
            yield event
    except (GeneratorExit, KeyboardInterrupt):
        for event in story.ending(STOPPED_BY_USER):
            folder.append(event)
        raise
    except Exception as error:
        for event in story.failing(error):
            with contextlib.suppress(OSError, RunError):  # a full disk must not hide what went wrong from the panel
                folder.append(event)
            yield event
        raise
    finally:
        folder.close()


class _ActiveRun:
    """The state of one run between its events."""

    def __init__(self, folder: RunFolder, preparation: Preparation, control: Control) -> None:
        self.folder, self.preparation, self.control = folder, preparation, control
        self.logged = list(folder.events())
        self.learner: Learner | None = None
        self.keeper: Keeper | None = None
        self.is_over = False
        self.begin, self.refusals = _beginning(folder, self.logged)
        self.replay = Replay(self.logged, self.begin.state)

    def events(self) -> Iterator[Event]:
        """Tell everything that was not told before."""
        for event in self._facts():
            self.control.look()
            if isinstance(event, RunEnded):
                yield from self.ending(event.reason)
                return
            new = self.replay.new_events(event)
            yield from new
            if all(told is not event for told in new):  # it was in the log before
                self.note_logged(event)
            yield from self.keeper.save_if_due(event) if self.keeper else ()
            yield from self._pause()
            if self.control.is_stopping:
                yield from self.ending(STOPPED_BY_USER)
                return

    def note_logged(self, event: Event) -> None:
        """Know that an event is in the log."""
        if self.keeper:
            self.keeper.note_logged(event)

    def ending(self, reason: str) -> Iterator[Event]:
        """Keep the last weights, then tell that the run is over, once: nobody hears of a model that is not on disk."""
        if self.is_over:
            return
        for wish in self.control.taken_changes():
            what = f"the run ended before {', '.join(wish)} could change"
            yield ChangeRefused(
                step=self.learner.step if self.learner else 0, what=what, hint="resume it, and change it"
            )
        if self.keeper:
            yield from self.keeper.save()
            if reason != STOPPED_BY_USER and not self.keeper.is_kept:
                raise RunError("the last weights could not be kept", hint="free some space, then run.resume()")
            yield from self.keeper.save_model()
        self.is_over = True
        yield engine.ended(self.learner, reason) if self.learner else RunEnded(step=0, reason=reason)

    def failing(self, error: Exception) -> Iterator[Event]:
        """Keep the weights of the last whole step if that can still be done, then tell what went wrong."""
        saved: list[Event] = []
        with contextlib.suppress(Exception):  # the error to tell is the first one
            saved = list(self.keeper.save()) if self.keeper else []
        yield from saved
        step = self.learner.step if self.learner else 0
        if isinstance(error, WorkbenchError):
            rows = error.rows if isinstance(error, LossError) else ()
            yield RunFailed(step=step, what=error.what, hint=error.hint, rows=rows)
        else:
            told = "".join(traceback.format_exception(error))
            yield RunFailed(step=step, what=f"{type(error).__name__}: {error}", traceback=told)

    def _facts(self) -> Iterator[Event]:
        if any(not isinstance(event, RunForked) for event in self.logged):
            yield RunResumed(step=self.begin.step)
        for refusal in self.refusals:
            yield CheckpointRefused(step=self.begin.step, what=refusal.what)
        yield from self._prepare()
        learner = self.learner = self._built()
        forked = next((event.step for event in self.logged if isinstance(event, RunForked)), None)
        self.keeper = Keeper(learner, self.folder.path, origin=forked)
        known = pending_changes(self.folder.path, self.logged, learner.progress.adjustments)
        yield from engine.train(learner, changes=ChangeQueue(known, self.control, since=self.replay.last_step))

    def _prepare(self) -> Iterator[Event]:
        """Have everything loaded that the learner is built of; the preparation keeps it."""
        plan, step, until = self.begin.plan, self.begin.step, self.replay.last_step
        yield StageStarted(stage="reading the data")
        self._check_data(self.preparation.split(plan).fingerprint)
        yield StageStarted(stage="loading the backbone")
        self.preparation.backbone(plan)
        yield StageStarted(stage="encoding the data")
        self.preparation.examples(plan)
        beginning = "restoring the checkpoint" if self.begin.checkpoint else "trying settings on this machine"
        yield StageStarted(stage=f"repeating steps {step + 1} to {until}" if until > step else beginning)

    def _built(self) -> Learner:
        learner = learner_of(self.folder, self.preparation, self.begin.checkpoint)
        here = {"device": str(learner.device), "threads": torch.get_num_threads()}
        learner.add_notes(self._differences(here))
        self.folder.note_environment(**here, settings=learner.settings.to_dict())
        return learner

    def _differences(self, here: Mapping[str, Any]) -> tuple[str, ...]:
        """Return what is not as it was when the run was last carried out, and can change the last digit of a number."""
        before = self.folder.environment()
        changed = [f"{name} {before[name]} → {now}" for name, now in here.items() if before.get(name, now) != now]
        return (f"not as before: {', '.join(changed)}; numbers may differ in their last digits",) if changed else ()

    def _check_data(self, fingerprint: str) -> None:
        """Refuse to go on with other rows than the run began with."""
        known = self.folder.environment().get("data")
        if known not in (None, fingerprint):
            raise RunError(
                "the rows are not those that this run began with", hint="the file as it was, or the same table= again"
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


def _beginning(folder: RunFolder, logged: list[Event]) -> tuple["_Beginning", list[RunError]]:
    """Return where to begin, and what is wrong with later checkpoints, which are set aside.

    Raises:
        RunError: The run is complete, or it is a fork whose beginning is broken.
    """
    last = next((event for event in reversed(logged) if isinstance(event, (RunEnded, RunFailed))), None)
    if isinstance(last, RunEnded) and last.reason not in (STOPPED_BY_USER,):
        raise RunError(f"{folder.name} is over at step {last.step}: {last.reason}", hint="run.fork(epochs=…) to go on")
    root = folder.path / "checkpoints"
    tidy(root)
    tidy(folder.path)
    checkpoint, refusals = newest_valid(root) if logged else (None, [])
    if checkpoint is None and any(isinstance(event, RunForked) and event.step for event in logged):
        raise RunError(f"the checkpoint that {folder.name} began from is broken", hint="fork the parent again")
    for broken in all_in(root):
        if checkpoint is None or broken.step > checkpoint.step:
            set_aside(broken)
    if checkpoint is None:
        return _Beginning(folder.plan()), refusals
    state = state_of(checkpoint)
    return _Beginning(state.plan, checkpoint, state), refusals


@dataclass(frozen=True)
class _Beginning:
    """Where a run sets out from: a checkpoint and what it says, or the backbone."""

    plan: Plan
    checkpoint: Checkpoint | None = None
    state: State | None = None

    @property
    def step(self) -> int:
        return self.state.step if self.state else 0

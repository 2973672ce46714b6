"""Resumes a run that has a log: its pending changes of the plan, and a comparison of repeated steps with the log.

A resumed run continues from a checkpoint, which may be a few steps before the end of the log. These steps are repeated.
Their events are not written again but compared with the log, because the same step gives the same numbers. So the log
of an interrupted and resumed run is the same as that of an uninterrupted one.
"""

import dataclasses
import json
import math
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from workbench.errors import RunError
from workbench.events import (
    ChangeRefused,
    EvaluationEnded,
    EvaluationProgressed,
    Event,
    PlanAdjusted,
    ReplayDiverged,
    StepEnded,
    WeightsMoved,
)
from workbench.runs.disk.checkpoint_files import State
from workbench.runs.disk.control import Control
from workbench.training.change import Change
from workbench.untrusted import read_text

SCHEDULE = "schedule.json"
# events that a repeated step produces again, bit for bit
REPEATED_EVENTS = (StepEnded, EvaluationProgressed, EvaluationEnded, WeightsMoved, PlanAdjusted)


class Replay:
    """The logged events that the resumed run will produce again, in their order.

    Args:
        logged: The complete log.
        state: The state of the checkpoint to resume from; None for the start of the run.

    Attributes:
        last_step: The last of the steps to repeat; 0 if there are none.
    """

    def __init__(self, logged: Iterable[Event], state: State | None) -> None:
        events = [event for event in logged if isinstance(event, REPEATED_EVENTS)]
        self._expected = deque(_after(events, state))
        self.last_step = max((event.step for event in self._expected), default=0)
        self._has_diverged = False

    def new_events(self, event: Event) -> list[Event]:
        """Return what to log: the event itself if it is new, [] if the log has it, else once a ReplayDiverged."""
        if not self._expected or not isinstance(event, REPEATED_EVENTS):
            return [event]
        logged = self._expected.popleft()
        if _comparable(logged, event) == _comparable(event, logged) or self._has_diverged:
            return []
        self._has_diverged = True
        what = f"repeating step {event.step} gave {_described(event)}, but the log has {_described(logged)}"
        return [ReplayDiverged(step=event.step, what=what)]


def _comparable(event: Event, other: Event) -> Event:
    """Return the event with only the metrics that both have: a resumed run may compute fewer or more of them."""
    if not (isinstance(event, EvaluationEnded) and isinstance(other, EvaluationEnded)):
        return event
    shared = {name: value for name, value in event.metrics.items() if name in other.metrics}
    return dataclasses.replace(event, metrics=shared)


def _after(events: Sequence[Any], state: State | None) -> list[Any]:
    """Return the events that a learner restored to this state will produce again."""
    if state is None:
        return list(events)
    adjustments = 0
    found = []
    for event in events:
        if isinstance(event, PlanAdjusted):
            adjustments += 1
            is_later = adjustments > state.progress.adjustments
        else:
            is_evaluated = isinstance(event, StepEnded) or state.progress.evaluated_step == state.step
            is_later = event.step > state.step or (event.step == state.step and not is_evaluated)
        found += [event] * is_later
    return found


def _described(event: Any) -> str:
    loss = event.metrics.get("loss") if isinstance(event, EvaluationEnded) else getattr(event, "loss", None)
    return event.kind if loss is None else f"{event.kind} with loss {loss!r}"


class ChangeQueue:
    """The changes of a run's plan: those that are known in advance, and those that people request.

    Args:
        known: The changes that are known in advance, in the order of their steps.
        control: The requests.
        since: Requests are delayed until this step, because a repeated step must be the same as before.
        steps: Returns the number of steps of the run. A request after the last of them stays with `control`.
    """

    def __init__(
        self,
        known: Iterable[Change],
        control: Control,
        *,
        since: int = 0,
        steps: Callable[[], float] = lambda: math.inf,
    ) -> None:
        self._known, self._control, self._since, self._steps = deque(known), control, since, steps

    def __call__(self, step: int) -> list[Change]:
        """Return the changes to make after this number of steps."""
        due = []
        while self._known and self._known[0].step is not None and self._known[0].step <= step:
            due.append(self._known.popleft())
        is_heard = self._since <= step < self._steps()
        return due + [Change(fields) for fields in self._control.taken_changes()] if is_heard else due


def pending_changes(folder: Path, logged: Iterable[Event], adjustments: int) -> list[Change]:
    """Return the changes that a run made after its first `adjustments` ones, and the scheduled ones still to come.

    Raises:
        RunError: The schedule of the run can't be read.
    """
    events = list(logged)
    made = [event for event in events if isinstance(event, PlanAdjusted)]
    used = sum(event.scheduled for event in events if isinstance(event, PlanAdjusted | ChangeRefused))
    later = [event for event in made[adjustments:] if not event.by]  # tactics make their changes again themselves
    again = [Change(event.after, event.step, event.scheduled, logged=True) for event in later]
    return again + schedule(folder)[used:]


def schedule(folder: Path) -> list[Change]:
    """Read the changes of the plan that were known when a fork was created; [] for a run that is no fork.

    Raises:
        RunError: They can't be read.
    """
    path = folder / SCHEDULE
    if not path.exists():
        return []
    try:
        return [Change(dict(fields), int(step), True) for step, fields in json.loads(read_text(path))]
    except (OSError, ValueError, TypeError, OverflowError, RecursionError) as error:
        raise RunError(f"{path} can't be read: {error}", hint="fork the parent again") from None


def write_schedule(folder: Path, changes: Iterable[Change]) -> None:
    """Write the changes of the plan that are known when a fork is created."""
    rows = [[change.step, dict(change.fields)] for change in changes]
    (folder / SCHEDULE).write_text(json.dumps(rows, ensure_ascii=False), encoding="utf-8")

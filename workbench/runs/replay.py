"""Going on with a run that has a log: what is still to change, and meeting again what was logged before.

A run that is taken up goes on from a checkpoint, which lies a few steps before the last one in the log. Those steps are
repeated, and because everything is a function of the step they give the same numbers; so they are compared with the
log instead of being written twice. The log of a run that was broken off and taken up is that of an unbroken one.
"""

import dataclasses
import json
from collections import deque
from collections.abc import Iterable, Sequence
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
    """The facts that were logged after a moment, to be met again in their order.

    Args:
        logged: The whole log.
        state: The moment; None is the very beginning.
    """

    def __init__(self, logged: Iterable[Event], state: State | None) -> None:
        facts = [event for event in logged if isinstance(event, REPEATED_EVENTS)]
        self._expected = deque(_after(facts, state))
        self.last_step = max((event.step for event in self._expected), default=0)  # until where steps are repeated
        self._has_diverged = False

    def new_events(self, event: Event) -> list[Event]:
        """Return what to tell of an event: itself if it is new, nothing if it was told before."""
        if not self._expected or not isinstance(event, REPEATED_EVENTS):
            return [event]
        logged = self._expected.popleft()
        if _comparable(logged, event) == _comparable(event, logged) or self._has_diverged:
            return []
        self._has_diverged = True
        what = f"repeating step {event.step} gave {_told(event)}; the log has {_told(logged)}"
        return [ReplayDiverged(step=event.step, what=what)]


def _comparable(event: Event, other: Event) -> Event:
    """Return the event with the metrics that both have: extra ones need not be asked for again."""
    if not (isinstance(event, EvaluationEnded) and isinstance(other, EvaluationEnded)):
        return event
    shared = {name: value for name, value in event.metrics.items() if name in other.metrics}
    return dataclasses.replace(event, metrics=shared)


def _after(facts: Sequence[Any], state: State | None) -> list[Any]:
    """Return the facts that a learner put back to this moment will give again."""
    if state is None:
        return list(facts)
    adjusted = 0
    found = []
    for fact in facts:
        if isinstance(fact, PlanAdjusted):
            adjusted += 1
            is_later = adjusted > state.progress.adjustments
        else:
            was_measured = isinstance(fact, StepEnded) or state.progress.evaluated_step == state.step
            is_later = fact.step > state.step or (fact.step == state.step and not was_measured)
        found += [fact] * is_later
    return found


def _told(event: Any) -> str:
    loss = event.metrics.get("loss") if isinstance(event, EvaluationEnded) else getattr(event, "loss", None)
    return event.kind if loss is None else f"{event.kind} with loss {loss!r}"


class ChangeQueue:
    """What changes in a run, and when: first what is known in advance, then what people wish.

    Args:
        known: What is known in advance, in the order of its steps.
        control: What people wish.
        since: Steps until which wishes wait: a step that is repeated must be repeated as it was.
    """

    def __init__(self, known: Iterable[Change], control: Control, *, since: int = 0) -> None:
        self._known, self._control, self._since = deque(known), control, since

    def __call__(self, step: int) -> list[Change]:
        """Return the changes to make after so many steps."""
        due = []
        while self._known and self._known[0].step is not None and self._known[0].step <= step:
            due.append(self._known.popleft())
        return due + [Change(fields) for fields in self._control.taken_changes()] if step >= self._since else due


def pending_changes(folder: Path, logged: Iterable[Event], adjusted: int) -> list[Change]:
    """Return the changes that a run made after its first `adjusted` ones, and those it was still going to make.

    Raises:
        RunError: The schedule of the run can't be read.
    """
    events = list(logged)
    made = [event for event in events if isinstance(event, PlanAdjusted)]
    used = sum(event.scheduled for event in events if isinstance(event, PlanAdjusted | ChangeRefused))
    again = [Change(event.after, event.step, event.scheduled, logged=True) for event in made[adjusted:] if not event.by]
    return again + schedule(folder)[used:]


def schedule(folder: Path) -> list[Change]:
    """Read what a run was to change from its beginning; nothing for a run that is no fork.

    Raises:
        RunError: It can't be read.
    """
    path = folder / SCHEDULE
    if not path.exists():
        return []
    try:
        return [Change(dict(fields), int(step), True) for step, fields in json.loads(read_text(path))]
    except (OSError, ValueError, TypeError, OverflowError, RecursionError) as error:
        raise RunError(f"{path} can't be read: {error}", hint="fork the parent again") from None


def write_schedule(folder: Path, changes: Iterable[Change]) -> None:
    """Write what a run is to change from its beginning."""
    rows = [[change.step, dict(change.fields)] for change in changes]
    (folder / SCHEDULE).write_text(json.dumps(rows, ensure_ascii=False), encoding="utf-8")

"""Describes runs in words, for the list of runs: what they train on what, their state, age and score."""

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from widgets import wording
from widgets.run_names import when, why_not_compared
from workbench.events.run_state import UNFINISHED
from workbench.plan.plan import Plan
from workbench.runs.disk.run_list import Summary

if TYPE_CHECKING:
    from workbench.session.session import Session

TONES = {  # else live
    "completed": "good",
    "stopped": "stopped",
    "died": "stopped",
    "failed": "bad",
    "unreadable": "bad",
}
DAY = 86_400  # seconds


def row_of(run: Summary, session: "Session", *, starts: Mapping[str, float], reference: Plan | None) -> dict[str, Any]:
    """Return a row of the list: words, and which actions are possible.

    Args:
        run: The run.
        session: The session that shows it or another one.
        starts: Name of each run in the list -> when it was started, in seconds since the epoch.
        reference: The plan that it would be compared with.
    """
    is_shown = session.run is not None and session.run.name == run.name
    is_own = any(own.name == run.name and not own.is_over for own in session.runs)
    is_readable = run.state != "unreadable"
    return {
        "name": run.name,
        "title": wording.title(run.plan) if run.plan else "unreadable run",
        "state": state_of(run, is_own=is_own),
        "tone": TONES.get(run.state, "live"),
        "when": when(run.started),
        "age": age(time.time() - run.started),
        "origin": _origin(run, starts),
        "score": score_of(run),
        "is_shown": is_shown,
        "is_overlaid": run.name in session.overlaid,
        "can_open": is_readable and not is_shown,
        "can_resume": run.can_resume and not is_own,
        "can_overlay": is_readable and run.step > 0 and not is_shown,
        "incomparable": why_not_compared(run.plan, reference) if run.plan and reference else "",
        "fork": _fork_of(run),
        "keep": _why_kept(run, is_shown=is_shown, is_own=is_own),
    }


def state_of(run: Summary, *, is_own: bool = False) -> str:
    """Return the state of a run in words."""
    step = f"step {run.step:,} of {run.steps:,}" if run.steps else f"step {run.step:,}"
    if run.state == "unreadable":
        return "its plan or log can't be read"
    if run.state in UNFINISHED:
        doing = {"preparing": "preparing", "paused": f"paused at {step}"}.get(run.state, f"training, {step}")
        return doing if is_own else f"{doing}, elsewhere"
    if run.state == "completed":
        return f"completed, {wording.plural(run.step, 'step')}"
    ended = {"stopped": "stopped", "died": "interrupted"}.get(run.state, "failed")
    return f"{ended} at {step}" if run.step else f"{ended} before the first step"


def _origin(run: Summary, starts: Mapping[str, float]) -> str:
    """Return which run it was forked from, and from which step; "" if it is no fork."""
    if not run.parent:
        return ""
    parent = f"the run of {when(starts[run.parent])}" if run.parent in starts else "a deleted run"
    return f"fork of {parent} from step {run.parent_step:,}"


def score_of(run: Summary) -> str:
    """Return the score of a run at its best step: "accuracy 0.84"."""
    return "" if run.score is None else f"{wording.metric(run.score[0])} {run.score[1]:.3g}"


def age(seconds: float) -> str:
    """Return how long ago something was.

    Examples:
        >>> age(20), age(200), age(7_000), age(200_000)
        ('just now', '3 min ago', '1 h ago', '2 days ago')
    """
    for unit, words in ((DAY, "day"), (3_600, "h"), (60, "min")):
        if seconds >= unit:
            number = int(seconds // unit)
            return f"{wording.plural(number, 'day') if unit == DAY else f'{number} {words}'} ago"
    return "just now"


def _fork_of(run: Summary) -> dict[str, Any] | None:
    """Return what the form of a fork begins with; None if there is no step to fork from."""
    if run.plan is None or not run.step:
        return None
    tuning = run.plan.tuning
    step = run.step if run.best_step is None else run.best_step
    length, more = ("epochs", tuning.epochs) if tuning.max_steps != run.steps else ("max_steps", run.steps)
    if run.state == "completed" and run.step == run.steps:  # no step is left, so it trains on for as long again
        step, more = run.step, 2 * more
    fields = {"learning_rate": tuning.learning_rate, length: more}
    return {
        "step": step,
        "fields": [{"name": name, "title": name.replace("_", " "), "value": value} for name, value in fields.items()],
    }


def _why_kept(run: Summary, *, is_shown: bool, is_own: bool) -> str:
    """Return why a run can't be deleted; "" if it can be."""
    if is_own or run.state in UNFINISHED:
        return "it is in progress: stop it first"
    return "it is the one that is shown: open another run first" if is_shown else ""

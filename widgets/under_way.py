"""Says what a run does between two steps: evaluate, compute the frozen blocks once, check the cache, save."""

from widgets import wording
from workbench.events import (
    CacheProgressed,
    CacheReady,
    CacheRefused,
    EvaluationEnded,
    EvaluationProgressed,
    Event,
    RunStarted,
    StepEnded,
)
from workbench.events.run_state import RunState


def after(event: Event, run: RunState) -> str | None:
    """Return what the run does after this event; "" if it takes the next step, None if the event does not tell."""
    match event:
        case EvaluationProgressed(split=split, rows_done=done, rows=rows):
            return f"evaluating {done:,} of {rows:,} {split} rows"
        case CacheProgressed(rows_done=done, rows=rows, seconds_left=seconds):
            which = "training" if event.split == "train" else event.split
            if done == rows:
                return f"checking the cache of {rows:,} {which} rows"
            left = "" if seconds is None else f"{wording.duration(seconds)} left"
            return wording.joined(f"computing the frozen blocks once: {done:,} of {rows:,} {which} rows", left)
        case RunStarted() | StepEnded() | EvaluationEnded() | CacheReady() | CacheRefused():
            return _next(run)
    return None


def _next(run: RunState) -> str:
    if not run.step:
        return "evaluating before the first step" if run.evaluated_step is None else "preparing the first step"
    if run.steps and run.step >= run.steps:
        return "saving the model" if run.evaluated_step == run.step else "evaluating after the last step"
    return ""

"""RunPanel: Start, Pause, Resume and Stop, how far the run is, and its state in words."""

import math
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from widgets import wording
from widgets.panel import Panel, page, problem
from workbench.events import (
    EvaluationEnded,
    EvaluationProgressed,
    Event,
    PlanChanged,
    RunEnded,
    RunFailed,
    RunPaused,
    RunResumed,
    RunStarted,
    StageStarted,
    StepEnded,
)

if TYPE_CHECKING:
    from workbench.session import Session

LIVE = ("preparing", "training", "paused")


class RunPanel(Panel):
    """The buttons of the session's run, its progress, and what it is doing.

    Attributes:
        words: The state in words: "training · step 120 of 400 · 41 s left".
    """

    _esm = page("run.js")
    kinds = frozenset(
        {PlanChanged, StageStarted, RunStarted, StepEnded, EvaluationProgressed, EvaluationEnded}
        | {RunPaused, RunResumed, RunEnded, RunFailed}
    )

    def __init__(self, session: "Session") -> None:
        self._phase = "ready"  # ready | preparing | training | paused | ended | failed
        self._step = 0
        self._steps = 0
        self._measuring = ""  # what an evaluation under way has done so far, in words
        self._is_starting = False  # Start was pressed, and the run has yet to say anything
        self._said = "ready to start"
        self._left, self._looked_at = "", -math.inf  # time left in words, and the second it was estimated
        super().__init__(session)

    def actions(self) -> Mapping[str, Callable[..., None]]:
        """Return the actions of the buttons."""
        return {"start": self._start, "pause": self._pause, "resume": self._resume, "stop": self._stop}

    def note(self, event: Event) -> None:
        """Follow the run from event to event."""
        match event:
            case StepEnded(step=step):
                self._step, self._measuring = step, ""
            case EvaluationProgressed(split=split, rows_done=done, rows=rows):
                self._measuring = f"measuring {done:,} of {rows:,} {split} rows"
            case EvaluationEnded():
                self._measuring = ""
            case StageStarted(stage=stage):
                self._enter("preparing", f"preparing · {stage}")
                self._step = self._steps = 0
                self._problem = None
            case RunStarted(steps=steps, first_step=first):
                self._steps, self._step = steps, first
                self._enter("training", "")
            case RunResumed():
                self._enter("training", "")
            case RunPaused(step=step):
                self._enter("paused", f"paused at step {step:,}")
            case RunEnded():
                self._enter("ended", _ending(event))
            case RunFailed(step=step, what=what, hint=hint, traceback=details):
                self._enter("failed", f"broken off at step {step:,}")
                self._problem = problem(what, hint=hint, details=details)

    @property
    def words(self) -> str:
        """What the run is doing."""
        if self._is_starting:
            return "starting …"
        if self._wish:
            return f"{self._wish} …"
        if self._phase != "training":
            return self._said
        parts = ["training", f"step {self._step:,} of {self._steps:,}", self._measuring or self._time_left()]
        return " · ".join(part for part in parts if part)

    @property
    def is_ticking(self) -> bool:
        """Whether time goes by in it."""
        return self._phase == "training"

    def picture(self) -> dict[str, Any]:
        """Return the buttons that act, the progress and the words."""
        is_live, wish = self._phase in LIVE, self._wish
        return {
            "title": wording.title(self.session.plan),
            "words": self.words,
            "phase": self._phase,
            "percent": round(100 * self._step / self._steps, 1) if self._steps else 0,
            "can_start": not is_live and not self._is_starting,
            "can_pause": is_live and not wish,
            "can_stop": is_live and wish != "stopping",
        }

    def _enter(self, phase: str, said: str) -> None:
        self._phase, self._said, self._is_starting, self._measuring = phase, said, False, ""

    @property
    def _wish(self) -> str | None:
        """What was asked of the run and is not true yet: "pausing", "stopping" or nothing."""
        return self.session.run.wish if self.session.run is not None and self._phase in LIVE else None

    def _time_left(self) -> str:
        """Return the time left in words, looked up once a second at most: it is an estimate from every step so far."""
        run, now = self.session.run, time.monotonic()
        if now - self._looked_at >= 1:
            seconds = run.seconds_left if run is not None and run.state == "running" else None
            self._left = "" if seconds is None else f"{wording.duration(seconds)} left"
            self._looked_at = now
        return self._left

    def _start(self) -> None:
        self.calm()
        self._is_starting = True
        try:
            self.session.start()
        except Exception:
            self._is_starting = False
            raise

    def _pause(self) -> None:
        if self.session.run is not None:
            self.session.run.pause()

    def _resume(self) -> None:
        if self.session.run is not None:
            self.session.run.resume()

    def _stop(self) -> None:
        if self.session.run is not None:
            self.session.run.stop()


def _ending(event: RunEnded) -> str:
    best = f" · best model at step {event.best_step:,}" if event.best_step is not None else ""
    reason = "stopped by you" if event.reason == "stopped by the user" else event.reason
    return f"{reason} at step {event.step:,}{best}"

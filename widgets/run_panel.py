"""RunPanel: Start, Pause, Resume and Stop, how far the run is, its state in words, and what it leaves on disk."""

import math
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from widgets import kept, wording
from widgets.panel import Panel, page, problem, style
from widgets.unfinished import unfinished
from workbench.events import (
    CacheProgressed,
    CacheReady,
    CacheRefused,
    CheckpointSaved,
    EvaluationEnded,
    EvaluationProgressed,
    Event,
    PlanChanged,
    RunChosen,
    RunEnded,
    RunFailed,
    RunPaused,
    RunResumed,
    RunStarted,
    StageStarted,
    StepEnded,
)

if TYPE_CHECKING:
    from workbench.session.session import Session

LIVE = ("preparing", "training", "paused")
SILENT = 5.0  # seconds without news until that is said
PLACES = {"kernel": "this notebook", "process": "its own process", "elsewhere": "another notebook"}
PLACE_TIP = (
    "This notebook: quickest to begin, and over when the kernel is restarted. "
    "Its own process: goes on when the kernel is restarted or the notebook is closed. Takes effect at the next run."
)


class RunPanel(Panel):
    """The buttons of the session's run, its progress, and what it is doing.

    Attributes:
        words: The state in words: "training · step 120 of 400 · 41 s left".
    """

    _esm = page("fields.js", "run.js")
    _css = style("run.css")
    kinds = kept.KINDS | frozenset(
        {PlanChanged, StageStarted, RunStarted, StepEnded, EvaluationProgressed, EvaluationEnded}
        | {RunPaused, RunResumed, RunEnded, RunFailed, RunChosen, CacheProgressed, CacheReady, CacheRefused}
    )

    def __init__(self, session: "Session") -> None:
        self._kept = kept.Kept()
        self._unfinished: list[dict[str, str]] = []
        self._rest()
        super().__init__(session)
        self._look_around()

    def _rest(self) -> None:
        """Forget the run that was shown."""
        self._phase = "ready"  # ready | preparing | training | paused | ended | failed
        self._step = self._steps = 0
        self._measuring = ""  # what an evaluation under way has done so far, in words
        self._has_halted = False  # it obeyed Stop and is saving its model
        self._asked = ""  # what was asked for and nothing has been heard of yet: "starting", "resuming"
        self._said = "ready to start"
        self._left, self._looked_at = "", -math.inf  # time left in words, and the second it was estimated

    def actions(self) -> Mapping[str, Callable[..., None]]:
        """Return the actions of the buttons and fields."""
        buttons = {"start": self._start, "pause": self._pause, "resume": self._resume, "stop": self._stop}
        return {**buttons, "place": self._choose_place, "watch": self._watch, "seen": self._open}

    def note(self, event: Event) -> None:
        """Follow the run from event to event."""
        self._kept.note(event)
        match event:
            case StepEnded(step=step):
                self._step, self._measuring = step, ""
            case EvaluationProgressed(split=split, rows_done=done, rows=rows):
                self._measuring = f"measuring {done:,} of {rows:,} {split} rows"
            case CacheProgressed(rows_done=done, rows=rows, seconds_left=seconds):
                left = "" if seconds is None else f" · {wording.duration(seconds)} left"
                self._measuring = f"computing the frozen blocks once, {done:,} of {rows:,} rows{left}"
            case EvaluationEnded() | CacheReady() | CacheRefused():
                self._measuring = ""
            case CheckpointSaved():
                self._has_halted = self._wish == "stopping"
            case RunChosen():
                self._rest()
                self._problem = None
            case StageStarted(stage=stage):
                if self._phase not in LIVE:
                    self._rest()
                self._enter("preparing", f"preparing · {stage}")
                self._problem = None
            case RunStarted(steps=steps, first_step=first):
                self._steps, self._step = steps, first
                self._enter("training", "")
            case RunResumed():
                self._enter("training", "")
                self._problem = None
            case RunPaused(step=step):
                self._enter("paused", f"paused at step {step:,}")
            case RunEnded():
                self._enter("ended", _ending(event))
            case RunFailed(step=step):
                self._enter("failed", f"broken off at step {step:,}")
                self._problem = _failure(event)
        if isinstance(event, RunEnded | RunFailed | RunChosen):
            self._look_around()

    @property
    def words(self) -> str:
        """What the run is doing."""
        if self._asked:
            return f"{self._asked} …"
        if self._wish:
            is_saving = self._has_halted and self._wish == "stopping"
            return f"stopped by you at step {self._step:,} · saving the model …" if is_saving else f"{self._wish} …"
        silence = self._silence()
        if self._phase != "training":
            return f"{self._said}{f' · {silence}' if silence else ''}"
        if self._is_over:  # its log does not say so: whatever carried it out was killed
            return f"broken off at step {self._step:,}"
        doing = silence or self._measuring or self._time_left()
        return " · ".join(part for part in ("training", f"step {self._step:,} of {self._steps:,}", doing) if part)

    @property
    def is_ticking(self) -> bool:
        """Whether time goes by in it."""
        return self._phase in ("preparing", "training")

    def picture(self) -> dict[str, Any]:
        """Return the buttons that act, the progress, the words, and what is on disk."""
        is_live, wish = self._phase in LIVE and not self._is_over, self._wish
        is_idle = not is_live and not self._asked
        run = self.session.run
        return {
            "title": wording.title(self.session.plan),
            "words": self.words,
            "phase": self._phase if is_live or self._phase not in LIVE else "failed",
            "percent": round(100 * self._step / self._steps, 1) if self._steps else 0,
            "can_start": is_idle,
            "can_pause": is_live and not wish,
            "can_stop": is_live and wish != "stopping",
            "can_resume": is_idle and run is not None and run.state in ("stopped", "failed"),
            "place": self._place(is_live=is_live),
            "kept": self._kept.picture(run),
            "unfinished": self._unfinished if is_idle else [],
        }

    def _place(self, *, is_live: bool) -> dict[str, Any]:
        """Return where the next run will be carried out, or where this one is."""
        run = self.session.run
        value = run.where if is_live and run is not None else self.session.where
        options = [place for place in PLACES if place != "elsewhere" or value == place]
        choices = [{"value": place, "title": PLACES[place]} for place in options]
        return {"value": value, "options": choices, "tip": PLACE_TIP, "can_change": not is_live}

    def _enter(self, phase: str, said: str) -> None:
        self._phase, self._said, self._asked, self._measuring, self._has_halted = phase, said, "", "", False

    @property
    def _is_over(self) -> bool:
        """Whether the handle knows that nothing more will come, whatever the log says."""
        return self.session.run is not None and self.session.run.is_over

    @property
    def _wish(self) -> str | None:
        """What was asked of the run and is not true yet: "pausing", "stopping" or nothing."""
        return self.session.run.wish if self.session.run is not None and self._phase in LIVE else None

    def _silence(self) -> str:
        """Return for how long nothing has been heard of a run that should be busy, if that is long."""
        run = self.session.run
        if run is None or run.is_over or self._phase not in ("preparing", "training") or run.seconds_silent < SILENT:
            return ""
        return f"no news for {wording.duration(run.seconds_silent)}{', still alive' if run.is_alive else ''}"

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
        self._asked = "starting"
        try:
            self.session.start()
        except Exception:
            self._asked = ""
            raise

    def _pause(self) -> None:
        if self.session.run is not None:
            self.session.run.pause()

    def _resume(self) -> None:
        run = self.session.run
        if run is None:
            return
        if not run.is_over:
            run.resume()
            return
        self.calm()
        self._asked = "resuming"
        self.background(run.resume, failed=self._disappoint)

    def _stop(self) -> None:
        if self.session.run is not None:
            self.session.run.stop()

    def _choose_place(self, value: str) -> None:
        self.session.where = value

    def _watch(self, name: str) -> None:
        self.calm()
        self._asked = "looking"
        self.background(lambda: self.session.attach(name), failed=self._disappoint)

    def _disappoint(self, error: Exception) -> None:
        self._asked = ""
        self.alarm(error)

    def _open(self, viewer: str) -> None:
        self._note_viewer(viewer)
        self._look_around()

    def _look_around(self) -> None:
        """Read in the background which runs are unfinished."""
        self.background(lambda: unfinished(self.session), then=self._list, failed=lambda error: self._list([]))

    def _list(self, found: list[dict[str, str]]) -> None:
        self._unfinished = found


def _failure(event: RunFailed) -> dict[str, str]:
    rows = ", ".join(map(str, event.rows[:8])) + (" …" if len(event.rows) > 8 else "")
    batch = f"training examples of the batch: {rows}\n" if rows else ""
    return problem(event.what, hint=event.hint, details=batch + event.traceback)


def _ending(event: RunEnded) -> str:
    best = f" · best model at step {event.best_step:,}" if event.best_step is not None else ""
    reason = "stopped by you" if event.reason == "stopped by the user" else event.reason
    return f"{reason} at step {event.step:,}{best}"

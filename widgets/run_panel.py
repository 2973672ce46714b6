"""RunPanel: Start, Pause, Resume and Stop, the progress and state of the run, and the files that it writes."""

import math
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from widgets import saved_files, wording
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
from workbench.events.run_state import UNFINISHED, RunState

if TYPE_CHECKING:
    from workbench.session.session import Session

TURNS = (StageStarted, RunStarted, RunPaused, RunResumed, RunEnded, RunFailed)  # they change the phase of a run
SILENT = 5.0  # seconds without an event after which the panel says so
PLACES = {"kernel": "this notebook", "process": "its own process", "elsewhere": "another notebook"}
PLACE_TIP = (
    "This notebook: starts fastest, and ends when the kernel is restarted. Its own process: "
    "continues when the kernel is restarted or the notebook is closed. Takes effect at the next run."
)


class RunPanel(Panel):
    """The buttons, the progress and the state of the session's run.

    Attributes:
        words: The state in words: "training · step 120 of 400 · 41 s left".
    """

    _esm = page("fields.js", "run.js")
    _css = style("run.css")
    kinds = saved_files.KINDS | frozenset(
        {PlanChanged, StageStarted, RunStarted, StepEnded, EvaluationProgressed, EvaluationEnded}
        | {RunPaused, RunResumed, RunEnded, RunFailed, RunChosen, CacheProgressed, CacheReady, CacheRefused}
    )

    def __init__(self, session: "Session") -> None:
        self._saved = saved_files.SavedFiles()
        self._unfinished: list[dict[str, str]] = []
        self._reset()
        super().__init__(session)
        self._find_unfinished()

    def _reset(self) -> None:
        """Forget the run that was shown."""
        self._run = RunState()
        self._stage = ""  # what it prepares, in words
        self._measuring = ""  # progress of an evaluation or of filling the cache, in words
        self._has_stopped = False  # it has stopped training and is saving its model
        self._pending = ""  # a request without an answer yet: "starting", "resuming"
        self._left, self._estimated_at = "", -math.inf  # time left in words, and when it was estimated, in seconds

    def actions(self) -> Mapping[str, Callable[..., None]]:
        """Return the actions of the buttons and fields."""
        buttons = {"start": self._start, "pause": self._pause, "resume": self._resume, "stop": self._stop}
        return {**buttons, "place": self._choose_place, "watch": self._watch, "seen": self._open}

    def note(self, event: Event) -> None:
        """Update the state, the progress and the words from an event."""
        self._saved.note(event)
        if not isinstance(event, RunChosen | PlanChanged):
            self._run.note(event)
        if isinstance(event, TURNS):
            self._pending, self._measuring, self._has_stopped = "", "", False
        match event:
            case EvaluationProgressed(split=split, rows_done=done, rows=rows):
                self._measuring = f"evaluating {done:,} of {rows:,} {split} rows"
            case CacheProgressed(rows_done=done, rows=rows, seconds_left=seconds):
                left = "" if seconds is None else f" · {wording.duration(seconds)} left"
                self._measuring = f"computing the frozen blocks once, {done:,} of {rows:,} rows{left}"
            case StepEnded() | EvaluationEnded() | CacheReady() | CacheRefused():
                self._measuring = ""
            case CheckpointSaved():
                self._has_stopped = self._wish == "stopping"
            case RunChosen():
                self._reset()
                self._problem = None
            case StageStarted(stage=stage):
                self._stage, self._problem = stage, None
            case RunResumed():
                self._problem = None
            case RunFailed():
                self._problem = _failure(event)
        if isinstance(event, RunEnded | RunFailed | RunChosen):
            self._find_unfinished()

    @property
    def _phase(self) -> str:
        """The phase of the run; "ready" if there is none."""
        return "ready" if self._run.began is None else self._run.phase

    @property
    def words(self) -> str:
        """The state of the run in words."""
        step, ending = f"step {self._run.step:,}", self._run.ending
        if self._pending:
            return f"{self._pending} …"
        if self._wish:
            is_saving = self._has_stopped and self._wish == "stopping"
            return f"stopped by you at {step} · saving the model …" if is_saving else f"{self._wish} …"
        if isinstance(ending, RunEnded):
            return wording.ending(ending)
        is_killed = self._phase == "running" and self._is_over  # its log has no end
        if is_killed or self._phase in ("paused", "failed"):
            return f"{'failed' if is_killed else self._phase} at {step}"
        if self._phase == "preparing":
            return wording.joined("preparing", self._stage, self._silence())
        if self._phase == "running":
            doing = self._silence() or self._measuring or self._time_left()
            return wording.joined("training", f"{step} of {self._run.steps:,}", doing)
        return "ready to start"

    @property
    def is_ticking(self) -> bool:
        """Whether the words change with the clock alone."""
        return self._phase in ("preparing", "running")

    def picture(self) -> dict[str, Any]:
        """Return which buttons are enabled, the progress, the words, and the files on disk."""
        is_live, wish = self._phase in UNFINISHED and not self._is_over, self._wish
        is_idle = not is_live and not self._pending
        run = self.session.run
        return {
            "title": wording.title(self.session.plan),
            "words": self.words,
            "phase": self._phase if is_live or self._phase not in UNFINISHED else "failed",
            "percent": round(100 * self._run.step / self._run.steps, 1) if self._run.steps else 0,
            "can_start": is_idle,
            "can_pause": is_live and not wish,
            "can_stop": is_live and wish != "stopping",
            "can_resume": is_idle and run is not None and run.state in ("stopped", "failed"),
            "place": self._place(is_live=is_live),
            "kept": self._saved.picture(run),
            "unfinished": self._unfinished if is_idle else [],
        }

    def _place(self, *, is_live: bool) -> dict[str, Any]:
        """Return where the next run will execute, or where the current one does."""
        run = self.session.run
        value = run.where if is_live and run is not None else self.session.where
        options = [place for place in PLACES if place != "elsewhere" or value == place]
        choices = [{"value": place, "title": PLACES[place]} for place in options]
        return {"value": value, "options": choices, "tip": PLACE_TIP, "can_change": not is_live}

    @property
    def _is_over(self) -> bool:
        """Whether the run has ended, even if its log has no end."""
        return self.session.run is not None and self.session.run.is_over

    @property
    def _wish(self) -> str | None:
        """A request that the run has not fulfilled yet: "pausing", "stopping" or None."""
        run = self.session.run
        return run.pending_request if run is not None and self._phase in UNFINISHED else None

    def _silence(self) -> str:
        """Return for how long a busy run has sent no event, in words; "" if that is not long."""
        run = self.session.run
        if run is None or run.is_over or self._phase not in ("preparing", "running") or run.seconds_silent < SILENT:
            return ""
        return f"no news for {wording.duration(run.seconds_silent)}{', still alive' if run.is_alive else ''}"

    def _time_left(self) -> str:
        """Return the time left in words. It is estimated from all steps so far, so at most once a second."""
        run, now = self.session.run, time.monotonic()
        if now - self._estimated_at >= 1:
            seconds = run.seconds_left if run is not None and run.state == "running" else None
            self._left = "" if seconds is None else f"{wording.duration(seconds)} left"
            self._estimated_at = now
        return self._left

    def _start(self) -> None:
        self.calm()
        self._pending = "starting"
        try:
            self.session.start()
        except Exception:
            self._pending = ""
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
        self._pending = "resuming"
        self.background(run.resume, failed=self._give_up)

    def _stop(self) -> None:
        if self.session.run is not None:
            self.session.run.stop()

    def _choose_place(self, value: str) -> None:
        self.session.where = value

    def _watch(self, name: str) -> None:
        self.calm()
        self._pending = "attaching"
        self.background(lambda: self.session.attach(name), failed=self._give_up)

    def _give_up(self, error: Exception) -> None:
        self._pending = ""
        self.alarm(error)

    def _open(self, viewer: str) -> None:
        self._note_viewer(viewer)
        self._find_unfinished()

    def _find_unfinished(self) -> None:
        """Find the unfinished runs in the background."""
        self.background(lambda: unfinished(self.session), then=self._list, failed=lambda error: self._list([]))

    def _list(self, found: list[dict[str, str]]) -> None:
        self._unfinished = found


def _failure(event: RunFailed) -> dict[str, str]:
    rows = ", ".join(map(str, event.rows[:8])) + (" …" if len(event.rows) > 8 else "")
    batch = f"training examples of the batch: {rows}\n" if rows else ""
    return problem(event.what, hint=event.hint, details=batch + event.traceback)

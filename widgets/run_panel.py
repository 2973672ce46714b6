"""RunPanel: the run that is shown: its name, plan and state, Pause, Resume and Stop, its proofs, and its files."""

import math
import re
import time
from collections.abc import Callable, Mapping
from typing import Any

from widgets import proof, saved_files, under_way, wording
from widgets.doing import STARTING, Doing
from widgets.panel import Panel, page, problem, style
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

TURNS = (StageStarted, RunStarted, RunPaused, RunResumed, RunEnded, RunFailed)  # they change the phase of a run
SILENT = 5.0  # seconds without an event after which the panel says so
PLACES = {"kernel": "in this notebook", "process": "in its own process", "elsewhere": "in another notebook"}


class RunPanel(Panel):
    """The name, the plan, the progress and the state of the session's run, and the buttons that control it.

    Attributes:
        words: The state in words: "training · step 120 of 400 · 41 s left".
    """

    _esm = page("fields.js", "use.js", "run.js")
    _css = style("run.css")
    kinds = (
        saved_files.KINDS
        | proof.KINDS
        | {PlanChanged, StageStarted, RunStarted, StepEnded, EvaluationProgressed, EvaluationEnded}
        | {RunPaused, RunResumed, RunEnded, RunFailed, RunChosen, CacheProgressed, CacheReady, CacheRefused}
    )

    def __init__(self, session: Any = None, **objects: Any) -> None:
        self._saved, self._proof = saved_files.SavedFiles(), proof.Proof()
        self._doing = Doing()
        self._reset()
        super().__init__(session, **objects)

    def _reset(self) -> None:
        """Forget the run that was shown."""
        self._run = RunState()
        self._stage = ""  # what it prepares, in words
        self._measuring = ""  # progress of an evaluation or of filling the cache, in words
        self._has_stopped = False  # it has stopped training and is saving its model
        self._is_asked = False  # its Resume was pressed, and nothing has come of it yet
        self._left, self._estimated_at = "", -math.inf  # time left in words, and when it was estimated, in seconds

    def actions(self) -> Mapping[str, Callable[..., None]]:
        """Return the actions of the buttons."""
        return {"pause": self._pause, "resume": self._resume, "stop": self._stop}

    def note(self, event: Event) -> None:
        """Update the state, the progress and the words from an event."""
        self._saved.note(event)
        self._proof.note(event)
        if not isinstance(event, RunChosen | PlanChanged):
            self._run.note(event)
        if isinstance(event, TURNS):
            self._is_asked, self._measuring, self._has_stopped = False, "", False
        if (doing := under_way.after(event, self._run)) is not None:
            self._measuring = doing
        match event:
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
                self._problem = None if event.is_interruption else _failure(event)
            case PlanChanged() if self._phase == "failed" and not self._has_begun:
                self._problem = None  # the plan is being repaired

    @property
    def _phase(self) -> str:
        """The phase of the run; "none" if there is no run."""
        if self._run.began is not None:
            return self._run.phase
        return "none" if self.session.run is None else "preparing"

    @property
    def _is_resuming(self) -> bool:
        """Whether it is about to go on: here or in another panel it was asked to, and there is no new event yet."""
        run = self.session.run
        return self._is_asked or (run is not None and not run.is_over and self._run.is_over)

    @property
    def _is_interrupted(self) -> bool:
        """Whether what trained it went away. If its log has no end, nobody has said so there yet."""
        return self._run.is_interrupted or (self._phase in UNFINISHED and self._is_over)

    def refresh(self) -> None:
        """Redraw. How a run ended before is no longer told once it is resumed."""
        if self._is_resuming:
            self._problem = None
        super().refresh()

    @property
    def _has_begun(self) -> bool:
        """Whether data and backbone were loaded, so that the run can be resumed; a fork begins with its parent's."""
        return self._run.steps > 0 or self._run.parent is not None

    @property
    def words(self) -> str:
        """The state of the run in words."""
        run, step, ending = self.session.run, f"step {self._run.step:,}", self._run.ending
        if self._is_resuming:
            return self._doing.words("resuming")
        if self._wish:
            is_saving = self._has_stopped and self._wish == "stopping"
            return self._doing.words(f"stopped by you at {step} · saving the model" if is_saving else self._wish)
        if isinstance(ending, RunEnded):
            return wording.ending(ending)
        if self._is_interrupted or self._phase == "failed":
            how = "interrupted" if self._is_interrupted else "failed"
            return f"{how} at {step}" if self._run.step else f"{how} before the first step"
        if self._phase == "paused":
            return f"paused at {step}"
        if self._phase == "preparing" and self._run.began is None and run is not None:
            return self._doing.words(STARTING[run.where])
        if self._phase == "preparing":
            return wording.joined("preparing", self._stage, self._silence())
        if self._phase == "running":
            doing = self._measuring or self._time_left()
            if silence := self._silence():
                doing = wording.joined(self._measuring or f"taking step {self._run.step + 1:,}", silence)
            return wording.joined("training", f"{step} of {self._run.steps:,}", doing)
        return "The run that you start is shown here."

    @property
    def is_ticking(self) -> bool:
        """Whether the words change with the clock alone."""
        return self._is_resuming or self._wish is not None or self._phase in ("preparing", "running")

    def picture(self) -> dict[str, Any]:
        """Return the run's name and plan, which buttons are enabled, the progress, the words, proofs and files."""
        run = self.session.run
        is_live, wish = self._phase in UNFINISHED and not self._is_over, self._wish
        is_idle = not is_live and not self._is_resuming
        return {
            "name": run.name if run is not None else "No run yet",
            "plan": wording.title(run.plan) if run is not None else "",
            "place": PLACES[run.where] if is_live and run is not None else "",
            "words": self.words,
            "phase": "preparing" if self._is_resuming else "interrupted" if self._is_interrupted else self._phase,
            "percent": round(100 * self._run.step / self._run.steps, 1) if self._run.steps else 0,
            "can_pause": is_live and not wish and self._run.began is not None,
            "can_stop": is_live and not self._is_resuming and wish != "stopping",
            "can_resume": is_idle and self._has_begun and run is not None and run.state in ("stopped", "failed"),
            "kept": self._saved.picture(run),
            **self._proof.picture(),
        }

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
        seconds = wording.duration(run.seconds_silent)
        return f"still working ({seconds})" if run.is_alive else f"no news for {seconds}"

    def _time_left(self) -> str:
        """Return the time left in words. It is estimated from all steps so far, so at most once a second."""
        run, now = self.session.run, time.monotonic()
        if now - self._estimated_at >= 1:
            seconds = run.seconds_left if run is not None and run.state == "running" else None
            self._left = "" if seconds is None else f"{wording.duration(seconds)} left"
            self._estimated_at = now
        return self._left

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
        self._is_asked = True
        self.background(run.resume, failed=self._give_up)

    def _stop(self) -> None:
        if self.session.run is not None:
            self.session.run.stop()

    def _give_up(self, error: Exception) -> None:
        self._is_asked = False
        self.alarm(error)


def _failure(event: RunFailed) -> dict[str, str]:
    rows = ", ".join(map(str, event.rows[:8])) + (" …" if len(event.rows) > 8 else "")
    batch = f"training examples of the batch: {rows}\n" if rows else ""
    hint = re.sub(r"(call )?run\.resume\(\)", "Resume", event.hint)  # the panel has a button for it
    return problem(event.what, hint=hint, details=batch + event.traceback)

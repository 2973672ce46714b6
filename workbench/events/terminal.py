"""Shows a run in the terminal, as a line that each event overwrites.

If stdout is not a terminal but, for example, a file, lines are printed one below the other, and progress only every 10
seconds. There are no colours and no bars, so that a log file stays readable.
"""

import shutil
import sys
import time

from workbench.events import (
    CacheProgressed,
    CacheRefused,
    EvaluationEnded,
    Event,
    RunEnded,
    RunStarted,
    StageStarted,
    StepEnded,
)
from workbench.events.pace import Pace
from workbench.events.sentences import duration, in_words, started

_PROGRESS_SECONDS = 10  # between two lines of progress if stdout is not a terminal
_CLEAR = "\r\x1b[2K"


class Line:
    """Writes lines to stdout, some of which the next line overwrites."""

    def __init__(self) -> None:
        self.is_terminal = sys.stdout.isatty()
        self._written = time.monotonic()

    def __call__(self, text: str, /, *, end: str = "\n") -> None:
        r"""Show a line; with `end="\r"` it is progress, which the next line overwrites."""
        is_progress = end == "\r"
        if self.is_terminal:
            width = shutil.get_terminal_size().columns - 1  # a wrapped line could not be cleared
            self._write(_CLEAR + (text[:width] if is_progress else text + "\n"))
        elif not is_progress or time.monotonic() - self._written >= _PROGRESS_SECONDS:
            self._write(text + "\n")

    def _write(self, text: str) -> None:
        sys.stdout.write(text)
        sys.stdout.flush()
        self._written = time.monotonic()


class RunLine:
    """Shows the events of a run on a `Line`: its step, its latest metrics and the remaining time."""

    def __init__(self, line: Line) -> None:
        self._line = line
        self._pace = Pace()
        self._latest_metrics = ""

    def show(self, event: Event) -> None:
        """Show an event; events that are not for the terminal are ignored."""
        self._pace.note(event)
        match event:
            case StageStarted() | CacheProgressed():
                self._line(str(event), end="\r")
            case RunStarted():
                self._start(event)
            case CacheRefused():
                self._line(str(event))
            case StepEnded():
                self._line(self._status(event), end="\r")
            case EvaluationEnded():
                self._latest_metrics = f"{event.split} {in_words(event.metrics)}"
                text = f"{self._step(event.step)} · {self._latest_metrics}"
                self._line(text, end="\r" if self._line.is_terminal else "\n")
            case RunEnded():
                self._line(self._ending(event))

    def _start(self, event: RunStarted) -> None:
        self._line(started(event))
        if event.settings:
            self._line(f"settings for this machine: {' · '.join(event.settings)}")
        for note in event.notes:
            self._line(f"note: {note}")
        self._line(f"baseline to beat, {event.baseline_name}: {in_words(event.baseline)}")

    def _step(self, step: int) -> str:
        return f"step {step}/{self._pace.steps}"

    def _status(self, event: StepEnded) -> str:
        left = duration(self._pace.seconds_left or 0)
        parts = [self._step(event.step), f"loss {event.loss:.3f}", self._latest_metrics, f"{left} left"]
        return " · ".join(part for part in parts if part)

    def _ending(self, event: RunEnded) -> str:
        parts = [f"{event.reason} after {self._step(event.step)}", self._latest_metrics]
        if event.best_loss is not None:
            parts.append(f"lowest validation loss {event.best_loss:.3f} at step {event.best_step}")
        return " · ".join(part for part in parts if part)

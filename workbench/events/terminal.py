"""What the terminal shows: a line that gives way to the next, and the line of a run.

Left out: colours, bars and anything that a log file would keep as rubbish. Where nobody watches, lines come now and
then instead of over each other.
"""

import shutil
import sys
import time
from collections.abc import Mapping

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

_UNWATCHED_SECONDS = 10  # between two passing lines where nobody watches
_CLEAR = "\r\x1b[2K"


class Line:
    """A line on stdout that gives way to the next."""

    def __init__(self) -> None:
        self.is_watched = sys.stdout.isatty()
        self._written = time.monotonic()

    def __call__(self, text: str, /, *, end: str = "\n") -> None:
        r"""Show a line: for good, or with `end="\r"` until the next one comes."""
        is_passing = end == "\r"
        if self.is_watched:
            width = shutil.get_terminal_size().columns - 1  # a wrapped line could not be taken back
            self._write(_CLEAR + (text[:width] if is_passing else text + "\n"))
        elif not is_passing or time.monotonic() - self._written >= _UNWATCHED_SECONDS:
            self._write(text + "\n")

    def _write(self, text: str) -> None:
        sys.stdout.write(text)
        sys.stdout.flush()
        self._written = time.monotonic()


class RunLine:
    """Shows the events of a run on a `Line`: how far it is, what was measured last, how long it will take."""

    def __init__(self, line: Line) -> None:
        self._line = line
        self._pace = Pace()
        self._measured = ""

    def show(self, event: Event) -> None:
        """Show an event, if it is one for the terminal."""
        self._pace.note(event)
        match event:
            case StageStarted():
                self._line(f"{event.stage} …", end="\r")
            case RunStarted():
                self._start(event)
            case CacheProgressed(rows_done=done, rows=rows, seconds_left=seconds):
                left = f" · {duration(seconds)} left" if seconds is not None else ""
                self._line(f"computing the frozen blocks once: {done:,} of {rows:,} {event.split} rows{left}", end="\r")
            case CacheRefused(what=what):
                self._line(f"the frozen blocks are computed at each step: {what}")
            case StepEnded():
                self._line(self._status(event), end="\r")
            case EvaluationEnded():
                self._measured = f"{event.split} {in_words(event.metrics)}"
                self._line(f"{self._step(event.step)} · {self._measured}", end="\r" if self._line.is_watched else "\n")
            case RunEnded():
                self._line(self._ending(event))

    def _start(self, event: RunStarted) -> None:
        self._line(
            f"{event.rows:,} rows · {event.trainable_parameters:,} of {event.total_parameters:,} parameters trainable"
            f" · {event.steps:,} steps · {event.device}, {event.precision}"
        )
        if event.settings:
            self._line(f"on this machine: {' · '.join(event.settings)}")
        for note in event.notes:
            self._line(f"note: {note}")
        self._line(f"to beat, {event.baseline_name}: {in_words(event.baseline)}")

    def _step(self, step: int) -> str:
        return f"step {step}/{self._pace.steps}"

    def _status(self, event: StepEnded) -> str:
        left = duration(self._pace.seconds_left or 0)
        parts = [self._step(event.step), f"loss {event.loss:.3f}", self._measured, f"{left} left"]
        return " · ".join(part for part in parts if part)

    def _ending(self, event: RunEnded) -> str:
        parts = [f"{event.reason} after {self._step(event.step)}", self._measured]
        if event.best_loss is not None:
            parts.append(f"lowest validation loss {event.best_loss:.3f} at step {event.best_step}")
        return " · ".join(part for part in parts if part)


def in_words(metrics: Mapping[str, float]) -> str:
    """Return the metrics a terminal has room for: "loss 0.612, accuracy 0.71"."""
    forms = {"loss": ".3f", "perplexity": ".1f", "accuracy": ".3f"}
    return ", ".join(f"{name} {metrics[name]:{form}}" for name, form in forms.items() if name in metrics)


def duration(seconds: float) -> str:
    """Return a time in the unit a person would use: "41 s", "3 min", "2 h 05 min"."""
    minutes = round(seconds / 60)
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"

"""The errors that users see, and helpers for their words.

Every error says what was given and what was expected (`what`), and what to try (`hint`). Panels show the two
separately.
"""

import difflib
from collections.abc import Iterable

QUESTION = "Did you mean"  # begins a hint that is a question, and no advice


class WorkbenchError(Exception):
    """An error that the user can fix.

    Attributes:
        what: What was given, and what was expected.
        hint: What to try next; may be empty.
    """

    def __init__(self, what: str, *, hint: str = "") -> None:
        super().__init__(what, hint)
        self.what = what
        self.hint = hint

    def __str__(self) -> str:
        advice = self.hint if self.hint.startswith(QUESTION) else f"Try: {self.hint}"
        return f"{self.what}\n{advice}" if self.hint else self.what


class PlanError(WorkbenchError, ValueError):
    """A plan has an invalid choice: an unknown name, a wrong type, or a value that is out of range."""


class DataError(WorkbenchError, ValueError):
    """Rows can't be read, understood or split; the message gives the file, the row and the reason."""


class BackboneError(WorkbenchError):
    """A pretrained model can't be found or loaded, or its blocks can't be found."""


class PackError(WorkbenchError):
    """An offline pack can't be fetched, verified or unpacked."""


class RunError(WorkbenchError):
    """A run can't start, continue or be read."""


class LossError(RunError):
    """A loss or a gradient is not finite.

    Attributes:
        step: The 1-based step at which it happened; the weights are still those of the step before.
        rows: Numbers of the training examples that cause it by themselves; if there are none, all of the batch.
    """

    def __init__(self, what: str, *, hint: str, step: int, rows: tuple[int, ...]) -> None:
        super().__init__(what, hint=hint)
        self.step, self.rows = step, rows


def nearest(name: str, known: Iterable[str]) -> str:
    """Return a hint with the known name nearest to `name`; if none is close, one that lists the first known names."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1)
    if close:
        return f"{QUESTION} {close[0]!r}?"
    return f"use one of {', '.join(names[:12])}{' …' if len(names) > 12 else ''}"


def a(noun: str) -> str:
    """Return a noun with its article: "a str", "an int"."""
    return f"{'an' if noun[:1].lower() in tuple('aeio') else 'a'} {noun}"


def counted(number: int, noun: str, several: str = "") -> str:
    """Return a number with its noun: "1 row", "2,310 rows"; `several` is a plural that is not noun + "s"."""
    return f"{number:,} {noun if number == 1 else several or noun + 's'}"

"""The few kinds of error a user can meet, and the nearest-name helper that their messages share.

Every error says what was given and what was expected (`what`), and what to try (`hint`); panels show the two apart.
"""

import difflib
from collections.abc import Iterable


class WorkbenchError(Exception):
    """Something the user can put right.

    Attributes:
        what: What was given, and what was expected.
        hint: What to try next; may be empty.
    """

    def __init__(self, what: str, *, hint: str = "") -> None:
        super().__init__(what, hint)
        self.what = what
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.what}\nTry: {self.hint}" if self.hint else self.what


class PlanError(WorkbenchError, ValueError):
    """A choice in a plan that can't be carried out: unknown name, wrong type, out of range."""


class DataError(WorkbenchError, ValueError):
    """Rows that can't be read, guessed or split; names the file, the row and the reason."""


class BackboneError(WorkbenchError):
    """A pretrained model that can't be found, loaded or taken apart."""


class PackError(WorkbenchError):
    """An offline pack that can't be fetched, verified or unpacked."""


class RunError(WorkbenchError):
    """A run that can't start, go on or be read back."""


class LossError(RunError):
    """A loss or a gradient that is no finite number.

    Attributes:
        step: The 1-based step at which it came up; the weights are those of the step before.
        rows: Training examples of its batch, by number: those that do it alone, or else all of them.
    """

    def __init__(self, what: str, *, hint: str, step: int, rows: tuple[int, ...]) -> None:
        super().__init__(what, hint=hint)
        self.step, self.rows = step, rows


def nearest(name: str, known: Iterable[str]) -> str:
    """Return a hint that names the known name nearest to `name`, or lists the first few known names."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1)
    if close:
        return f"did you mean {close[0]!r}?"
    return f"one of {', '.join(names[:12])}{' …' if len(names) > 12 else ''}"

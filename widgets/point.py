"""Point: a selected step of a run, with its measurements, sample outputs, and the form of a fork.

It has the content of the box next to the curves. The panel does slow work in the background.
"""

import time
import traceback
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from widgets import cells, wording
from widgets.panel import problem
from widgets.unfreezing import shortest
from workbench.errors import PlanError, WorkbenchError
from workbench.plan.choices import Transfer
from workbench.plan.plan import Plan

if TYPE_CHECKING:
    from widgets.curves import Curves
    from workbench.models import Backbone
    from workbench.session.session import Session

SAMPLES = 6  # number of sample rows
WORDS = {"completion": "model continues"}  # columns of the samples whose name is no word for a reader


@dataclass
class Point:
    """One step of a run.

    Attributes:
        step: Number of completed steps.
        choices: Values at this step of the fields that a fork may change.
        layers: Choices of trainable blocks for a fork: words -> value of the plan.
        doing: Description of the work in the background; "" if there is none.
        since: Start of that work, in seconds of the monotonic clock.
        samples: The table of sample outputs.
        problem: The error to show.
    """

    step: int
    choices: dict[str, Any]
    layers: dict[str, Any]
    doing: str = ""
    since: float = 0.0
    samples: dict[str, Any] | None = None
    problem: dict[str, str] | None = None

    def begin(self, doing: str) -> None:
        """Show that work in the background has begun."""
        self.doing, self.since, self.problem = doing, time.monotonic(), None

    def fail(self, error: Exception) -> None:
        """Show an error instead of the work in the background."""
        is_known = isinstance(error, WorkbenchError)
        self.doing = ""
        self.problem = problem(
            error.what if isinstance(error, WorkbenchError) else f"{type(error).__name__}: {error}",
            hint=error.hint if isinstance(error, WorkbenchError) else "",
            details="" if is_known else "".join(traceback.format_exception(error)),
        )

    def show_progress(self, done: int, steps: int) -> None:
        """Show the progress of the replay."""
        self.doing = f"replaying step {done:,} of {steps:,} …"

    def show_samples(self, table: Any, differs: str = "") -> None:
        """Show a data frame of sample outputs as text and small images, and a warning if the replay diverged."""
        self.doing = ""
        if differs:
            self.problem = problem("the replay of the steps gave other numbers", hint=f"beware: {differs}")
        rows = [[cells.cell(value) for value in row] for row in table.itertuples(index=False)]
        self.samples = {
            "columns": [WORDS.get(str(name), str(name).replace("_", " ")) for name in table.columns],
            "rows": rows,
        }

    def changes(self, learning_rate: Any, layers: str) -> dict[str, Any]:
        """Return the fields in which a fork with these choices differs from its parent at this step.

        Raises:
            PlanError: A value is invalid.
        """
        if layers not in self.layers:
            raise PlanError(f"layers is {layers!r}; expected one of {', '.join(self.layers)}")
        wanted = {"learning_rate": learning_rate, "trainable": self.layers[layers]}
        Plan().change(**wanted)  # raises if a value is invalid
        return {name: value for name, value in wanted.items() if value != self.choices[name]}

    def picture(self, curves: "Curves") -> dict[str, Any]:
        """Return the content of the box."""
        seconds = time.monotonic() - self.since
        return {
            "step": self.step,
            "facts": curves.at(self.step),
            "learning_rate": self.choices["learning_rate"],
            "layers": list(self.layers),
            "layer": next(words for words, value in self.layers.items() if value == self.choices["trainable"]),
            "doing": f"{self.doing} {wording.duration(seconds)}" if self.doing and seconds >= 1 else self.doing,
            "samples": self.samples,
            "problem": self.problem,
        }


def point_at(step: int, curves: "Curves", session: "Session") -> Point:
    """Return the point at a step of the session's run, with the values of the plan at that step."""
    run, backbone = session.run, session.backbone
    plan = run.plan if run is not None else session.plan
    choices = {name: plan.flat()[name] for name in ("learning_rate", "trainable")}
    for mark in reversed(curves.adjusted):  # undo later changes, which the plan of the run includes
        if mark.step > step:
            choices |= {name: value for name, value in mark.before.items() if name in choices}
    if backbone is not None and not isinstance(choices["trainable"], str):
        choices["trainable"] = shortest(choices["trainable"], [block.name for block in backbone.blocks])
    return Point(step, choices, _layers(choices["trainable"], backbone))


def _layers(present: Any, backbone: "Backbone | None") -> dict[str, Any]:
    """Return the choices of trainable blocks in words: the presets for this network, and the current choice."""
    blocks = sum(block.kind == "block" for block in backbone.blocks) if backbone is not None else 4
    values = ["head", *(f"last {number}" for number in range(1, blocks)), "all"]
    known = {wording.mode(Transfer(trainable=value)): value for value in values}
    return known if present in known.values() else {wording.value_of("trainable", present): present, **known}

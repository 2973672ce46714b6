"""Point: a moment of a run that was clicked on, with what was measured there, its samples, and a fork from it.

It holds what the box beside the curves shows. What takes a while is done aside by the panel.
"""

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from widgets import cells, wording
from widgets.panel import problem
from workbench.errors import PlanError, WorkbenchError
from workbench.plan.choices import Plan, Transfer

if TYPE_CHECKING:
    from widgets.curves import Curves
    from workbench.session.session import Session

SAMPLES = 6  # rows


@dataclass
class Point:
    """One step of a run.

    Attributes:
        step: Steps that had been taken.
        choices: The fields that a fork may change, as the run had them at this step.
        layers: Which blocks could learn in a fork: words -> value of the plan.
        doing: What is being done aside, in words.
        since: When that began, in seconds of the monotonic clock.
        samples: The table of sample outputs.
        problem: What went wrong.
    """

    step: int
    choices: dict[str, Any]
    layers: dict[str, Any]
    doing: str = ""
    since: float = 0.0
    samples: dict[str, Any] | None = None
    problem: dict[str, str] | None = None

    def begin(self, doing: str) -> None:
        """Say that something is being done from now on."""
        self.doing, self.since, self.problem = doing, time.monotonic(), None

    def fail(self, error: Exception) -> None:
        """Say what went wrong, in place of what was being done."""
        is_known = isinstance(error, WorkbenchError)
        self.doing = ""
        self.problem = problem(
            error.what if isinstance(error, WorkbenchError) else f"{type(error).__name__}: {error}",
            hint=error.hint if isinstance(error, WorkbenchError) else "",
            details="" if is_known else wording.traceback_of(error),
        )

    def go_on(self, done: int, steps: int) -> None:
        """Say how far the replay is."""
        self.doing = f"replaying step {done:,} of {steps:,} …"

    def show_samples(self, table: Any, differs: str = "") -> None:
        """Show a frame of sample outputs, its cells as text and small pictures, and what the replay gave otherwise."""
        self.doing = ""
        if differs:
            self.problem = problem("the steps were repeated and gave other numbers", hint=f"beware: {differs}")
        rows = [[cells.cell(value) for value in row] for row in table.itertuples(index=False)]
        self.samples = {"columns": [str(name).replace("_", " ") for name in table.columns], "rows": rows}

    def changes(self, learning_rate: Any, layers: str) -> dict[str, Any]:
        """Return what a fork with these choices does otherwise than its parent did at this step.

        Raises:
            PlanError: A value that can't be.
        """
        if layers not in self.layers:
            raise PlanError(f"layers is {layers!r}; expected one of {', '.join(self.layers)}")
        wanted = {"learning_rate": learning_rate, "trainable": self.layers[layers]}
        Plan().change(**wanted)  # says what is wrong with them
        return {name: value for name, value in wanted.items() if value != self.choices[name]}

    def picture(self, curves: "Curves") -> dict[str, Any]:
        """Return what the box shows."""
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
    """Return the point at a step of the session's run, with the choices that held there."""
    run = session.run
    plan = run.plan if run is not None else session.plan
    choices = {name: plan.flat()[name] for name in ("learning_rate", "trainable")}
    for mark in reversed(curves.adjusted):  # the plan of a run has its later changes in it
        if mark.step > step:
            choices |= {name: value for name, value in mark.before.items() if name in choices}
    return Point(step, choices, _layers(choices["trainable"], session))


def _layers(present: Any, session: "Session") -> dict[str, Any]:
    """Return which blocks could learn, in words: the presets that this network has, and what does at present."""
    backbone = session.backbone
    blocks = sum(block.kind == "block" for block in backbone.blocks) if backbone is not None else 4
    values = ["head", *(f"last {number}" for number in range(1, blocks)), "all"]
    known = {wording.mode(Transfer(trainable=value)): value for value in values}
    return known if present in known.values() else {wording.mode(Transfer(trainable=present)): present, **known}

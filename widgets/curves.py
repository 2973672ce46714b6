"""Curves: the measurements of one run, from its events, and those of the run that it was forked from.

Every number was measured by the run. This module does not depend on widgets.
"""

import math
from typing import TYPE_CHECKING, Any

from widgets import unfreezing, wording
from widgets.ancestors import events_with_ancestors
from widgets.series import Series
from workbench.events import (
    CacheProgressed,
    EvaluationEnded,
    EvaluationProgressed,
    Event,
    PlanAdjusted,
    RunChosen,
    RunEnded,
    RunFailed,
    RunForked,
    RunResumed,
    RunStarted,
    StageStarted,
    StepEnded,
)
from workbench.events.run_state import RunState

if TYPE_CHECKING:
    from workbench.session.session import Session

KINDS: frozenset[type[Event]] = frozenset(
    {RunChosen, StageStarted, RunStarted, StepEnded, CacheProgressed, EvaluationProgressed}
    | {EvaluationEnded, RunEnded, RunFailed}
    | {RunForked, RunResumed, PlanAdjusted}
)
METRICS = ("perplexity", "accuracy", "macro_f1")  # of the task, as far as they are drawn
UNDRAWN = {"loss", "weighted_f1", *METRICS}
EXTRAS = 3  # maximum number of user metrics that are drawn


class Curves:
    """The curves of one run, up to its latest event.

    Attributes:
        training: Loss of each step, in nats per target.
        validation: Loss of each evaluation, in nats per target.
        rate: Learning rate of each step.
        metrics: Values of each metric that is drawn, at each evaluation.
        adjusted: The changes of its plan during the run.
    """

    def __init__(self) -> None:
        self._clear()

    def _clear(self) -> None:
        self.training, self.validation, self.rate = Series(), Series(), Series()
        self.metrics: dict[str, Series] = {}
        self.adjusted: list[PlanAdjusted] = []
        self._run = RunState()
        self._provisional: EvaluationProgressed | CacheProgressed | None = None
        self._started: RunStarted | None = None
        self._test: EvaluationEnded | None = None

    @property
    def forked(self) -> RunForked | None:
        """The fork from its parent; None if the run is not a fork."""
        return self._run.parent

    def note(self, event: Event) -> None:
        """Add an event to the curves. A new run begins with empty curves; a resumed run continues its curves."""
        is_next = self._run.is_over and isinstance(event, RunForked | StageStarted | RunStarted)
        if isinstance(event, RunChosen) or is_next:
            self._clear()
        if not isinstance(event, RunChosen):
            self._run.note(event)
        match event:
            case StepEnded(step=step, loss=loss, learning_rate=rate):
                self.training.add(step, loss)
                self.rate.add(step, rate)
            case EvaluationProgressed(split="validation") | CacheProgressed(split="validation", step=0, loss=float()):
                self._provisional = event
            case EvaluationEnded(split="validation"):
                self._evaluated(event)
            case EvaluationEnded(split="test"):
                self._test = event
            case PlanAdjusted():
                self.adjusted.append(event)
            case RunStarted():
                self._started = event
            case RunEnded() | RunFailed():
                self._provisional = None

    def picture(self, goal: str = "loss", patience: int | None = None) -> dict[str, Any]:
        """Return the downsampled curves with marks and words about them.

        Args:
            goal: Name of the metric by which the best step is chosen.
            patience: Evaluations without improvement that end the run; None if it does not stop early.
        """
        is_over = self._run.is_over or self._started is None
        return {
            "steps": self._run.step if is_over else self._run.steps,
            "last_step": self._run.step,
            **self.lines(),
            "baseline": self._baseline().get("loss"),
            "baseline_name": self._started.baseline_name if self._started else "",
            "provisional": self._provisional_point(),
            "best": self._best_point(goal),
            "marks": [
                {"step": mark.step, "words": _marked(mark), "is_unfreezing": mark.by == unfreezing.NAME}
                for mark in self.adjusted
                if mark.after
            ],
            "verdict": self.verdict(goal, patience),
        }

    def lines(self) -> dict[str, Any]:
        """Return only the downsampled curves."""
        return {
            "training": self.training.picture(),
            "validation": self.validation.picture(),
            "metrics": [
                {
                    "name": name,
                    "title": wording.metric(name),
                    "is_extra": name not in METRICS,
                    "baseline": self._baseline().get(name),
                    **series.picture(),
                }
                for name, series in self.metrics.items()
            ],
        }

    def at(self, step: int) -> list[str]:
        """Return the measurements at this step, or at the latest evaluation before it, in words."""
        said = []
        if (at := self.training.at(step)) is not None:
            said.append(f"training loss {at[1]:.4g}")
        if (held := self.validation.at(step)) is not None:
            said.append(f"validation loss {held[1]:.4g}{_at_step(held[0], step)}")
            for name, series in self.metrics.items():
                if (value := series.at(step)) is not None:
                    said.append(f"{wording.metric(name)} {value[1]:.4g}{_at_step(value[0], step)}")
        if (rate := self.rate.at(step)) is not None:
            said.append(f"learning rate {rate[1]:.3g}")
        return said

    def verdict(self, goal: str = "loss", patience: int | None = None) -> str:
        """Return a judgement of the run in words; the arguments are those of `picture`."""
        bad, best = self.training.first_bad, self._run.best
        if bad is not None:
            return f"the training loss is not a number since step {bad:,}: try a lower learning rate"
        if best is None:
            return ""
        value = f"validation {wording.metric(goal)} {best.metrics.get(goal, math.nan):.4g}"
        if len(self.validation) == 1 and best.step == 0:
            return f"before training: {value}"
        said = f"best {value} at step {best.step:,}"
        if self._test is not None:
            return f"{said} · {_measured(self._test)}"
        than = "than before training" if best.step == 0 else ""
        if self._run.is_over:
            return f"no better {than} · {said}" if than else said
        if self._run.waited == 0:
            return f"still improving · {said}"
        waited = _waited(self._run.waited, None if self.forked else patience)
        return f"no better {than}{' ' if than else ''}for {waited} · {said}"

    def _evaluated(self, event: EvaluationEnded) -> None:
        self._provisional = None
        loss = event.metrics.get("loss", math.nan)  # a log from another program may lack it
        self.validation.add(event.step, loss)
        extras = [name for name in event.metrics if name not in UNDRAWN][:EXTRAS]
        for name in [name for name in METRICS if name in event.metrics] + extras:
            self.metrics.setdefault(name, Series()).add(event.step, event.metrics[name])

    def _baseline(self) -> dict[str, float]:
        return dict(self._started.baseline) if self._started else {}

    def _best_point(self, goal: str) -> dict[str, Any] | None:
        """Return where the best step is marked: on the loss, and on the metric by which it was chosen."""
        best = self._run.best
        if best is None:
            return None
        loss, value = (_finite(best.metrics.get(name)) for name in ("loss", goal))
        return {"step": best.step, "loss": loss, "metric": goal, "value": value, "title": wording.metric(goal)}

    def _provisional_point(self) -> dict[str, float] | None:
        point = self._provisional
        return {"step": point.step, "loss": point.loss} if point and point.loss is not None else None


def curves_of(name: str, session: "Session") -> Curves:
    """Return the curves of a run of the same folder, including those of the runs that it was forked from.

    Raises:
        WorkbenchError: Its folder no longer exists.
    """
    curves = Curves()
    for event in events_with_ancestors(name, session):
        if isinstance(event, StepEnded | EvaluationEnded):
            curves.note(event)
    return curves


def _marked(mark: PlanAdjusted) -> str:
    if mark.by == unfreezing.NAME:
        return f"from step {mark.step + 1:,}: {' and '.join(unfreezing.unfrozen(mark))} unfrozen"
    return f"from step {mark.step + 1:,}: {wording.change(mark.before, mark.after)}"


def _waited(evaluations: int, patience: int | None) -> str:
    if patience is None:
        return wording.plural(evaluations, "evaluation")
    return f"{evaluations} of {wording.plural(max(1, patience), 'evaluation')}"


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None  # JSON has no nan


def _at_step(at: float, step: int) -> str:
    return "" if at == step else f" at step {at:,.0f}"


def _measured(event: EvaluationEnded) -> str:
    names = [name for name in ("loss", *METRICS) if name in event.metrics]
    parts = [f"{wording.metric(name).split(' (')[0]} {event.metrics[name]:.3g}" for name in names]
    return f"on {event.rows:,} {event.split} rows: {', '.join(parts)}"

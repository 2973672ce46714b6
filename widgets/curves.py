"""Curves: the measurements of one run, from its events, and those of the run that it was forked from.

Every number was measured by the run. This module does not depend on widgets.
"""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from widgets import wording
from widgets.series import Series
from workbench.errors import RunError
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

if TYPE_CHECKING:
    from workbench.session.session import Session

KINDS: frozenset[type[Event]] = frozenset(
    {RunChosen, StageStarted, RunStarted, StepEnded, CacheProgressed, EvaluationProgressed}
    | {EvaluationEnded, RunEnded, RunFailed}
    | {RunForked, RunResumed, PlanAdjusted}
)
METRICS = {"perplexity": "perplexity", "accuracy": "accuracy", "macro_f1": "F1 (macro)"}
UNDRAWN = {"loss", "weighted_f1", *METRICS}
EXTRAS = 3  # maximum number of user metrics that are drawn


class Curves:
    """The curves of one run, up to its latest event.

    Attributes:
        training: Loss of each step, in nats per target.
        validation: Loss of each evaluation, in nats per target.
        rate: Learning rate of each step.
        metrics: Values of each metric that is drawn, at each evaluation.
        forked: The fork from its parent; None if the run is not a fork.
        adjusted: The changes of its plan during the run.
    """

    def __init__(self) -> None:
        self._is_over = True  # the next run starts with empty curves
        self._clear()

    def _clear(self) -> None:
        self.training, self.validation, self.rate = Series(), Series(), Series()
        self.metrics: dict[str, Series] = {}
        self.forked: RunForked | None = None
        self.adjusted: list[PlanAdjusted] = []
        self._provisional: EvaluationProgressed | CacheProgressed | None = None
        self._started: RunStarted | None = None
        self._test: EvaluationEnded | None = None
        self._best: dict[str, float] | None = None
        self._since_best = 0  # evaluations without a new best
        self._last_step = 0

    def note(self, event: Event) -> None:
        """Add an event to the curves."""
        match event:
            case StepEnded(step=step, loss=loss, learning_rate=rate):
                self.training.add(step, loss)
                self.rate.add(step, rate)
                self._last_step = step
            case EvaluationProgressed(split="validation"):
                self._provisional = event
            case CacheProgressed(split="validation", step=0, loss=float()):
                self._provisional = event
            case EvaluationEnded(split="validation"):
                self._evaluated(event)
            case EvaluationEnded(split="test"):
                self._test = event
            case PlanAdjusted():
                self.adjusted.append(event)
            case RunEnded() | RunFailed():
                self._is_over, self._provisional = True, None
            case _:
                self._begin(event)

    def _begin(self, event: Event) -> None:
        """Clear the curves for a new run; a resumed run continues its curves."""
        if isinstance(event, RunChosen) or (self._is_over and not isinstance(event, RunResumed)):
            self._clear()
        self._is_over = isinstance(event, RunChosen)
        if isinstance(event, RunStarted):
            self._started = event
        elif isinstance(event, RunForked):
            self.forked = event

    def picture(self) -> dict[str, Any]:
        """Return the downsampled curves with marks and words about them."""
        return {
            "steps": self._last_step if self._is_over or self._started is None else self._started.steps,
            "last_step": self._last_step,
            **self.lines(),
            "baseline": self._baseline().get("loss"),
            "baseline_name": self._started.baseline_name if self._started else "",
            "provisional": self._provisional_point(),
            "best": self._best,
            "marks": [{"step": mark.step, "words": _marked(mark)} for mark in self.adjusted if mark.after],
            "verdict": self.verdict(),
        }

    def lines(self) -> dict[str, Any]:
        """Return only the downsampled curves."""
        return {
            "training": self.training.picture(),
            "validation": self.validation.picture(),
            "metrics": [
                {
                    "name": name,
                    "title": METRICS.get(name, name.replace("_", " ")),
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
                    said.append(f"{METRICS.get(name, name.replace('_', ' '))} {value[1]:.4g}{_at_step(value[0], step)}")
        if (rate := self.rate.at(step)) is not None:
            said.append(f"learning rate {rate[1]:.3g}")
        return said

    def verdict(self) -> str:
        """Return a judgement of the run in words."""
        bad = self.training.first_bad
        if bad is not None:
            return f"the training loss is not a number since step {bad:,}: try a lower learning rate"
        if self._best is None:
            return ""
        best = f"best validation loss {self._best['loss']:.4g} at step {self._best['step']:,.0f}"
        if self._test is not None:
            return f"{best} · {_measured(self._test)}"
        if len(self.validation) == 1 and self._best["step"] == 0:
            return f"before training: validation loss {self._best['loss']:.4g}"
        if self._best["step"] == 0:
            return f"no better than before training · {best}"
        if self._is_over:
            return best
        if self._since_best == 0:
            return f"still improving · {best}"
        return f"no better for {wording.plural(self._since_best, 'evaluation')} · {best}"

    def _evaluated(self, event: EvaluationEnded) -> None:
        self._provisional = None
        loss = event.metrics.get("loss", math.nan)  # a log from another program may lack it
        self.validation.add(event.step, loss)
        extras = [name for name in event.metrics if name not in UNDRAWN][:EXTRAS]
        for name in [name for name in METRICS if name in event.metrics] + extras:
            self.metrics.setdefault(name, Series()).add(event.step, event.metrics[name])
        self._since_best = 0 if event.best else self._since_best + 1
        if event.best:
            self._best = {"step": event.step, "loss": loss}

    def _baseline(self) -> dict[str, float]:
        return dict(self._started.baseline) if self._started else {}

    def _provisional_point(self) -> dict[str, float] | None:
        point = self._provisional
        return {"step": point.step, "loss": point.loss} if point and point.loss is not None else None


def of_parent(forked: RunForked, session: "Session") -> Curves:
    """Return the curves of the run that this one was forked from, including those of earlier ancestors.

    Raises:
        WorkbenchError: Its folder no longer exists.
    """
    curves = Curves()
    for event in _events_with_ancestors(forked.parent, session):
        if isinstance(event, StepEnded | EvaluationEnded):
            curves.note(event)
    return curves


def _events_with_ancestors(name: str, session: "Session", *, generations: int = 20) -> list[Event]:
    """Return the events of a run, preceded by those of the runs that it was forked from."""
    from workbench.runs.disk import run_list

    if Path(name).name != name:  # a log from an unknown source must not name other folders
        raise RunError(f"{name!r} is not the name of a run")
    known = [run for run in session.runs if run.name == name]
    root = session.run.folder.parent if session.run is not None else "runs"
    events = list(known[0].events) if known else list(run_list.find(name, root).events())
    forked = next((event for event in events[:1] if isinstance(event, RunForked)), None)
    if forked is None or generations == 0:
        return events
    before = _events_with_ancestors(forked.parent, session, generations=generations - 1)
    return [event for event in before if getattr(event, "step", 0) <= forked.step] + events


def _marked(mark: PlanAdjusted) -> str:
    return f"from step {mark.step + 1:,}: {wording.change(mark.before, mark.after)}"


def _at_step(at: float, step: int) -> str:
    return "" if at == step else f" at step {at:,.0f}"


def _measured(event: EvaluationEnded) -> str:
    names = {"loss": "loss", **METRICS}
    parts = [f"{names[name].split(' (')[0]} {event.metrics[name]:.3g}" for name in names if name in event.metrics]
    return f"on {event.rows:,} {event.split} rows: {', '.join(parts)}"

"""CurvesPanel: training and validation loss as they happen, with perplexity or accuracy and F1 beneath.

Every number is one the run measured. Log scale and smoothing change the picture only: the raw line stays, faintly.
"""

from typing import TYPE_CHECKING, Any

import traitlets

from widgets.panel import Panel, page
from widgets.series import Series
from workbench.events import (
    EvaluationEnded,
    EvaluationProgressed,
    Event,
    RunEnded,
    RunFailed,
    RunStarted,
    StageStarted,
    StepEnded,
)

if TYPE_CHECKING:
    from workbench.session import Session

METRICS = {"perplexity": "perplexity", "accuracy": "accuracy", "macro_f1": "F1 (macro)"}


class CurvesPanel(Panel):
    """The curves of the session's latest run.

    Attributes:
        log_scale: Whether the loss is drawn on a logarithmic scale.
        smoothing: Share of the smoothed line that is kept from step to step, 0 (off) to 0.99.
    """

    _esm = page("chart.js", "curves.js")
    kinds = frozenset({StageStarted, RunStarted, StepEnded, EvaluationProgressed, EvaluationEnded, RunEnded, RunFailed})
    log_scale = traitlets.Bool(default_value=False).tag(sync=True)
    smoothing = traitlets.Float(default_value=0.0, min=0.0, max=0.99).tag(sync=True)

    _metrics: dict[str, Series]
    _provisional: EvaluationProgressed | None
    _started: RunStarted | None
    _test: EvaluationEnded | None
    _best: dict[str, float] | None

    def __init__(self, session: "Session") -> None:
        self._is_over = True  # the next run begins on an empty sheet
        self._clear()
        super().__init__(session)

    def note(self, event: Event) -> None:
        """Put an event on the curves."""
        match event:
            case StepEnded(step=step, loss=loss):
                self._training.add(step, loss)
                self._last_step = step
            case EvaluationProgressed(split="validation"):
                self._provisional = event
            case EvaluationEnded(split="validation"):
                self._evaluated(event)
            case EvaluationEnded(split="test"):
                self._test = event
            case StageStarted():
                self._begin()
            case RunStarted():
                self._begin()
                self._started = event
            case RunEnded() | RunFailed():
                self._is_over, self._provisional = True, None

    def picture(self) -> dict[str, Any]:
        """Return the downsampled curves and what is said about them."""
        return {
            "steps": self._last_step if self._is_over or self._started is None else self._started.steps,
            "last_step": self._last_step,
            "training": self._training.picture(),
            "validation": self._validation.picture(),
            "metrics": [
                {"name": name, "title": METRICS[name], **series.picture(), "baseline": self._baseline().get(name)}
                for name, series in self._metrics.items()
            ],
            "baseline": self._baseline().get("loss"),
            "baseline_name": self._started.baseline_name if self._started else "",
            "provisional": self._provisional_point(),
            "best": self._best,
            "verdict": self._verdict(),
        }

    def _clear(self) -> None:
        self._training, self._validation = Series(), Series()
        self._metrics = {}
        self._provisional = self._started = self._test = self._best = None
        self._since_best = 0  # evaluations without a new best
        self._last_step = 0

    def _begin(self) -> None:
        if self._is_over:
            self._clear()
            self._is_over = False

    def _evaluated(self, event: EvaluationEnded) -> None:
        self._provisional = None
        self._validation.add(event.step, event.metrics["loss"])
        for name in METRICS:
            if name in event.metrics:
                self._metrics.setdefault(name, Series()).add(event.step, event.metrics[name])
        self._since_best = 0 if event.best else self._since_best + 1
        if event.best:
            self._best = {"step": event.step, "loss": event.metrics["loss"]}

    def _baseline(self) -> dict[str, float]:
        return dict(self._started.baseline) if self._started else {}

    def _provisional_point(self) -> dict[str, float] | None:
        point = self._provisional
        return {"step": point.step, "loss": point.loss} if point else None

    def _verdict(self) -> str:
        bad = self._training.first_bad
        if bad is not None:
            return f"the training loss is no number since step {bad:,}: try a lower learning rate"
        if self._best is None:
            return ""
        best = f"best validation loss {self._best['loss']:.4g} at step {self._best['step']:,.0f}"
        if self._test is not None:
            return f"{best} · {_measured(self._test)}"
        if len(self._validation) == 1 and self._best["step"] == 0:
            return f"before training: validation loss {self._best['loss']:.4g}"
        if self._best["step"] == 0:
            return f"no better than before training · {best}"
        if self._is_over:
            return best
        if self._since_best == 0:
            return f"still improving · {best}"
        return f"no better for {self._since_best} {'evaluation' if self._since_best == 1 else 'evaluations'} · {best}"


def _measured(event: EvaluationEnded) -> str:
    names = {"loss": "loss", **METRICS}
    parts = [f"{names[name].split(' (')[0]} {event.metrics[name]:.3g}" for name in names if name in event.metrics]
    return f"on {event.rows:,} {event.split} rows: {', '.join(parts)}"

"""The metrics of a run as a table and as a static figure, from its events only."""

from collections.abc import Iterable
from typing import Any

import pandas as pd

from workbench.events import EvaluationEnded, Event, RunStarted, StepEnded

_TRAIN, _VALIDATION = {"color": "#0072B2", "linestyle": "-"}, {"color": "#D55E00", "linestyle": "--", "marker": "o"}


def history(events: Iterable[Event]) -> pd.DataFrame:
    """Return a table with one row per step or evaluation: step, split, loss (nats per target) and metrics."""
    rows: list[dict[str, Any]] = []
    for event in events:
        if isinstance(event, StepEnded):
            rows.append(
                {"step": event.step, "split": "train", "loss": event.loss, "learning_rate": event.learning_rate}
            )
        elif isinstance(event, EvaluationEnded):
            rows.append({"step": event.step, "split": event.split, **event.metrics})
    return pd.DataFrame(rows)


def plot(events: Iterable[Event]) -> Any:
    """Return a matplotlib Figure: the loss above, perplexity or accuracy and F1 below. Works in any thread."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # pyplot works in the main thread only
    from matplotlib.figure import Figure

    known = list(events)
    figure = Figure(figsize=(8, 5), layout="constrained")
    FigureCanvasAgg(figure)
    loss_axes, metric_axes = figure.subplots(2, 1, sharex=True, height_ratios=[3, 2])
    _draw_loss(loss_axes, known)
    _draw_metrics(metric_axes, [event for event in known if isinstance(event, EvaluationEnded)])
    return figure


def _draw_loss(axes: Any, events: list[Event]) -> None:
    steps = [event for event in events if isinstance(event, StepEnded)]
    evaluations = [event for event in events if isinstance(event, EvaluationEnded)]
    axes.plot([e.step for e in steps], [e.loss for e in steps], label="training", alpha=0.7, **_TRAIN)
    axes.plot(
        [e.step for e in evaluations], [e.metrics["loss"] for e in evaluations], label="validation", **_VALIDATION
    )
    for event in events:
        if isinstance(event, RunStarted):
            axes.axhline(event.baseline["loss"], color="#777777", linestyle=":", label=event.baseline_name)
    axes.set_ylabel("loss (lower is better)")
    if axes.get_legend_handles_labels()[0]:
        axes.legend(frameon=False)


def _draw_metrics(axes: Any, evaluations: list[EvaluationEnded]) -> None:
    names = [name for name in ("perplexity", "accuracy", "macro_f1") if evaluations and name in evaluations[0].metrics]
    for name, style in zip(names, ("-", "--"), strict=False):
        values = [event.metrics[name] for event in evaluations]
        axes.plot(
            [e.step for e in evaluations], values, style, marker="o", color="#D55E00", label=name.replace("_", " ")
        )
    axes.set_xlabel("step")
    if names:
        axes.legend(frameon=False)

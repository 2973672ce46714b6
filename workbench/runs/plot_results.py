"""Static figures of results. They work in any thread, because pyplot, which does not, is not used."""

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from workbench.runs.results import Results

_WITH_COUNTS = 15  # classes up to which the cells of the matrix have their counts


def plot_classes(results: "Results") -> Any:
    """Return a Figure with the confusion matrix, and the precision, recall and F1 of each class."""
    figure = _figure(width=10, height=max(4, 0.3 * len(results.labels)))
    matrix, bars = figure.subplots(1, 2, width_ratios=[1, 1])
    _draw_confusion(matrix, results)
    places = np.arange(len(results.labels))
    for number, (name, color) in enumerate((("precision", "#0072B2"), ("recall", "#D55E00"), ("f1", "#009E73"))):
        bars.barh(places + (number - 1) * 0.27, results.per_class[name], height=0.25, label=name, color=color)
    bars.set_yticks(places, results.labels)
    bars.set(xlim=(0, 1), xlabel="share")
    bars.invert_yaxis()
    bars.legend(frameon=False, loc="lower left")
    return figure


def plot_losses(results: "Results") -> Any:
    """Return a Figure with the loss per token of each row, the worst first."""
    figure = _figure(width=7, height=3.5)
    axes = figure.subplots()
    losses = results.rows["loss"].sort_values(ascending=False)
    axes.bar(np.arange(len(losses)), losses, width=1.0, color="#0072B2")
    axes.axhline(results.metrics["loss"], color="#D55E00", linestyle="--", label="all tokens")
    axes.set(xlabel=f"{results.split} rows, the worst first", ylabel="loss (nats per token)")
    axes.legend(frameon=False)
    return figure


def _draw_confusion(axes: Any, results: "Results") -> None:
    counts = results.confusion.to_numpy()
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)  # of the rows of the true class
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    places = np.arange(len(results.labels))
    axes.set_xticks(places, results.labels, rotation=45, ha="right")
    axes.set_yticks(places, results.labels)
    axes.set(xlabel="predicted", ylabel="true", title=f"{results.split} rows at step {results.step}")
    for (line, column), count in np.ndenumerate(counts) if len(places) <= _WITH_COUNTS else ():
        color = "white" if shares[line, column] > 0.6 else "black"
        axes.text(column, line, f"{count:,}", ha="center", va="center", color=color)


def _figure(*, width: float, height: float) -> Any:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure

"""Metrics beside those of the task: any `evaluate.Metric`, as an object, by our own name, or by its name on a hub.

A metric by name is a script that `evaluate` fetches and runs, so names are taken from code alone; a plan holds none,
and reading one from a stranger runs nothing. Left out: metrics of probabilities or of generated text, for a run hands
out class ids only.
"""

import math
import threading
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import evaluate

from workbench.errors import RunError
from workbench.tasks.metrics import METRICS, OWN

_ONE_AT_A_TIME = threading.Lock()  # a metric keeps what it is given until it has computed, and runs may share one


def resolve(metrics: Iterable[Any] | Any = ()) -> tuple[Any, ...]:
    """Return `evaluate.Metric` objects for metrics given as objects, classes, names or folders.

    Our own names ("accuracy", "macro_f1", "weighted_f1") and a folder with a metric's script need no network; any
    other name is looked up on the hub, where `evaluate` also keeps what it fetched before.

    Raises:
        RunError: Something that is no metric, or a name that can't be loaded.
    """
    several = isinstance(metrics, Iterable) and not isinstance(metrics, (str, evaluate.CombinedEvaluations))
    return tuple(metric for given in (metrics if several else [metrics]) for metric in _metrics(given))


def added(
    counted: Mapping[str, float], metrics: Sequence[Any], predictions: Sequence[int], references: Sequence[int]
) -> dict[str, float]:
    """Return what the task counted, and the numbers that these metrics make of class ids, each under its own name.

    What the task counts stays as it is; a metric whose value has a name that is taken gets its own name in front. A
    number that is not finite is left out: the metric is not defined for these rows. So is a value that is no number,
    as long as the metric gives another that is one.

    Raises:
        RunError: A metric fails on class ids, or gives no number at all.
    """
    found = dict(counted)
    for metric in metrics if len(references) else ():
        if type(metric) not in METRICS:  # those are counted anyway
            for name, value in _computed(metric, predictions, references).items():
                found[name if name not in found else f"{metric.name}_{name}"] = value
    return {name: value for name, value in found.items() if name in counted or math.isfinite(value)}


def _metrics(given: Any) -> Sequence[Any]:
    if isinstance(given, evaluate.CombinedEvaluations):
        return [metric for module in given.evaluation_modules for metric in _metrics(module)]
    if isinstance(given, type) and issubclass(given, evaluate.Metric):
        return [given()]
    if isinstance(given, evaluate.Metric):
        return [given]
    if isinstance(given, (str, Path)):
        return [OWN[given]() if given in OWN else _loaded(str(given))]
    raise RunError(f"{given!r} is no metric; expected an evaluate.Metric object or a name", hint=_OFFLINE)


_OFFLINE = (
    f"without a network: {', '.join(map(repr, OWN))}, a folder `name` that holds the metric's `name.py`, or an object "
    "of your own subclass of evaluate.Metric"
)


def _loaded(name: str) -> Any:
    try:
        metric = evaluate.load(name, keep_in_memory=True)
    except Exception as error:  # a hub, a network and a stranger's script raise what they like
        reason = str(error).strip().partition("\n")[0].rstrip(".") or type(error).__name__
        raise RunError(
            f"the metric {name!r} can't be loaded: {reason}. It is none of ours, so a hub must be asked for it",
            hint=_OFFLINE,
        ) from error
    if not isinstance(metric, evaluate.Metric):
        raise RunError(f"{name!r} is a {metric.module_type}; expected a metric", hint=_OFFLINE)
    return metric


def _computed(metric: Any, predictions: Sequence[int], references: Sequence[int]) -> dict[str, float]:
    try:
        with _ONE_AT_A_TIME:
            result = metric.compute(predictions=list(predictions), references=list(references))
    except Exception as error:  # whatever a metric raises on class ids that it was not made for
        raise RunError(
            f"the metric {metric.name!r} can't be computed from class ids: {error}",
            hint="a subclass of evaluate.Metric that takes predictions and references, and sets what else it needs",
        ) from error
    numbers = {name: number for name, value in (result or {}).items() if (number := _number(value)) is not None}
    if not numbers:
        what = f"the metric {metric.name!r} gave {str(result)[:120]}; expected a number under a name"
        raise RunError(what, hint="one average over the classes instead of a value for each")
    return numbers


def _number(value: Any) -> float | None:
    """Return a single number as a float, NumPy's and torch's included; None for anything else."""
    try:
        return float(value) if getattr(value, "ndim", 0) == 0 and not isinstance(value, str) else None
    except (TypeError, ValueError):
        return None

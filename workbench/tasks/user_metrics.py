"""Metrics that a user adds to those of the task: any `evaluate.Metric`, given as an object or by its name.

A metric that is given by name is a script that `evaluate` downloads and runs. So names are accepted from code only: a
plan holds no metrics, and reading a plan from an unknown source never runs a script.

Left out: metrics of probabilities or of generated text, because a run provides class ids only.
"""

import math
import threading
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import evaluate

from workbench.errors import QUESTION, RunError, nearest
from workbench.network import is_unreachable
from workbench.tasks.metrics import METRICS, OWN

_ONE_AT_A_TIME = threading.Lock()  # a metric object stores its inputs while it computes, and runs may share it


def resolve(metrics: Iterable[Any] | Any = ()) -> tuple[Any, ...]:
    """Return `evaluate.Metric` objects for metrics given as objects, classes, names or folders.

    The built-in names ("accuracy", "macro_f1", "weighted_f1") and a folder with a metric's script need no network. Any
    other name is loaded from the hub, or from the cache of `evaluate` if it was downloaded before.

    Raises:
        RunError: A given object is not a metric, or a name can't be loaded.
    """
    several = isinstance(metrics, Iterable) and not isinstance(metrics, (str, evaluate.CombinedEvaluations))
    return tuple(metric for given in (metrics if several else [metrics]) for metric in _metrics(given))


def added(
    counted: Mapping[str, float], metrics: Sequence[Any], predictions: Sequence[int], references: Sequence[int]
) -> dict[str, float]:
    """Return the task's values and those that these metrics compute from class ids, by name.

    The values of the task are not changed. If a metric returns a value under a name that is already used, the name of
    the metric is put in front. Values that are not finite are dropped, because the metric is undefined for these rows.
    Values that are not numbers are dropped too, if the metric also returns a number.

    Raises:
        RunError: A metric fails on class ids, or returns no number.
    """
    found = dict(counted)
    for metric in metrics if len(references) else ():
        if type(metric) not in METRICS:  # the task computes those already
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
    raise RunError(f"{given!r} is not a metric; expected an evaluate.Metric object or a name", hint=_OFFLINE)


_OFFLINE = (
    f"these need no network: {', '.join(map(repr, OWN))}, a folder `name` with the metric's script `name.py`, or an "
    "object of your own subclass of evaluate.Metric"
)


def _known(name: str) -> str:
    meant = nearest(name, OWN)
    return meant if meant.startswith(QUESTION) else _OFFLINE


def _loaded(name: str) -> Any:
    try:
        metric = evaluate.load(name, keep_in_memory=True)
    except Exception as error:  # the hub, the network or the script may raise anything
        if not name or isinstance(error, FileNotFoundError) or is_unreachable(error):  # `evaluate` hides the last
            what = f"no metric {name!r}: it is neither built in nor on this machine, and the hub can't be reached"
            raise RunError(f"{what} or does not have it", hint=_known(name)) from error
        reason = str(error).strip().partition("\n")[0].rstrip(".") or type(error).__name__
        raise RunError(f"the metric {name!r} can't be loaded: {reason}", hint=_OFFLINE) from error
    if not isinstance(metric, evaluate.Metric):
        raise RunError(f"{name!r} is a {metric.module_type}; expected a metric", hint=_OFFLINE)
    return metric


def _computed(metric: Any, predictions: Sequence[int], references: Sequence[int]) -> dict[str, float]:
    try:
        with _ONE_AT_A_TIME:
            result = metric.compute(predictions=list(predictions), references=list(references))
    except Exception as error:  # a metric may raise anything if it was not made for class ids
        raise RunError(
            f"the metric {metric.name!r} can't be computed from class ids: {error}",
            hint="a subclass of evaluate.Metric that takes predictions and references and sets the rest itself",
        ) from error
    numbers = {name: number for name, value in (result or {}).items() if (number := _number(value)) is not None}
    if not numbers:
        what = f"the metric {metric.name!r} returned {str(result)[:120]}; expected a number under a name"
        raise RunError(what, hint="return one average over the classes instead of a value for each class")
    return numbers


def _number(value: Any) -> float | None:
    """Return a single number (also of NumPy or torch) as a float; None for anything else."""
    try:
        return float(value) if getattr(value, "ndim", 0) == 0 and not isinstance(value, str) else None
    except (TypeError, ValueError):
        return None

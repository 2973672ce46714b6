"""Accuracy, F1 and perplexity, as `evaluate.Metric` classes that need no network.

`evaluate.load("accuracy")` downloads code from a hub. The classes here have the same definitions and need no network,
so `evaluate.combine([Accuracy(), MacroF1()])` works offline. F1 is computed by scikit-learn. Metrics that a user adds
are in user_metrics.py.
"""

import math
from collections.abc import Sequence
from typing import Any

import datasets
import evaluate
from sklearn.metrics import f1_score


def perplexity(loss: float) -> float:
    """Return exp(loss), for a loss in nats per target: the effective number of choices per token.

    The result is infinite where the exponential overflows (a loss above 709.7 nats).
    """
    try:
        return math.exp(loss)
    except OverflowError:
        return math.inf


class ClassificationMetric(evaluate.Metric):  # type: ignore[misc]
    """Base class of the metrics that compare predicted with true class ids."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"keep_in_memory": True, **options})  # without cache files, two runs can't conflict

    def _info(self) -> evaluate.MetricInfo:
        ids = datasets.Features({"predictions": datasets.Value("int64"), "references": datasets.Value("int64")})
        return evaluate.MetricInfo(
            description=self.__doc__ or "", citation="", inputs_description="class ids", features=ids
        )


class Accuracy(ClassificationMetric):
    """Share of rows whose class was predicted correctly."""

    def _compute(self, predictions: Sequence[int], references: Sequence[int]) -> dict[str, float]:
        correct = sum(p == r for p, r in zip(predictions, references, strict=True))
        return {"accuracy": correct / len(references)}


class MacroF1(ClassificationMetric):
    """Mean of the F1 of each class that occurs; every class has the same weight."""

    def _compute(self, predictions: Sequence[int], references: Sequence[int]) -> dict[str, float]:
        return {"macro_f1": float(f1_score(references, predictions, average="macro", zero_division=0))}


class WeightedF1(ClassificationMetric):
    """Mean of the F1 of each class, weighted by the number of rows of that class."""

    def _compute(self, predictions: Sequence[int], references: Sequence[int]) -> dict[str, float]:
        return {"weighted_f1": float(f1_score(references, predictions, average="weighted", zero_division=0))}


OWN: dict[str, type[ClassificationMetric]] = {"accuracy": Accuracy, "macro_f1": MacroF1, "weighted_f1": WeightedF1}
METRICS: tuple[type[ClassificationMetric], ...] = tuple(OWN.values())
_INSTANCES = [metric() for metric in METRICS]


def classification_metrics(predictions: Sequence[int], references: Sequence[int]) -> dict[str, float]:
    """Return accuracy, macro F1 and weighted F1 of class ids; NaN if there are no rows."""
    if not len(references):
        return dict.fromkeys(OWN, math.nan)
    # call the definitions directly: the bookkeeping of `evaluate.Metric.compute` costs more time than they do
    return {name: value for metric in _INSTANCES for name, value in metric._compute(predictions, references).items()}

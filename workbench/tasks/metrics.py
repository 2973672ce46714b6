"""Accuracy, F1 and perplexity, as `evaluate.Metric` classes that need no network.

`evaluate.load("accuracy")` fetches code from a hub; these are the same definitions as plain subclasses, so that
`evaluate.combine([Accuracy(), MacroF1()])` works in a room without a network. F1 is scikit-learn's. Metrics that a user
brings are in extra.py.
"""

import math
from collections.abc import Sequence
from typing import Any

import datasets
import evaluate
from sklearn.metrics import f1_score


def perplexity(loss: float) -> float:
    """Return exp(loss): the effective number of choices per token, for a loss in nats per counted target.

    Infinite where the exponential overflows (loss above 709.7 nats).
    """
    try:
        return math.exp(loss)
    except OverflowError:
        return math.inf


class ClassificationMetric(evaluate.Metric):  # type: ignore[misc]
    """Base of the metrics that compare predicted with true class ids."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"keep_in_memory": True, **options})  # no cache files, so runs can't collide

    def _info(self) -> evaluate.MetricInfo:
        ids = datasets.Features({"predictions": datasets.Value("int64"), "references": datasets.Value("int64")})
        return evaluate.MetricInfo(
            description=self.__doc__ or "", citation="", inputs_description="class ids", features=ids
        )


class Accuracy(ClassificationMetric):
    """Share of rows whose class was named rightly."""

    def _compute(self, predictions: Sequence[int], references: Sequence[int]) -> dict[str, float]:
        right = sum(p == r for p, r in zip(predictions, references, strict=True))
        return {"accuracy": right / len(references)}


class MacroF1(ClassificationMetric):
    """Mean of the F1 of each class that occurs, every class counting the same."""

    def _compute(self, predictions: Sequence[int], references: Sequence[int]) -> dict[str, float]:
        return {"macro_f1": float(f1_score(references, predictions, average="macro", zero_division=0))}


class WeightedF1(ClassificationMetric):
    """Mean of the F1 of each class, weighted by how often the class truly occurs."""

    def _compute(self, predictions: Sequence[int], references: Sequence[int]) -> dict[str, float]:
        return {"weighted_f1": float(f1_score(references, predictions, average="weighted", zero_division=0))}


OWN: dict[str, type[ClassificationMetric]] = {"accuracy": Accuracy, "macro_f1": MacroF1, "weighted_f1": WeightedF1}
METRICS: tuple[type[ClassificationMetric], ...] = tuple(OWN.values())
_READY = [metric() for metric in METRICS]


def classification_metrics(predictions: Sequence[int], references: Sequence[int]) -> dict[str, float]:
    """Return accuracy, macro and weighted F1 of class ids; not a number where there are none."""
    if not len(references):
        return dict.fromkeys(OWN, math.nan)
    # straight to the definitions: evaluate's bookkeeping around them costs more than they do, at every evaluation
    return {name: value for metric in _READY for name, value in metric._compute(predictions, references).items()}

import math

import evaluate
import numpy as np
import pytest
from sklearn.metrics import accuracy_score, f1_score

from workbench.tasks.metrics import METRICS, classification_metrics, perplexity


@pytest.mark.parametrize("classes", [2, 3, 7])
def test_metrics_are_those_of_scikit_learn(classes):
    draw = np.random.default_rng(classes)
    references, predictions = (draw.integers(0, classes, 50).tolist() for _ in range(2))
    found = classification_metrics(predictions, references)
    assert found["accuracy"] == accuracy_score(references, predictions)
    assert found["macro_f1"] == pytest.approx(f1_score(references, predictions, average="macro"))
    assert found["weighted_f1"] == pytest.approx(f1_score(references, predictions, average="weighted"))


def test_macro_f1_of_naming_one_class_always():
    found = classification_metrics([0, 0, 0, 0], [0, 0, 0, 1])
    assert found["accuracy"] == 0.75
    assert found["macro_f1"] == pytest.approx((2 * 0.75 / 1.75 + 0) / 2)  # F1 of class 0: precision 3/4, recall 1


def test_they_combine_with_each_other_as_evaluate_metrics_do():
    joined = evaluate.combine([metric() for metric in METRICS])
    assert set(joined.compute(predictions=[0, 1], references=[0, 1])) == {"accuracy", "macro_f1", "weighted_f1"}


def test_perplexity_of_a_fair_coin_is_two_and_never_overflows():
    assert perplexity(math.log(2)) == pytest.approx(2)
    assert perplexity(1e4) == math.inf

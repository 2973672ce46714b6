import math
import sys

import datasets
import evaluate
import numpy as np
import pytest
import torch
from sklearn.metrics import matthews_corrcoef

from workbench.errors import RunError
from workbench.tasks.metrics import METRICS, Accuracy, classification_metrics
from workbench.tasks.user_metrics import added, resolve

PREDICTIONS, REFERENCES = [0, 1, 1, 2, 0], [0, 1, 2, 2, 1]
SCRIPT = """
import datasets
import evaluate
from sklearn.metrics import matthews_corrcoef

class AgreementOfFolder(evaluate.Metric):
    def _info(self):
        ids = datasets.Features({"predictions": datasets.Value("int64"), "references": datasets.Value("int64")})
        return evaluate.MetricInfo(description="", citation="", features=ids)

    def _compute(self, predictions, references):
        return {"matthews": float(matthews_corrcoef(references, predictions))}
"""


class Fixed(evaluate.Metric):
    """Gives what it was made with, whatever the classes."""

    def __init__(self, result=None, kind="int64", **options):
        self.result, self.kind = result, kind
        super().__init__(keep_in_memory=True, **options)

    def _info(self):
        ids = datasets.Features({"predictions": datasets.Value(self.kind), "references": datasets.Value(self.kind)})
        return evaluate.MetricInfo(description="", citation="", features=ids)

    def _compute(self, predictions, references):
        if isinstance(self.result, Exception):
            raise self.result
        return self.result


class Other(Fixed):
    """The same under another name."""


@pytest.fixture(autouse=True)
def no_network(monkeypatch, tmp_path):
    monkeypatch.setattr(evaluate.config, "HF_EVALUATE_OFFLINE", True)
    monkeypatch.setattr(evaluate.config, "HF_MODULES_CACHE", tmp_path / "modules")  # where scripts are copied to ...
    monkeypatch.setattr(sys, "path", [*sys.path])  # ... and imported from
    yield
    for name in [name for name in sys.modules if name.partition(".")[0] == "evaluate_modules"]:
        del sys.modules[name]


def test_our_own_names_need_no_network():
    found = resolve(["accuracy", "macro_f1", "weighted_f1"])
    assert [type(metric) for metric in found] == list(METRICS)
    for metric, (name, value) in zip(found, classification_metrics(PREDICTIONS, REFERENCES).items(), strict=True):
        assert metric.compute(predictions=PREDICTIONS, references=REFERENCES) == {name: value}


def test_objects_classes_and_what_combine_joined_are_taken():
    one, joined = Fixed({"x": 1}), evaluate.combine([metric() for metric in METRICS])
    found = resolve([one, Accuracy, joined])
    assert found[0] is one
    assert [type(metric) for metric in found[1:]] == [Accuracy, *METRICS]
    assert resolve(joined) == found[2:]
    assert resolve() == ()
    assert resolve(one) == (one,)
    assert type(resolve("accuracy")[0]) is Accuracy


def test_a_folder_with_a_script_needs_no_network(tmp_path):
    (tmp_path / "agreement").mkdir()
    (tmp_path / "agreement" / "agreement.py").write_text(SCRIPT)
    for given in (tmp_path / "agreement", str(tmp_path / "agreement")):
        metrics = resolve([given])
        expected = matthews_corrcoef(REFERENCES, PREDICTIONS)
        assert added({}, metrics, PREDICTIONS, REFERENCES) == {"matthews": pytest.approx(expected)}


def test_a_hub_metric_is_asked_for_by_its_name(monkeypatch):
    asked = []
    monkeypatch.setattr(evaluate, "load", lambda name, **options: asked.append((name, options)) or Fixed())
    assert type(resolve(["matthews_correlation"])[0]) is Fixed
    assert asked == [("matthews_correlation", {"keep_in_memory": True})]


def test_a_name_that_no_hub_can_be_asked_for_says_what_works_offline(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("matthews_correlation", "someone/metric", "", "../x"):
        with pytest.raises(RunError, match=f"no metric '{name}': .*and the hub can't be reached") as failure:
            resolve([name])
        for word in ("'accuracy'", "'weighted_f1'", "folder", "evaluate.Metric"):
            assert word in failure.value.hint


def test_a_slip_of_the_pen_gets_the_nearest_metric(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RunError, match="Did you mean 'accuracy'"):
        resolve(["acuracy"])


def test_what_is_no_metric_is_refused():
    for given in (3, [3], [None], [len], [torch.nn.Linear], ["accuracy", 0.5]):
        with pytest.raises(RunError, match=r"is not a metric; expected an evaluate\.Metric object or a name"):
            resolve(given)


def test_a_comparison_is_no_metric(monkeypatch):
    class Comparison(evaluate.Comparison):
        def _info(self):
            ids = {"predictions1": datasets.Value("int64"), "predictions2": datasets.Value("int64")}
            return evaluate.ComparisonInfo(description="", citation="", features=datasets.Features(ids))

    monkeypatch.setattr(evaluate, "load", lambda name, **options: Comparison())
    with pytest.raises(RunError, match="'mcnemar' is a comparison; expected a metric"):
        resolve(["mcnemar"])


def test_single_numbers_are_taken_and_nothing_else():
    result = {
        "int": 1,
        "float": 0.5,
        "numpy": np.float32(0.25),
        "torch": torch.tensor(2.0),
        "array": np.array(3.0),
        "many": [1.0, 2.0],
        "matrix": np.eye(2),
        "one of many": np.array([1.0]),
        "text": "12",
        "nothing": None,
        "nan": math.nan,
        "infinite": math.inf,
    }
    found = added({"loss": 0.1}, [Fixed(result)], PREDICTIONS, REFERENCES)
    assert found == {"loss": 0.1, "int": 1.0, "float": 0.5, "numpy": 0.25, "torch": 2.0, "array": 3.0}
    assert {type(value) for value in found.values()} == {float}


@pytest.mark.parametrize("result", [None, {}, {"each": [0.5, 0.5]}, {"text": "good"}])
def test_a_metric_without_a_number_is_refused(result):
    with pytest.raises(RunError, match=r"the metric 'fixed' returned .*; expected a number under a name"):
        added({}, [Fixed(result)], PREDICTIONS, REFERENCES)


@pytest.mark.parametrize("broken", [Fixed(ValueError("binary only")), Fixed({"x": 1}, kind="string")])
def test_a_metric_that_fails_on_class_ids_says_so(broken):
    with pytest.raises(RunError, match="the metric 'fixed' can't be computed from class ids: "):
        added({}, [broken], PREDICTIONS, REFERENCES)


def test_a_name_that_is_taken_gets_the_metrics_own_in_front():
    metrics = [Fixed({"loss": 9.0, "x": 1.0}), Other({"x": 2.0}), *resolve(["accuracy"])]
    found = added({"loss": 0.1, "accuracy": 0.6}, metrics, PREDICTIONS, REFERENCES)
    assert found == {"loss": 0.1, "accuracy": 0.6, "fixed_loss": 9.0, "x": 1.0, "other_x": 2.0}


def test_without_a_single_target_no_metric_is_asked():
    counted = {"loss": math.nan}
    assert added(counted, [Fixed(ValueError("empty"))], [], []).keys() == counted.keys()
    assert all(math.isnan(value) for value in classification_metrics([], []).values())

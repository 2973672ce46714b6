import math

import datasets
import pytest
from evaluate import Metric, MetricInfo
from tiny_learner import PLAN, make

from workbench.errors import LossError, PlanError
from workbench.events import EvaluationEnded, RunEnded
from workbench.tasks.text_classification import TextClassification
from workbench.training import engine
from workbench.training.progress import Goal

# mode, patience, min_delta, values, the index at which it stops, and that of the best value: as EarlyStopping of
# Keras 3 and of Lightning 2 stopped on these very values (both stop at the same index).
TRACES = [
    ("min", 1, 0.0, [1.03, 0.99, 1.05, 0.96, 0.87, 0.78, 0.81, 0.72, 0.68, 0.59, 0.5, 0.56, 0.62, 0.53], 2, 1),
    ("min", 2, 0.0, [0.96, 0.87, 0.93, 0.84, 0.75, 0.71, 0.62, 0.68, 0.59, 0.55, 0.46, 0.42, 0.45, 0.51], 13, 11),
    ("min", 3, 0.0, [0.96, 0.87, 0.9, 0.86, 0.77, 0.73, 0.76, 0.67, 0.58, 0.49, 0.45, 0.51, 0.57, 0.6], 13, 10),
    ("min", 2, 0.05, [1.06, 1.12, 1.15, 1.18, 1.14, 1.1, 1.06, 0.97, 1.0, 1.06, 1.09, 1.15, 1.18, 1.09], 2, 0),
    ("min", 3, 0.1, [0.91, 0.97, 0.93, 0.96, 0.92, 0.98, 1.04, 0.95, 0.86, 0.89, 0.92, 0.95, 1.01, 1.07], 3, 0),
    ("min", 0, 0.0, [0.91, 0.82, 0.85, 0.91, 0.82, 0.73, 0.76, 0.82, 0.85, 0.91, 0.94, 0.85, 0.91, 0.94], 2, 1),
    ("max", 1, 0.0, [1.04, 1.13, 1.07, 1.16, 1.2, 1.17, 1.21, 1.25, 1.19, 1.13, 1.07, 1.16, 1.2, 1.14], 2, 1),
    ("max", 2, 0.0, [0.94, 0.91, 0.95, 0.89, 0.86, 0.8, 0.77, 0.71, 0.75, 0.79, 0.88, 0.92, 0.96, 1.0], 4, 2),
    ("max", 3, 0.0, [1.04, 1.13, 1.07, 1.11, 1.08, 1.05, 1.14, 1.18, 1.12, 1.09, 1.06, 1.1, 1.19, 1.13], 4, 1),
    ("max", 2, 0.05, [0.94, 0.88, 0.82, 0.76, 0.85, 0.79, 0.73, 0.82, 0.86, 0.95, 0.99, 0.93, 0.97, 1.06], 2, 0),
    ("max", 3, 0.1, [0.97, 1.06, 1.15, 1.24, 1.28, 1.37, 1.34, 1.43, 1.52, 1.56, 1.5, 1.54, 1.51, 1.48], 12, 9),
    ("max", 0, 0.0, [0.97, 0.91, 1.0, 1.09, 1.03, 0.97, 0.91, 0.85, 0.82, 0.91, 0.95, 1.04, 1.01, 0.98], 1, 0),
]


class Scripted(Metric):
    """A metric whose values are known in advance."""

    values = ()

    def _info(self):
        ids = datasets.Features({"predictions": datasets.Value("int64"), "references": datasets.Value("int64")})
        return MetricInfo(description="", citation="", features=ids)

    def _compute(self, predictions, references):
        return {"scripted": next(self.script)}


def run_of(values, **changes):
    """Train with one evaluation a step that gives these values; return the events."""
    made = make("bert", PLAN.change(evaluate_every=1, max_steps=len(values) - 1, epochs=99, **changes))
    metric = Scripted()
    metric.script = iter(values)
    made.metrics = (metric,)
    return list(engine.train(made))


@pytest.mark.parametrize(("mode", "patience", "min_delta", "values", "stop", "best"), TRACES)
def test_it_stops_where_keras_and_lightning_stop(mode, patience, min_delta, values, stop, best):
    events = run_of(values, stop_metric="scripted", stop_mode=mode, stop_patience=patience, stop_min_delta=min_delta)
    ended = events[-1]
    assert (ended.step, ended.best_step) == (stop, best)
    assert ended.reason.startswith("stopped early: the validation scripted has not improved")
    assert ended.reason.endswith(f"since step {best}")
    assert [event.step for event in events if isinstance(event, EvaluationEnded) and event.best][-1] == best


def test_a_value_that_is_not_finite_stops_at_once_and_says_so():
    ended = run_of([1.0, 0.9, math.nan, 0.8], stop_metric="scripted", stop_mode="min", stop_patience=3)[-1]
    assert (ended.step, ended.best_step) == (2, 1)  # as Lightning stops
    assert "nan, which is not finite" in ended.reason


def test_a_loss_that_is_not_finite_ends_the_run_with_its_best_step_kept(monkeypatch):
    counted = TextClassification.metrics

    def evaluated(**changes):
        made = make("bert", PLAN.change(evaluate_every=2, **changes))
        made.tactics[0].check = lambda *_: None  # it asks for the names of the metrics
        losses = iter([1.0, 1.0, math.nan])  # the first one is that of the trivial baseline
        monkeypatch.setattr(TextClassification, "metrics", lambda *given: counted(*given) | {"loss": next(losses)})
        return engine.train(made)

    *_, ended = evaluated(stop_patience=5)
    assert isinstance(ended, RunEnded)
    assert ended.reason == "stopped early: the validation loss is nan, which is not finite"
    assert ended.best_step == 0
    with pytest.raises(LossError):
        list(evaluated())


def test_it_is_off_by_default():
    assert run_of([1.0 + step for step in range(9)])[-1].reason == "completed"


@pytest.mark.parametrize(
    ("metric", "mode"),
    [("loss", "min"), ("perplexity", "min"), ("accuracy", "max"), ("macro_f1", "max"), ("weighted_f1", "max")],
)
def test_the_metric_tells_whether_low_or_high_is_good(metric, mode):
    assert Goal.of(PLAN.change(stop_metric=metric).monitoring).mode == mode


def test_the_best_step_is_that_of_the_metric():
    events = list(engine.train(make("bert", PLAN.change(stop_metric="accuracy", learning_rate=0.01, max_steps=8))))
    measured = {event.step: event.metrics["accuracy"] for event in events if isinstance(event, EvaluationEnded)}
    assert events[-1].best_step == max(measured, key=measured.get)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"stop_metric": "acuracy"}, ["acuracy", "expected one of loss, accuracy, macro_f1", "accuracy"]),
        ({"stop_metric": "perplexity"}, ["perplexity", "loss, accuracy"]),
    ],
)
def test_a_metric_that_is_not_there_is_refused_before_the_first_step(changes, words):
    with pytest.raises(PlanError) as caught:
        list(engine.train(make("bert", PLAN.change(stop_patience=2, **changes))))
    assert all(word in str(caught.value) for word in words)


def test_a_name_that_does_not_tell_whether_low_or_high_is_good_asks_for_the_mode():
    with pytest.raises(PlanError, match="stop_mode='min' or 'max'"):
        run_of([1.0, 2.0], stop_metric="scripted", stop_patience=1)


def test_a_name_that_no_given_metric_has_is_refused_after_the_first_evaluation():
    with pytest.raises(PlanError, match=r"expected one of .*scripted"):
        run_of([1.0, 2.0], stop_metric="scripted_f1", stop_patience=1)

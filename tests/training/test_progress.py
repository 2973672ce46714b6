import math

import pytest

from workbench.errors import PlanError
from workbench.plan.plan import Plan
from workbench.training.progress import Goal, Progress


@pytest.mark.parametrize(
    ("mode", "min_delta", "value", "best", "is_better"),
    [
        ("min", 0.0, 0.4, 0.5, True),
        ("min", 0.0, 0.5, 0.5, False),
        ("min", 0.2, 0.4, 0.5, False),
        ("min", 0.2, 0.25, 0.5, True),
        ("max", 0.0, 0.6, 0.5, True),
        ("max", 0.1, 0.55, 0.5, False),
        ("min", 0.0, math.nan, 0.5, False),
        ("max", 0.0, math.nan, None, False),
        ("max", 0.0, 0.1, None, True),
        ("min", 9.0, 0.1, None, True),
    ],
)
def test_a_value_must_beat_the_best_one_by_more_than_the_least_difference(mode, min_delta, value, best, is_better):
    assert Goal("loss", mode, min_delta).is_better(value, best) is is_better


def test_the_plan_can_say_the_mode_of_a_name_that_does_not_tell():
    with pytest.raises(PlanError, match="'min' or 'max'"):
        Goal.of(Plan().change(stop_metric="goodness").monitoring)
    assert Goal.of(Plan().change(stop_metric="goodness", stop_mode="max").monitoring).mode == "max"


def test_the_best_evaluation_is_kept():
    progress = Progress()
    for step, loss in ((0, 0.9), (4, 0.5), (8, 0.7)):
        progress.step = step
        progress.note_evaluation({"loss": loss}, Goal())
    assert (progress.best_step, progress.best_loss, progress.evaluated_step) == (4, 0.5, 8)


def test_another_metric_begins_anew():
    progress = Progress(step=4)
    progress.note_evaluation({"loss": 0.1, "accuracy": 0.9}, Goal())
    progress.step = 8
    assert progress.note_evaluation({"loss": 0.2, "accuracy": 0.8}, Goal("accuracy", "max"))
    assert (progress.best_step, progress.best_loss, progress.best_value) == (8, 0.2, 0.8)

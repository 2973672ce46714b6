import math

import fakes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from widgets import CurvesPanel
from widgets.series import Series
from workbench.events import EvaluationProgressed, RunStarted, StageStarted, StepEnded


def floats(data):
    return np.frombuffer(data, "<f4")


def shown(panel, *events):
    for event in events:
        panel.show(event)
    panel.refresh()
    return panel.state


def test_a_log_replays_into_curves(opened):
    log = fakes.log(60)
    state = shown(opened(CurvesPanel), *log)
    steps = [event for event in log if isinstance(event, StepEnded)]
    np.testing.assert_allclose(floats(state["training"]["x"]), [event.step for event in steps])
    np.testing.assert_allclose(floats(state["training"]["y"]), [event.loss for event in steps], rtol=1e-6)
    np.testing.assert_allclose(floats(state["validation"]["x"]), [0, 10, 20, 30, 40, 50, 60])
    assert [metric["name"] for metric in state["metrics"]] == ["accuracy", "macro_f1"]
    assert [metric["baseline"] for metric in state["metrics"]] == [0.52, 0.34]
    assert state["baseline"] == 0.69
    assert state["steps"] == state["last_step"] == 60
    assert state["verdict"].startswith("best validation loss ")


def test_a_language_model_has_perplexity(opened):
    state = shown(opened(CurvesPanel), *fakes.log(60, task="language-modeling"))
    (metric,) = state["metrics"]
    assert metric["name"] == "perplexity"
    np.testing.assert_allclose(floats(metric["y"]), np.exp(floats(state["validation"]["y"])), rtol=1e-5)


def test_a_log_shown_twice_is_seen_once(opened):
    log = fakes.log(30)[:-1]
    once, twice = opened(CurvesPanel), opened(CurvesPanel)
    assert shown(once, *log)["training"] == shown(twice, *log, *log)["training"]


def test_the_next_run_begins_on_an_empty_sheet(opened):
    panel = opened(CurvesPanel)
    shown(panel, *fakes.log(60))
    state = shown(panel, StageStarted(stage="reading the data"))
    assert floats(state["training"]["x"]).size == 0
    assert state["best"] is None
    assert state["verdict"] == ""


def test_the_axis_is_as_long_as_the_run_from_its_start(opened):
    log = fakes.log(60)
    state = shown(opened(CurvesPanel), *log[:10])
    assert isinstance(log[2], RunStarted)
    assert state["steps"] == 60
    assert state["last_step"] < 60


def test_an_evaluation_under_way_is_a_provisional_point_until_it_ends(opened):
    panel = opened(CurvesPanel)
    log = fakes.log(20)
    place = next(i for i, event in enumerate(log) if isinstance(event, EvaluationProgressed))
    state = shown(panel, *log[: place + 1])
    assert state["provisional"] == {"step": 10, "loss": log[place].loss}
    assert shown(panel, log[place + 1])["provisional"] is None


def test_the_verdict_is_told_in_words(opened):
    panel = opened(CurvesPanel)
    start = fakes.log(60)[2]
    assert shown(panel, start, fakes.evaluation(0, 0.7, best=True))["verdict"] == "before training: validation loss 0.7"
    assert shown(panel, fakes.evaluation(10, 0.75))["verdict"].startswith("no better than before training")
    improving = shown(panel, fakes.evaluation(20, 0.6, best=True))["verdict"]
    assert improving == "still improving · best validation loss 0.6 at step 20"
    assert shown(panel, fakes.evaluation(30, 0.65))["verdict"].startswith("no better for 1 evaluation · best")
    assert shown(panel, fakes.evaluation(40, 0.65))["verdict"].startswith("no better for 2 evaluations · best")
    assert shown(panel, fakes.evaluation(40, 0.5, split="test"))["verdict"].endswith(
        "on 400 test rows: loss 0.5, accuracy 0.75, F1 0.73"
    )


def test_a_loss_that_is_no_number_is_told_and_not_drawn(opened):
    panel = opened(CurvesPanel)
    log = fakes.log(20)
    bad = StepEnded(
        step=3, epoch=0.1, loss=math.nan, targets=1, rows=1, learning_rate=1.0, gradient_norm=1.0, seconds=0.1
    )
    state = shown(panel, *log[:6], bad)
    assert floats(state["training"]["x"]).tolist() == [1, 2]
    assert state["verdict"] == "the training loss is no number since step 3: try a lower learning rate"


def test_view_settings_live_in_the_kernel(opened):
    panel = opened(CurvesPanel)
    panel.smoothing = 0.9
    panel.log_scale = True
    assert {"smoothing", "log_scale", "state"} <= set(panel.get_state())


@given(st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=3000))
def test_a_downsampled_curve_keeps_its_extremes_and_its_ends_in_600_points(values):
    series = Series()
    for step, value in enumerate(values):
        series.add(step, value)
    picture = series.picture()
    x, y = floats(picture["x"]), floats(picture["y"])
    assert len(x) == len(y) <= 600
    assert (np.diff(x) > 0).all()
    assert y.max() == np.float32(max(values))
    assert y.min() == np.float32(min(values))
    np.testing.assert_array_equal(y, np.float32(values)[x.astype(int)])
    weights = [min(picture["bucket"], len(values) - i) for i in range(0, len(values), picture["bucket"])]
    np.testing.assert_allclose(
        np.average(floats(picture["mean_y"]), weights=weights), np.mean(values), rtol=1e-3, atol=1
    )


@pytest.mark.parametrize("count", [300, 301, 100_000])
def test_points_that_were_drawn_stay_while_the_curve_grows(count):
    series = Series()
    for step in range(count):
        series.add(step, math.sin(step))
    before = series.picture()
    series.add(count, 5.0)
    after = series.picture()
    if before["bucket"] == after["bucket"]:
        kept = len(floats(before["x"])) - 2
        np.testing.assert_array_equal(floats(before["x"])[:kept], floats(after["x"])[:kept])
    assert floats(after["y"]).max() == 5.0

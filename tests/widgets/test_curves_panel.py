import dataclasses
import math
import threading

import fakes
import numpy as np
import pandas as pd
import pytest
from fakes import FakeSession, until
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from widgets import CurvesPanel
from widgets.point import Point
from widgets.series import Series
from workbench.events import (
    EvaluationEnded,
    EvaluationProgressed,
    PlanAdjusted,
    RunChosen,
    RunEnded,
    RunFailed,
    RunForked,
    RunResumed,
    RunStarted,
    StageStarted,
    StepEnded,
)
from workbench.plan.plan import Plan
from workbench.runs.disk.run_folder import RunFolder


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
    assert state["verdict"] == "the training loss is not a number since step 3: try a lower learning rate"


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


def test_a_run_that_is_taken_up_again_keeps_its_curves(opened):
    log = fakes.log(60)
    whole = shown(opened(CurvesPanel), *log)
    place = next(i for i, event in enumerate(log) if isinstance(event, StepEnded) and event.step == 25)
    stopped = [*log[: place + 1], RunEnded(step=25, reason="stopped by the user")]
    again = [RunResumed(step=25), *log[:2], dataclasses.replace(log[2], first_step=25), *log[place + 1 :]]
    state = shown(opened(CurvesPanel), *stopped, *again)
    assert {name: state[name] for name in whole} == whole


def test_another_run_that_is_chosen_clears_the_curves_even_in_mid_run(opened):
    panel = opened(CurvesPanel)
    shown(panel, *fakes.log(60)[:40])
    state = shown(panel, RunChosen(name="another"))
    assert floats(state["training"]["x"]).size == 0
    assert shown(panel, *fakes.log(20))["last_step"] == 20


def test_the_users_own_metrics_are_drawn_by_their_name_three_at_most(opened):
    own = {"mcc": 0.4, "my_score": 12.0, "rouge_l": 0.2, "bleu": 0.1}
    event = fakes.evaluation(10, 0.5)
    event = dataclasses.replace(event, metrics={**event.metrics, **own})
    metrics = shown(opened(CurvesPanel), fakes.log(20)[2], event)["metrics"]
    assert [metric["title"] for metric in metrics] == ["accuracy", "F1 (macro)", "mcc", "my score", "rouge l"]
    assert [metric["is_extra"] for metric in metrics] == [False, False, True, True, True]
    assert floats(metrics[3]["y"]).tolist() == [12.0]


def test_a_change_while_running_is_a_mark_with_its_words(opened):
    change = PlanAdjusted(step=20, before={"learning_rate": 1e-3}, after={"learning_rate": 1e-4})
    marks = shown(opened(CurvesPanel), *fakes.log(60)[:40], change)["marks"]
    words = "from step 21: learning rate 0.001 → 0.0001"
    assert marks == [{"step": 20, "words": words, "is_unfreezing": False}]


def test_a_block_that_the_schedule_unfroze_is_a_mark_that_names_it(opened):
    names = {"trainable": ["block 2", "head"]}
    change = PlanAdjusted(step=20, before={"trainable": "head"}, after=names, by="unfreezing")
    marks = shown(opened(CurvesPanel), *fakes.log(60)[:40], change)["marks"]
    assert marks == [{"step": 20, "words": "from step 21: block 2 unfrozen", "is_unfreezing": True}]


def test_the_best_step_is_that_of_the_metric_of_the_plan(opened):
    session = FakeSession(Plan().change(stop_metric="accuracy"))
    panel = opened(CurvesPanel, session)
    first, worse = fakes.evaluation(0, 0.7, best=True), fakes.evaluation(10, 0.6)
    best = dataclasses.replace(fakes.evaluation(20, 0.8, best=True), metrics={"loss": 0.8, "accuracy": 0.9})
    session.shown(*fakes.log(60)[:3], first, worse, best)
    assert until(lambda: panel.state["best"] is not None and panel.state["best"]["step"] == 20)
    assert panel.state["best"] == {"step": 20, "loss": 0.8, "metric": "accuracy", "value": 0.9, "title": "accuracy"}
    assert panel.state["verdict"] == "still improving · best validation accuracy 0.9 at step 20"


def test_a_best_value_whose_loss_is_no_number_can_be_sent_to_the_page(opened):
    event = dataclasses.replace(fakes.evaluation(0, 0.7, best=True), metrics={"loss": math.nan, "accuracy": 0.5})
    assert shown(opened(CurvesPanel), fakes.log(60)[2], event)["best"]["loss"] is None


def test_the_verdict_counts_towards_the_patience_of_the_run(opened):
    session = FakeSession(Plan().change(stop_patience=3))
    panel = opened(CurvesPanel, session)
    log = fakes.log(60)
    run = session.shown(log[2], fakes.evaluation(0, 0.7, best=True), fakes.evaluation(10, 0.8))
    said = "no better than before training for {} of 3 evaluations · best validation loss 0.7 at step 0"
    assert until(lambda: panel.state["verdict"] == said.format(1))
    run.tell(fakes.evaluation(20, 0.8))
    assert until(lambda: panel.state["verdict"] == said.format(2))
    run.tell(RunEnded(step=20, reason="stopped early: the validation loss has not improved"))
    assert until(lambda: "evaluations" not in panel.state["verdict"])
    assert panel.state["verdict"] == "no better than before training · best validation loss 0.7 at step 0"


def test_a_point_tells_what_was_measured_there_or_before(opened, press):
    session = FakeSession()
    panel = opened(CurvesPanel, session)
    log = fakes.log(60)
    session.shown(*log)
    assert until(lambda: panel.state["last_step"] == 60)
    state = press(panel, "point", step=25)
    loss = next(event.loss for event in log if isinstance(event, StepEnded) and event.step == 25)
    held = next(event.metrics for event in log if isinstance(event, EvaluationEnded) and event.step == 20)
    assert state["point"]["facts"] == [
        f"training loss {loss:.4g}",
        f"validation loss {held['loss']:.4g} at step 20",
        f"accuracy {held['accuracy']:.4g} at step 20",
        f"F1 (macro) {held['macro_f1']:.4g} at step 20",
        "learning rate 0.001",
    ]
    assert press(panel, "leave")["point"] is None


def test_samples_of_a_point_come_as_text_and_pictures(opened, press):
    session = FakeSession()
    panel = opened(CurvesPanel, session)
    evil = "<img src=x onerror=window.hacked=1>"
    table = pd.DataFrame({"text": [evil], "confidence": [0.123456], "image": [Image.new("RGB", (9, 9))]})
    session.shown(*fakes.log(60)).table = table
    assert until(lambda: panel.state["last_step"] == 60)
    press(panel, "point", step=25)
    press(panel, "samples")
    assert until(lambda: panel.state["point"]["samples"] is not None)
    samples = panel.state["point"]["samples"]
    assert samples["columns"] == ["text", "confidence", "image"]
    assert samples["rows"][0][:2] == [{"text": evil}, {"text": "0.1235"}]
    assert samples["rows"][0][2]["image"].startswith("data:image/png;base64,")
    assert panel.state["point"]["doing"] == ""


def test_samples_of_a_language_model_say_who_continues(opened, press):
    session = FakeSession()
    session.shown(*fakes.log(60), table=pd.DataFrame([{"prompt": "we", "completion": "saw", "original": "were"}]))
    panel = opened(CurvesPanel, session)
    press(panel, "point", step=25)
    press(panel, "samples")
    assert until(lambda: panel.state["point"]["samples"] is not None)
    assert panel.state["point"]["samples"]["columns"] == ["prompt", "model continues", "original"]


def test_what_goes_wrong_at_a_point_is_told_in_its_box(opened, press):
    session = FakeSession()
    panel = opened(CurvesPanel, session)
    session.shown(*fakes.log(60))  # without a table there are no samples to give
    assert until(lambda: panel.state["last_step"] == 60)
    press(panel, "point", step=25)
    press(panel, "samples")
    assert until(lambda: panel.state["point"]["problem"] is not None)
    assert "AttributeError" in panel.state["point"]["problem"]["what"]
    assert (panel.state["problem"], panel.state["point"]["doing"]) == (None, "")
    assert press(panel, "settle")["point"]["problem"] is None
    state = press(panel, "fork", learning_rate=50, layers="head only")
    assert "must be between" in state["point"]["problem"]["what"]
    assert "fork" not in [name for name, _ in session.calls]


def test_samples_of_a_point_that_was_left_show_nowhere_else(opened, press):
    session, may_go_on = FakeSession(), threading.Event()
    panel = opened(CurvesPanel, session)

    class Slow:
        differs = ""

        def samples(self, count):
            may_go_on.wait(5)
            return pd.DataFrame({"text": ["late"]})

    session.shown(*fakes.log(60), at=lambda step, progress: Slow())
    assert until(lambda: panel.state["last_step"] == 60)
    press(panel, "point", step=25)
    assert press(panel, "samples")["point"]["doing"] == "loading …"
    press(panel, "point", step=30)
    may_go_on.set()
    assert until(lambda: not any(thread.name == "panels-work" for thread in threading.enumerate()))
    panel.refresh()
    assert panel.state["point"]["samples"] is None


def test_a_fork_gets_what_differs_and_nothing_else(opened, press):
    session = FakeSession()
    panel = opened(CurvesPanel, session)
    adjusted = PlanAdjusted(step=10, before={"learning_rate": 1e-3}, after={"learning_rate": 5e-4})
    assert session.plan.tuning.learning_rate == 1e-3
    session.shown(*fakes.log(60)[:20], adjusted, *fakes.log(60)[20:])
    assert until(lambda: panel.state["last_step"] == 60)
    assert press(panel, "point", step=5)["point"]["learning_rate"] == 1e-3
    point = press(panel, "point", step=25)["point"]
    assert (point["learning_rate"], point["layer"]) == (5e-4, "head only")  # as it was then
    assert point["layers"] == ["head only", "last block", "last 2 blocks", "last 3 blocks", "all layers"]
    press(panel, "fork", learning_rate=5e-4, layers="last 2 blocks")
    assert until(lambda: ("fork", {"step": 25, "trainable": "last 2"}) in session.calls)
    assert until(lambda: panel.state["point"] is None)


def test_a_fork_between_two_unfreezings_gets_the_layers_of_that_step_as_a_preset(opened, press, backbone):
    session = FakeSession(Plan().change(unfreeze_to="all"), backbone=backbone)
    panel = opened(CurvesPanel, session)
    first = PlanAdjusted(
        step=10, before={"trainable": "head"}, after={"trainable": ("block 2", "head")}, by="unfreezing"
    )
    names = ("block 1", "block 2", "head")
    second = PlanAdjusted(step=30, before=first.after, after={"trainable": names}, by="unfreezing")
    session.shown(*fakes.log(60), first, second)
    assert until(lambda: panel.state["last_step"] == 60)
    assert press(panel, "point", step=25)["point"]["layer"] == "last block"
    press(panel, "fork", learning_rate=5e-4, layers="last block")  # as it is, so that the schedule continues
    assert until(lambda: ("fork", {"step": 25, "learning_rate": 5e-4}) in session.calls)


def test_a_fork_lies_over_its_parent_and_says_what_differs(opened, press):
    session = FakeSession()
    panel = opened(CurvesPanel, session)
    log = fakes.log(60)
    parent = session.shown(*log)
    assert until(lambda: panel.state["last_step"] == 60)
    own = panel.state
    fork = parent.fork(20, learning_rate=1e-4)
    assert until(lambda: panel.state["fork"] is not None and panel.state["parent"] is not None)
    assert panel.state["fork"]["parent"] == "fake"
    assert panel.state["fork"]["differs"] == "learning rate 0.001 → 0.0001 from step 20"
    assert panel.state["parent"]["training"] == own["training"]
    assert floats(panel.state["training"]["x"]).size == 0
    later = [dataclasses.replace(e, loss=9.0) for e in log if isinstance(e, StepEnded) and e.step > 20]
    for event in [*log[:3], *later]:  # its own start does not take the parent away
        fork.tell(event)
    assert until(lambda: panel.state["last_step"] == 60)
    assert panel.state["parent"] is not None
    twin = fork.fork(40)
    assert until(lambda: panel.state["fork"]["parent"] == "fork")
    assert panel.state["fork"]["differs"] == "nothing changed from step 40"
    steps = lambda: floats(panel.state["parent"]["training"]["x"]) if panel.state["parent"] else np.zeros(0)  # noqa: E731
    assert until(lambda: steps().size)
    np.testing.assert_array_equal(steps(), range(1, 61))  # its parent, and its parent's before that
    losses = floats(panel.state["parent"]["training"]["y"])
    assert (losses[:20] < 1).all()
    assert (losses[20:] == 9).all()
    assert twin is session.run


def test_a_parent_whose_folder_is_gone_is_told(opened):
    session = FakeSession()
    panel = opened(CurvesPanel, session)
    session.shown(RunForked(parent="gone", step=3, changes={}))
    assert until(lambda: panel.state["fork"] is not None and panel.state["fork"]["note"] != "")
    assert "the parent can't be shown: there is no run 'gone'" in panel.state["fork"]["note"]
    assert panel.state["problem"] is None


def test_the_value_at_a_step_is_that_of_the_last_point_before():
    series = Series()
    for step, value in ((2, 0.5), (4, math.nan), (6, 0.25)):
        series.add(step, value)
    assert [series.at(step) for step in (1, 2, 5, 6, 99)] == [None, (2, 0.5), (2, 0.5), (6, 0.25), (6, 0.25)]


@pytest.mark.parametrize("name", ["../elsewhere", "/etc", "a/b"])
def test_a_parent_is_looked_for_beside_the_run_only(opened, name):
    session = FakeSession()
    panel = opened(CurvesPanel, session)
    session.shown(RunForked(parent=name, step=3, changes={}))
    assert until(lambda: panel.state["fork"] is not None and panel.state["fork"]["note"] != "")
    assert "is not the name of a run" in panel.state["fork"]["note"]


def test_a_replay_tells_how_far_it_is_and_what_came_out_otherwise():
    point = Point(3, {}, {})
    point.begin("loading …")
    point.show_progress(2, 30)
    assert point.doing == "replaying step 2 of 30 …"
    point.show_samples(pd.DataFrame({"text": ["fine"]}), "step 2 gave loss 0.5; the log has 0.6")
    assert point.doing == ""
    assert "step 2 gave loss 0.5" in point.problem["hint"]


@pytest.fixture
def others(tmp_path):
    """Two ended runs in a folder, and a session of that folder."""
    folders = [RunFolder.create(Plan(), tmp_path) for _ in range(2)]
    for folder in folders:
        for event in fakes.log(90):
            folder.append(event)
        folder.close()
    return FakeSession(folder=tmp_path), [folder.name for folder in folders]


def test_other_runs_lie_over_the_shown_one_as_long_as_they_are_wanted(opened, others):
    session, names = others
    panel = opened(CurvesPanel, session)
    session.shown(*fakes.log(60), folder=session.folder / "fake")
    session.overlay(*names)
    assert until(lambda: [line["name"] for line in panel.state["overlaid"]] == names)
    assert floats(panel.state["overlaid"][0]["training"]["x"])[-1] == 90
    assert panel.state["last_step"] == 60
    session.overlay(names[1])
    assert until(lambda: [line["name"] for line in panel.state["overlaid"]] == names[1:])
    session.attach(names[1])  # the run itself, which is not drawn over itself
    assert until(lambda: panel.state["name"] == names[1] and panel.state["overlaid"] == [])
    session.overlay()
    assert until(lambda: panel._overlaid == {})


def test_a_compared_run_is_called_as_in_the_list_and_left_out_beside_other_data(opened, others):
    session, names = others
    panel = opened(CurvesPanel, session)
    session.shown(*fakes.log(60), folder=session.folder / "fake")
    session.overlay(names[0])
    assert until(lambda: panel.state["overlaid"])
    assert panel.state["overlaid"][0]["title"].startswith("sentiment: movies · MiniLM-L6 · head only · ")
    session.change(source="sentiment:books")
    session.shown(*fakes.log(60), name="other", folder=session.folder / "other")
    assert until(lambda: panel.state["overlaid"] == [])
    assert panel.state["left_out"][0].endswith("can't be compared with this run: it learns from other data")


def test_a_panel_that_is_opened_later_draws_the_other_runs_too(opened, others):
    session, names = others
    session.overlay(names[0])
    panel = opened(CurvesPanel, session)
    assert until(lambda: [line["name"] for line in panel.state["overlaid"]] == names[:1])


def test_a_run_that_can_not_be_drawn_over_the_shown_one_is_told(opened, others):
    session, _ = others
    panel = opened(CurvesPanel, session)
    session.overlay("nonsense")
    assert until(lambda: panel.state["problem"] is not None)
    assert "nonsense" in panel.state["problem"]["what"]


def test_without_curves_it_says_what_will_be_there(opened):
    session = FakeSession()
    panel = opened(CurvesPanel, session)
    assert panel.state["empty"] == "The loss of each step is drawn here. It should fall."
    run = session.shown(StageStarted(stage="reading the data"))
    assert until(lambda: panel.state["empty"] == "The curves begin with the first evaluation.")
    run.tell(RunFailed(step=0, what="no file film.csv"))
    assert until(lambda: panel.state["empty"] == "The run took no step.")

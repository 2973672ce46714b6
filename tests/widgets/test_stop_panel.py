import dataclasses

import pytest
from fakes import FakeSession, evaluation, log, until

from widgets import StopPanel
from workbench.events import PreparationEnded
from workbench.plan.plan import FIELDS, Plan


def field(state, name):
    return next(spec for spec in state["fields"] if spec["name"] == name)


def shown(state):
    return [spec["name"] for spec in state["fields"] if not spec["is_hidden"]]


def options(state, name):
    return {option["value"]: option["title"] for option in field(state, name)["options"]}


def test_it_is_off_in_one_line(opened):
    state = opened(StopPanel).state
    assert shown(state) == ["stop_patience", "stop_metric"]
    assert (field(state, "stop_patience")["value"], field(state, "stop_patience")["none"]) == (None, "off")
    assert state["note"] == ""


def test_each_field_says_its_unit_and_that_a_run_under_way_keeps_its_value(opened):
    for spec in opened(StopPanel).state["fields"]:
        assert spec["unit"] == FIELDS[spec["name"]].metadata.get("unit", "")
        assert "Takes effect at the next run (or in a fork)." in spec["tip"]


def test_a_patience_says_its_rule_in_a_sentence(opened, press):
    session = FakeSession()
    panel = opened(StopPanel, session)
    state = press(panel, "change", name="stop_patience", value=5)
    assert session.plan.monitoring.stop_patience == 5
    assert shown(state) == ["stop_patience", "stop_metric", "stop_min_delta", "stop_mode"]
    assert state["note"] == "stops when the validation loss has not improved for 5 evaluations"
    state = press(panel, "change", name="stop_patience", value=10)
    assert state["note"].endswith("a run has 10 evaluations unless you set evaluate every (Settings, more)")
    session.change(evaluate_every=1)
    assert until(lambda: panel.state["note"].endswith("for 10 evaluations"))
    assert shown(press(panel, "change", name="stop_patience", value=None)) == ["stop_patience", "stop_metric"]


@pytest.mark.parametrize(
    ("value", "words"), [(-1, "must be between 0 and 1,000,000; kept off"), (2.5, "expected a whole number from 0")]
)
def test_a_patience_that_can_not_be_is_told_at_its_field(opened, press, value, words):
    session = FakeSession()
    state = press(opened(StopPanel, session), "change", name="stop_patience", value=value)
    assert words in field(state, "stop_patience")["error"]
    assert session.plan.monitoring.stop_patience is None


def test_the_metrics_are_those_of_the_task(opened, press, split, backbone):
    session = FakeSession()
    panel = opened(StopPanel, session)
    assert options(panel.state, "stop_metric") == {"": "loss"}  # the data are not loaded yet
    session.split, session.backbone = split, backbone
    session.prepare()
    wanted = {"": "loss", "accuracy": "accuracy", "macro_f1": "F1 (macro)", "weighted_f1": "F1 (weighted)"}
    assert until(lambda: options(panel.state, "stop_metric") == wanted)
    state = press(panel, "change", name="stop_metric", value="macro_f1")
    assert session.plan.monitoring.stop_metric == "macro_f1"
    assert field(state, "stop_mode")["options"][0]["title"] == "auto: high"
    state = press(panel, "change", name="stop_metric", value=None)
    assert session.plan.monitoring.stop_metric is None
    assert field(state, "stop_mode")["options"][0]["title"] == "auto: low"


def test_what_the_run_measured_is_offered_too_and_told_where_its_name_does_not_tell(opened, press, split):
    session = FakeSession(split=split)
    panel = opened(StopPanel, session)
    event = evaluation(0, 0.7, best=True)
    session.shown(*log(60)[:3], dataclasses.replace(event, metrics={**event.metrics, "rouge_l": 0.2}))
    assert until(lambda: options(panel.state, "stop_metric").get("rouge_l") == "rouge l")
    state = press(panel, "change", name="stop_metric", value="rouge_l")
    assert field(state, "stop_metric")["error"] == ""
    assert "stop_mode" in shown(state)
    assert field(state, "stop_mode")["error"] == "choose low or high: the name of the metric does not tell"
    state = press(panel, "change", name="stop_mode", value="max")
    assert (session.plan.monitoring.stop_mode, field(state, "stop_mode")["error"]) == ("max", "")
    session.change(max_rows=20)  # other data, of which nothing was measured
    assert until(lambda: options(panel.state, "stop_metric").get("rouge_l") == "rouge l")  # the plan says it


def test_torch_is_not_imported_for_the_metrics_while_the_backbone_is_loaded(opened, split):
    panel = opened(StopPanel, session := FakeSession(split=split))
    assert options(panel.state, "stop_metric") == {"": "loss"}
    session.bus.publish(PreparationEnded(part="backbone", what="there is no such backbone"))
    assert until(lambda: "accuracy" in options(panel.state, "stop_metric"))


def test_a_metric_of_another_task_is_told_at_the_choice(opened, split, backbone):
    session = FakeSession(Plan().change(stop_metric="perplexity"), split=split, backbone=backbone)
    state = opened(StopPanel, session).state
    assert field(state, "stop_metric")["value"] == "perplexity"
    assert "perplexity" in options(state, "stop_metric")
    assert field(state, "stop_metric")["error"] == (
        "these rows are used for text classification, which measures loss, accuracy, F1 (macro), F1 (weighted)"
    )


@pytest.mark.parametrize("metric", [None, "loss", "accuracy", "my_own"])
def test_what_the_plan_says_is_always_among_the_options(opened, split, metric):
    state = opened(StopPanel, FakeSession(Plan().change(stop_metric=metric), split=split)).state
    assert (field(state, "stop_metric")["value"] or "") in options(state, "stop_metric")
    assert list(options(state, "stop_metric").values()).count("loss") == 1
    assert field(state, "stop_metric")["error"] == ""


def test_a_change_during_a_run_waits_for_the_next_one_or_a_fork(opened, press):
    session = FakeSession()
    panel = opened(StopPanel, session)
    session.shown(*log(60)[:30])
    assert until(lambda: panel.state["is_running"])
    state = press(panel, "change", name="stop_patience", value=3)
    assert field(state, "stop_patience")["effect"] == "at the next run or fork"
    assert "run.change" not in [name for name, _ in session.calls]

import dataclasses

import pytest
from fakes import FakeSession, log, until

from widgets import HyperparameterPanel
from widgets.hyperparameter_panel import FIRST, MORE
from workbench.errors import RunError
from workbench.events import ChangeRefused, PlanAdjusted, RunStarted
from workbench.plan.fields import WHEN
from workbench.plan.plan import FIELDS, LIVE_FIELDS, SECTION_OF


def field(state, name):
    return next(spec for spec in (*state["first"], *state["more"]) if spec["name"] == name)


def test_every_field_says_its_unit_and_when_it_takes_effect(opened):
    state = opened(HyperparameterPanel).state
    for spec in (*state["first"], *state["more"]):
        assert spec["unit"] == FIELDS[spec["name"]].metadata.get("unit", "")
        about = FIELDS[spec["name"]].metadata
        assert spec["tip"] == f"{about['help']} {WHEN[about['takes_effect']]}"


def test_the_many_fields_are_in_four_groups(opened):
    groups = [spec["group"] for spec in opened(HyperparameterPanel).state["more"]]
    assert list(dict.fromkeys(groups)) == ["optimizer", "batches", "speed", "keeping"]


def test_the_fields_that_were_promised_are_there():
    assert [control.name for control in FIRST] == ["learning_rate", "batch_size", "epochs", "dropout"]
    assert all(control.slider for control in FIRST)
    assert {control.name for control in MORE} <= set(FIELDS)


def test_each_hyperparameter_of_the_plan_is_there_once(opened):
    state = opened(HyperparameterPanel).state
    names = [spec["name"] for spec in (*state["first"], *state["more"])]
    assert len(names) == len(set(names))
    assert {name for name, section in SECTION_OF.items() if section == "tuning"} <= set(names)
    assert [option["value"] for option in field(state, "device")["options"]] == ["auto", "cpu", "cuda", "mps"]


@pytest.mark.parametrize(
    ("name", "value", "kept"),
    [
        ("learning_rate", 2e-5, 2e-5),
        ("batch_size", 8, 8),
        ("epochs", 1, 1.0),
        ("dropout", None, None),
        ("dropout", 0.3, 0.3),
        ("schedule", "linear", "linear"),
        ("clip_norm", None, None),
        ("max_steps", 40, 40),
        ("checkpoint_every", 25, 25),
        ("keep_last", None, None),
        ("save_model", "none", "none"),
    ],
)
def test_a_value_reaches_the_plan(opened, press, name, value, kept):
    session = FakeSession()
    state = press(opened(HyperparameterPanel, session), "change", name=name, value=value)
    assert session.plan.flat()[name] == kept
    assert field(state, name)["value"] == kept
    assert field(state, name)["error"] == ""


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("learning_rate", 50, "must be between 1e-8 and 10; kept 0.001"),
        ("learning_rate", None, "expected a number from 1e-8 to 10; kept 0.001"),
        ("batch_size", 2.5, "expected a whole number from 1 to 65,536; kept 32"),
        ("epochs", "a; lot", "expected a number from 0.001 to 10,000; kept 3"),
        ("dropout", 2, "must be between 0 and 0.95; kept model's own"),
        ("keep_last", "some", "expected a whole number from 1 to 1,000,000,000 or empty (all); kept 2"),
    ],
)
def test_a_value_that_can_not_be_is_told_at_the_field_and_the_earlier_one_kept(opened, press, name, value, error):
    session = FakeSession()
    panel = opened(HyperparameterPanel, session)
    before, refusals = session.plan, panel.state["refusals"]
    state = press(panel, "change", name=name, value=value)
    assert session.plan == before
    assert field(state, name)["error"] == error
    assert state["refusals"] == refusals + 1  # the page puts the kept value back
    assert state["problem"] is None
    kept = field(state, name)["value"]
    assert field(press(panel, "change", name=name, value=kept), name)["error"] == ""


def test_a_change_by_code_shows_and_clears_the_error_there(opened, press):
    session = FakeSession()
    panel = opened(HyperparameterPanel, session)
    press(panel, "change", name="learning_rate", value=50)
    session.change(learning_rate=3e-4)
    assert until(lambda: field(panel.state, "learning_rate")["value"] == 3e-4)
    assert until(lambda: field(panel.state, "learning_rate")["error"] == "")


def test_a_field_that_the_panel_lacks_is_refused(opened, press):
    session = FakeSession()
    state = press(opened(HyperparameterPanel, session), "change", name="source", value="/etc/passwd")
    assert session.plan.data.source == "sentiment:movies"
    assert "source" in state["problem"]["what"]


def test_it_says_when_a_change_has_to_wait(opened):
    panel = opened(HyperparameterPanel)
    for event in log(10)[:5]:
        if type(event) in panel.kinds:
            panel.show(event)
    panel.refresh()
    assert panel.state["is_running"]
    panel.show(log(10)[-1])
    panel.refresh()
    assert not panel.state["is_running"]


def test_it_says_what_a_run_found_out_about_the_machine(opened):
    session = FakeSession()
    panel = opened(HyperparameterPanel, session)
    assert panel.state["machine"] == ""
    started = next(event for event in log(10) if isinstance(event, RunStarted))
    session.shown(dataclasses.replace(started, settings=("bf16 2.1 × as fast as fp32: taken", "2 threads")))
    assert until(lambda: panel.state["machine"] == "bf16 2.1 × as fast as fp32: taken · 2 threads")
    session.change(source="my.csv")  # of which nothing is known
    assert until(lambda: panel.state["machine"] == "")
    session.change(source=session.run.plan.data.source)
    assert until(lambda: panel.state["machine"] != "")
    session.shown()
    assert until(lambda: panel.state["machine"] == "")


def live(opened, **attributes):
    session = FakeSession()
    panel = opened(HyperparameterPanel, session)
    run = session.shown(*log(60)[:30], **attributes)
    assert until(lambda: panel.state["is_running"])
    return session, panel, run


def test_fields_that_a_run_obeys_reach_the_plan_and_the_run(opened, press):
    session, panel, run = live(opened, change=lambda **changes: session.calls.append(("run.change", changes)))
    assert {spec["name"] for spec in (*panel.state["first"], *panel.state["more"]) if spec["is_live"]} == {
        name for name in LIVE_FIELDS if name != "trainable"
    }
    state = press(panel, "change", name="learning_rate", value=1e-4)
    assert session.plan.tuning.learning_rate == 1e-4
    assert session.calls[-1] == ("run.change", {"learning_rate": 1e-4})
    assert field(state, "learning_rate")["effect"] == "from the next step"
    assert "at the next step" in field(state, "learning_rate")["tip"]
    run.tell(PlanAdjusted(step=run.step, before={"learning_rate": 1e-3}, after={"learning_rate": 1e-4}))
    assert until(lambda: field(panel.state, "learning_rate")["effect"] == f"since step {run.step + 1}")


def test_fields_that_a_run_does_not_obey_wait_for_the_next(opened, press):
    session, panel, _ = live(opened)
    state = press(panel, "change", name="batch_size", value=8)
    assert field(state, "batch_size")["effect"] == "at the next run or fork"
    assert "Takes effect at the next run (or in a fork)." in field(state, "batch_size")["tip"]
    assert field(press(panel, "change", name="seed", value=3), "seed")["effect"] == "at the next run"
    assert field(state, "epochs")["effect"] == ""
    assert [name for name, _ in session.calls] == ["change", "change"]


def test_a_change_from_elsewhere_shows_with_its_value(opened):
    _, panel, run = live(opened)
    run.tell(PlanAdjusted(step=20, before={"learning_rate": 1e-3}, after={"learning_rate": 5e-4}))
    assert until(lambda: field(panel.state, "learning_rate")["effect"] == "0.0005 since step 21")


def test_what_a_tactic_changes_is_no_change_of_a_person(opened):
    _, panel, run = live(opened)
    by_tactic = PlanAdjusted(step=20, before={"learning_rate": 1e-3}, after={"learning_rate": 5e-4}, by="a tactic")
    run.tell(by_tactic)
    run.tell(PlanAdjusted(step=20, before={"dropout": None}, after={"dropout": 0.1}))
    assert until(lambda: field(panel.state, "dropout")["effect"] == "0.1 since step 21")
    assert field(panel.state, "learning_rate")["effect"] == ""  # the run does as the plan says


def test_a_refusal_by_the_run_shows_at_the_field(opened, press):
    def refuse(**changes):
        raise RunError("the run is over")

    session, panel, _ = live(opened, change=refuse)
    state = press(panel, "change", name="learning_rate", value=1e-4)
    assert field(state, "learning_rate")["error"] == "the run is over"
    assert field(state, "learning_rate")["effect"] == "at the next run"
    assert session.plan.tuning.learning_rate == 1e-4
    assert field(press(panel, "change", name="epochs", value=2), "learning_rate")["error"] != ""


def test_a_value_that_can_not_be_reaches_neither(opened, press):
    session, panel, _ = live(opened)
    state = press(panel, "change", name="learning_rate", value=50)
    assert "must be between" in field(state, "learning_rate")["error"]
    assert "run.change" not in [name for name, _ in session.calls]


def test_a_change_that_the_run_could_not_make_is_told_at_its_field(opened, press):
    _, panel, run = live(opened, change=lambda **changes: None)
    press(panel, "change", name="evaluate_every", value=5)
    run.tell(ChangeRefused(step=20, what="not in this run"))
    assert until(lambda: field(panel.state, "evaluate_every")["error"] == "not in this run")
    assert field(panel.state, "learning_rate")["error"] == ""

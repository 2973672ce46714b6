import pytest
import tiny
from fakes import FakeSession, log, until

from widgets import KeepPanel
from workbench.errors import PlanError
from workbench.events import PlanAdjusted
from workbench.plan.plan import FIELDS, Plan
from workbench.training.tactics import unfreezing


def field(state, name):
    return next(spec for spec in state["fields"] if spec["name"] == name)


def shown(state):
    return [spec["name"] for spec in state["fields"] if not spec["is_hidden"]]


def titles(state):
    return [option["title"] for option in field(state, "unfreeze_to")["options"]]


def test_it_is_off_and_says_nothing_else(opened, backbone):
    state = opened(KeepPanel, backbone=backbone).state
    assert shown(state) == ["unfreeze_to"]
    assert (field(state, "unfreeze_to")["value"], state["note"]) == (None, "")
    assert titles(state)[0] == "off"


def test_each_field_says_its_unit_and_that_a_run_under_way_keeps_its_value(opened):
    for spec in opened(KeepPanel).state["fields"]:
        assert spec["unit"] == FIELDS[spec["name"]].metadata.get("unit", "")
        assert "Takes effect at the next run (or in a fork)." in spec["tip"]


@pytest.mark.parametrize("trainable", ["head", "last 1", "last 2", "all", ("embeddings", "head"), ("block 1",)])
@pytest.mark.parametrize("kind", ["bert", "llama"])
@pytest.mark.parametrize("method", ["weights", "lora"])
def test_it_offers_what_the_tactic_accepts_and_nothing_else(opened, kind, trainable, method):
    backbone, plan = tiny.backbone(kind), Plan().change(trainable=trainable, method=method)
    names = {"last 1": "up to the last block", "last 2": "up to the last 2 blocks", "all": "up to all layers"}
    accepted = ["off"]
    for value, title in names.items():
        try:
            unfreezing.order(backbone.blocks, plan.change(unfreeze_to=value))
        except PlanError:
            continue
        accepted.append(title)
    state = opened(KeepPanel, FakeSession(plan, backbone=backbone)).state
    assert titles(state) == accepted
    assert bool(state["note"]) == (accepted == ["off"])


def test_the_choices_reach_the_plan(opened, press, backbone):
    session = FakeSession(backbone=backbone)
    panel = opened(KeepPanel, session)
    state = press(panel, "change", name="unfreeze_to", value="all")
    assert shown(state) == ["unfreeze_to", "unfreeze_on", "unfreeze_every"]
    press(panel, "change", name="unfreeze_every", value=20)
    state = press(panel, "change", name="unfreeze_on", value="plateau")
    assert shown(state) == ["unfreeze_to", "unfreeze_on", "unfreeze_patience"]
    press(panel, "change", name="unfreeze_patience", value=2)
    choice = session.plan.retention
    assert (choice.unfreeze_to, choice.unfreeze_on) == ("all", "plateau")
    assert (choice.unfreeze_every, choice.unfreeze_patience) == (20, 2)
    state = press(panel, "change", name="unfreeze_to", value=None)
    assert (session.plan.retention.unfreeze_to, shown(state)) == (None, ["unfreeze_to"])


def test_a_value_that_can_not_be_is_told_at_its_field(opened, press, backbone):
    session = FakeSession(Plan().change(unfreeze_to="all"), backbone=backbone)
    state = press(opened(KeepPanel, session), "change", name="unfreeze_every", value=0)
    assert field(state, "unfreeze_every")["error"] == "must be between 1 and 1,000,000,000; kept evenly"
    assert session.plan.retention.unfreeze_every is None


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"trainable": "all", "unfreeze_to": "all"}, "unfreezing up to all layers adds no block to all layers"),
        ({"trainable": "last 2", "unfreeze_to": "last 1"}, "lacks block 1"),
        ({"unfreeze_to": "last 9"}, "asks for 9 blocks; this backbone has 2"),
        ({"unfreeze_to": ("block 7",)}, "no block 'block 7'"),
    ],
)
def test_a_schedule_that_does_not_fit_the_layers_is_told_as_soon_as_they_are_known(opened, backbone, changes, words):
    session = FakeSession(Plan().change(**changes))
    panel = opened(KeepPanel, session)
    assert field(panel.state, "unfreeze_to")["error"] == ""  # the layers are not known yet
    session.backbone = backbone
    session.prepare()
    assert until(lambda: words in field(panel.state, "unfreeze_to")["error"])
    assert len(titles(panel.state)) >= 2  # what is chosen is listed, to be seen
    session.change(trainable="head", unfreeze_to="last 1")
    assert until(lambda: field(panel.state, "unfreeze_to")["error"] == "")


def test_it_knows_of_a_run_that_took_another_way(opened, backbone):
    session = FakeSession(Plan().change(unfreeze_to="all"), backbone=backbone)
    panel = opened(KeepPanel, session)
    run = session.shown(*log(60)[:30])
    assert until(lambda: panel.state["is_running"])
    assert field(panel.state, "unfreeze_to")["effect"] == ""
    session.change(unfreeze_every=7)
    assert until(lambda: field(panel.state, "unfreeze_every")["effect"] == "at the next run or fork")
    change = {"trainable": "last 1", "unfreeze_to": None}
    run.tell(PlanAdjusted(step=20, before={"trainable": "head", "unfreeze_to": "all"}, after=change))
    assert until(lambda: field(panel.state, "unfreeze_to")["effect"] == "off since step 21")

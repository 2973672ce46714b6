import time

import pytest
import tiny
from fakes import FakeSession

from widgets import FreezePanel
from widgets.freeze_panel import _shortest
from workbench.choices import Plan


def states(state):
    return {block["name"]: block["is_trainable"] for block in state["blocks"]}


def test_blocks_are_shown_with_their_state_and_the_counts(opened, backbone):
    state = opened(FreezePanel, backbone=backbone).state
    assert states(state) == {"embeddings": False, "block 1": False, "block 2": False, "head": True}
    assert state["preset"] == "head"
    total = sum(parameter.numel() for parameter in backbone.model.parameters())
    assert " of " in state["counts"]
    assert sum(block["size"] for block in state["blocks"]) == total


def test_a_click_switches_a_block_and_reaches_the_plan(opened, press, backbone):
    session = FakeSession(backbone=backbone)
    panel = opened(FreezePanel, session)
    state = press(panel, "toggle", name="block 2")
    assert session.plan.transfer.trainable == "last 1"
    assert states(state)["block 2"]
    assert state["preset"] == "last"
    press(panel, "toggle", name="embeddings")
    assert session.plan.transfer.trainable == ("embeddings", "block 2", "head")
    press(panel, "toggle", name="block 1")
    assert session.plan.transfer.trainable == "all"
    state = press(panel, "toggle", name="head")
    assert session.plan.transfer.trainable == ("embeddings", "block 1", "block 2")
    assert not states(state)["head"]


def test_the_last_trainable_block_stays(opened, press, backbone):
    session = FakeSession(backbone=backbone)
    state = press(opened(FreezePanel, session), "toggle", name="head")
    assert "nothing would learn" in state["problem"]["what"]
    assert session.plan.transfer.trainable == "head"


def test_presets_reach_the_plan(opened, press, backbone):
    session = FakeSession(backbone=backbone)
    panel = opened(FreezePanel, session)
    press(panel, "preset", name="last", number=1)
    assert session.plan.transfer.trainable == "last 1"
    press(panel, "preset", name="full")
    assert session.plan.transfer.trainable == "all"
    state = press(panel, "preset", name="lora", number=4)
    assert (session.plan.transfer.method, session.plan.transfer.lora_rank) == ("lora", 4)
    assert state["preset"] == "lora"
    adapters = {block["name"]: block["has_adapter"] for block in state["blocks"]}
    assert adapters == {"embeddings": False, "block 1": True, "block 2": True, "head": False}
    press(panel, "toggle", name="block 1")
    press(panel, "preset", name="lora", number=2)
    assert session.plan.transfer.trainable == "last 1"  # a new rank leaves the blocks alone
    state = press(panel, "preset", name="head")
    assert (state["preset"], session.plan.transfer.method) == ("head", "weights")


@pytest.mark.parametrize("number", [99, 0, 2.5, "two"])
def test_a_number_of_blocks_that_can_not_be_is_refused_at_the_panel(opened, press, backbone, number):
    session = FakeSession(backbone=backbone)
    state = press(opened(FreezePanel, session), "preset", name="last", number=number)
    assert str(number) in state["problem"]["what"]
    assert session.plan.transfer.trainable == "head"


def test_adapters_have_no_place_in_the_embeddings(opened, press, backbone):
    session = FakeSession(backbone=backbone)
    panel = opened(FreezePanel, session)
    press(panel, "preset", name="lora")
    state = press(panel, "toggle", name="embeddings")
    assert "embeddings" in state["problem"]["what"]


def test_a_plan_that_does_not_suit_the_backbone_is_told_with_the_blocks(opened, backbone):
    session = FakeSession(Plan().change(trainable="last 30"), backbone=backbone)
    state = opened(FreezePanel, session).state
    assert "asks for 30 blocks; this backbone has 2" in state["problem"]["what"]
    assert not any(states(state).values())
    assert len(state["blocks"]) == len(backbone.blocks)


def test_what_tied_weights_mean_is_told(opened):
    state = opened(FreezePanel, backbone=tiny.backbone("llama")).state
    assert "tied" in state["notes"][0]


def test_a_change_by_code_shows(opened, backbone):
    session = FakeSession(backbone=backbone)
    panel = opened(FreezePanel, session)
    session.change(trainable=("block 1",))
    panel._is_stale = True
    panel.refresh()
    assert states(panel.state) == {"embeddings": False, "block 1": True, "block 2": False, "head": False}
    assert panel.state["preset"] == ""


def test_without_a_backbone_there_is_nothing_to_click(opened, press):
    panel = opened(FreezePanel)
    assert panel.state["blocks"] == []
    press(panel, "toggle", name="block 1")
    assert panel.state["problem"] is None


def test_a_click_is_answered_at_once(opened, press, backbone):
    panel = opened(FreezePanel, backbone=backbone)
    begun = time.perf_counter()
    for _ in range(10):
        press(panel, "toggle", name="block 1")
    assert (time.perf_counter() - begun) / 10 < 0.1  # seconds


def test_names_are_said_as_a_preset_where_one_fits():
    every = ["embeddings", "block 1", "block 2", "head"]
    assert _shortest(("head",), every) == "head"
    assert _shortest(("block 2", "head"), every) == "last 1"
    assert _shortest(tuple(every), every) == "all"
    assert _shortest(("block 1",), every) == ("block 1",)

import time

import fakes
import pytest
import tiny
from fakes import FakeSession, until

from widgets import FreezePanel
from workbench.errors import PlanError
from workbench.events import (
    CacheReady,
    ChangeRefused,
    CheckpointSaved,
    FrozenMoved,
    PlanAdjusted,
    PlanChanged,
    PreparationEnded,
    RunChosen,
    RunEnded,
    RunForked,
    WeightsMoved,
)
from workbench.plan.plan import Plan


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
    assert state["error"] == "with every block frozen nothing would be trained; leave at least one trainable"
    assert session.plan.transfer.trainable == "head"


def test_presets_reach_the_plan(opened, press, backbone):
    session = FakeSession(backbone=backbone)
    panel = opened(FreezePanel, session)
    press(panel, "preset", name="last", number=1)
    assert session.plan.transfer.trainable == "last 1"
    state = press(panel, "preset", name="all")
    assert (session.plan.transfer.trainable, state["preset"]) == ("all", "all")
    state = press(panel, "preset", name="head")
    assert (session.plan.transfer.trainable, state["preset"]) == ("head", "head")
    state = press(panel, "preset", name="last")
    assert session.plan.transfer.trainable == "last 1"  # the number that was chosen before


def test_lora_is_how_and_not_which(opened, press, backbone):
    session = FakeSession(backbone=backbone)
    panel = opened(FreezePanel, session)
    press(panel, "toggle", name="block 1")
    chosen = ("block 1", "head")
    state = press(panel, "lora", is_on=True)
    assert (session.plan.transfer.method, session.plan.transfer.trainable) == ("lora", chosen)
    adapters = {block["name"]: block["has_adapter"] for block in state["blocks"]}
    assert adapters == {"embeddings": False, "block 1": True, "block 2": False, "head": False}
    state = press(panel, "rank", number=4)
    assert (session.plan.transfer.lora_rank, session.plan.transfer.trainable) == (4, chosen)
    state = press(panel, "lora", is_on=False)
    assert (state["is_lora"], session.plan.transfer.trainable) == (False, chosen)
    press(panel, "lora", is_on=True)
    for choice in ({"name": "last", "number": 1}, {"name": "all"}, {"name": "last", "number": 2}):
        state = press(panel, "preset", **choice)
        assert (state["preset"], state["is_lora"], state["lora_rank"]) == (choice["name"], True, 4)
    press(panel, "toggle", name="block 1")
    assert (session.plan.transfer.method, session.plan.transfer.trainable) == ("lora", "last 1")


@pytest.mark.parametrize("kind", ["bert", "llama"])
@pytest.mark.parametrize(
    "trainable", ["head", "last 1", "last 2", "all", ("embeddings",), ("block 1",), ("head", "block 2")]
)
def test_every_choice_works_with_lora_or_it_is_said_why_not_and_what_to_do(opened, press, kind, trainable):
    session = FakeSession(Plan().change(trainable=trainable), backbone=tiny.backbone(kind))
    panel = opened(FreezePanel, session)
    state = press(panel, "lora", is_on=True)
    assert session.plan.transfer.trainable == trainable
    if session.plan.transfer.method == "lora":
        assert any(block["is_trainable"] for block in state["blocks"])
        assert state["error"] == ""
        has_adapter = any(block["has_adapter"] for block in state["blocks"])
        assert has_adapter or state["notes"][0].endswith("choose last 2 blocks or all layers for adapters")
    else:
        assert "nothing would be trained: LoRA has adapters only for the blocks" in state["error"]
        assert state["error"].endswith("; choose last 2 blocks or all layers")


def test_lora_and_the_layers_are_told_apart_during_a_run(opened, press, backbone):
    session = FakeSession(backbone=backbone)
    panel = opened(FreezePanel, session)
    run = session.shown(*fakes.log(60)[:30])
    assert until(lambda: panel._effects.is_live)
    press(panel, "toggle", name="block 2")
    assert until(lambda: panel.state["effect"] == f"layers: since step {run.step + 1}")
    state = press(panel, "lora", is_on=True)
    assert state["effect"] == f"layers: since step {run.step + 1} · LoRA: at the next run"
    assert (session.plan.transfer.trainable, run.plan.transfer.trainable) == ("last 1", "last 1")
    again = opened(FreezePanel, session).state  # as a page that is loaded again, or a second panel
    assert (again["preset"], again["last_n"], again["is_lora"]) == ("last", 1, True)
    press(panel, "lora", is_on=False)
    assert until(lambda: panel.state["effect"] == f"layers: since step {run.step + 1}")


@pytest.mark.parametrize("number", [99, 0, 2.5, "two"])
def test_a_number_that_can_not_be_is_refused_at_the_field_until_the_next_choice(opened, press, backbone, number):
    session = FakeSession(backbone=backbone)
    panel = opened(FreezePanel, session)
    state = press(panel, "preset", name="last", number=number)
    assert state["error"] == "must be a whole number from 1 to 2; kept head only"
    assert (session.plan.transfer.trainable, state["problem"]) == ("head", None)
    panel.show(PlanChanged(fields=("learning_rate",)))
    panel.refresh()
    assert panel.state["error"] == state["error"]
    assert press(panel, "rank", number=999)["error"] == "must be between 1 and 512; kept 8"
    assert press(panel, "rank", number=8)["error"] == ""


def test_adapters_have_no_place_in_the_embeddings(opened, press, backbone):
    session = FakeSession(backbone=backbone)
    panel = opened(FreezePanel, session)
    for name in ("all", "last"):  # whether they are among the layers that are chosen or not
        press(panel, "preset", name=name)
        press(panel, "lora", is_on=True)
        before = session.plan
        state = press(panel, "toggle", name="embeddings")
        assert state["error"].startswith("LoRA has no adapters for embeddings: the block stays frozen; ")
        assert session.plan == before
        assert {block["name"]: block["has_no_adapter"] for block in state["blocks"]}["embeddings"] == (name == "all")


def test_a_plan_that_does_not_suit_the_backbone_is_told_with_the_blocks(opened, backbone):
    session = FakeSession(Plan().change(trainable="last 30"), backbone=backbone)
    state = opened(FreezePanel, session).state
    assert "asks for 30 blocks; this backbone has 2" in state["problem"]["what"]
    assert not any(states(state).values())
    assert len(state["blocks"]) == len(backbone.blocks)


def test_what_tied_weights_mean_is_told(opened, press):
    panel = opened(FreezePanel, session := FakeSession(backbone=tiny.backbone("llama")))
    assert panel.state["preset"] == "head"  # as another backbone leaves it
    assert panel.state["notes"][0].endswith("choose last 2 blocks, or all layers with LoRA")
    for choice in ({"name": "all"}, {"name": "last", "number": 2}):
        state = press(panel, "preset", **choice)
        assert "choose" not in "".join(state["notes"])
        state = press(panel, "lora", is_on=True)
        assert "choose" not in "".join(state["notes"])
    assert session.plan.transfer.trainable == "last 2"


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
    assert (panel.state["doing"], panel.state["outline"]) == ("loading minilm-l6 …", 8)
    press(panel, "toggle", name="block 1")
    assert panel.state["problem"] is None


def test_a_backbone_that_could_not_be_loaded_is_not_waited_for(opened):
    session = FakeSession()
    panel = opened(FreezePanel, session)
    for part in ("data", "backbone"):
        session.bus.publish(PreparationEnded(part=part, what="there is none"))
        assert until(lambda: panel.state["doing"] == "")
        session.change(**{{"data": "source", "backbone": "backbone"}[part]: "another"})
        assert until(lambda: panel.state["doing"] != "")


def test_a_click_is_answered_at_once(opened, press, backbone):
    panel = opened(FreezePanel, backbone=backbone)
    begun = time.perf_counter()
    for _ in range(10):
        press(panel, "toggle", name="block 1")
    assert (time.perf_counter() - begun) / 10 < 0.1  # seconds


def asked(session):
    return [changes for name, changes in session.calls if name == "run.change"]


def test_a_click_reaches_the_plan_and_the_run_under_way(opened, press, backbone):
    session = FakeSession(backbone=backbone)
    panel = opened(FreezePanel, session)
    run = session.shown(*fakes.log(60)[:30], change=lambda **changes: session.calls.append(("run.change", changes)))
    assert until(lambda: panel._effects.is_live)
    state = press(panel, "toggle", name="block 2")
    assert session.plan.transfer.trainable == "last 1"
    assert asked(session) == [{"trainable": "last 1"}]
    assert state["effect"] == "layers: from the next step"
    run.tell(PlanAdjusted(step=run.step, before={"trainable": "head"}, after={"trainable": "last 1"}))
    assert until(lambda: panel.state["effect"] == f"layers: since step {run.step + 1}")
    run.tell(RunEnded(step=run.step, reason="completed"))
    assert until(lambda: panel.state["effect"] == "")


def test_what_a_run_under_way_can_not_obey_waits_for_the_next(opened, press, backbone):
    session = FakeSession(backbone=backbone)
    panel = opened(FreezePanel, session)
    session.shown(*fakes.log(60)[:30])
    assert until(lambda: panel._effects.is_live)
    assert press(panel, "lora", is_on=True)["effect"] == "LoRA: at the next run"
    assert press(panel, "toggle", name="block 1")["effect"] == "layers and LoRA: at the next run"
    assert asked(session) == []
    press(panel, "preset", name="head")
    assert press(panel, "lora", is_on=False)["effect"] == ""  # as the run has it
    session.change(backbone="another/model")
    assert press(panel, "preset", name="all")["effect"] == "layers: at the next run"
    assert asked(session) == []


def test_after_the_run_a_click_changes_the_plan_alone(opened, press, backbone):
    session = FakeSession(backbone=backbone)
    panel = opened(FreezePanel, session)
    session.shown(*fakes.log(60))
    state = press(panel, "toggle", name="block 2")
    assert (asked(session), state["effect"]) == ([], "")


def test_a_refusal_by_the_run_is_told_and_the_plan_keeps_the_choice(opened, press, backbone):
    def refuse(**changes):
        raise PlanError("this run keeps its blocks", hint="the next one")

    session = FakeSession(backbone=backbone)
    panel = opened(FreezePanel, session)
    session.shown(*fakes.log(60)[:30], change=refuse)
    assert until(lambda: panel._effects.is_live)
    state = press(panel, "toggle", name="block 2")
    assert state["problem"]["what"] == "this run keeps its blocks"
    assert (session.plan.transfer.trainable, state["effect"]) == ("last 1", "layers: at the next run")


def test_each_block_shows_how_far_it_has_moved(opened, backbone):
    session = FakeSession(backbone=backbone)
    panel = opened(FreezePanel, session)
    assert {block["moved"] for block in panel.state["blocks"]} == {None}
    session.shown(*fakes.log(60)[:30], WeightsMoved(step=20, by_block={"head": 0.052, "block 2": 0.013}))
    assert until(lambda: panel.state["blocks"][0]["moved"] is not None)
    assert {block["name"]: block["moved"] for block in panel.state["blocks"]} == {
        "embeddings": {"words": "0 %", "unit": " of the norm of its weights", "part": 0.0},
        "block 1": {"words": "0 %", "unit": " of the norm of its weights", "part": 0.0},
        "block 2": {"words": "1.3 %", "unit": " of the norm of its weights", "part": 0.25},
        "head": {"words": "5.2 %", "unit": " of the norm of its weights", "part": 1.0},
    }
    session.change(backbone="another/model")  # whose blocks are others
    assert until(lambda: panel.state["blocks"][0]["moved"] is None)


CACHE = CacheReady(
    step=0,
    split="train",
    boundary="head",
    rows=10,
    size_bytes=11_000_000,
    budget_bytes=10**9,
    place="memory",
    seconds=2,
)


@pytest.mark.parametrize("changes", [{"source": "my.csv"}, {"backbone": "gpt2"}, {"trainable": "last 1"}])
def test_what_the_run_shown_measured_is_told_of_its_plan_only(opened, backbone, changes):
    session = FakeSession(backbone=backbone)
    panel = opened(FreezePanel, session)
    session.shown(WeightsMoved(step=20, by_block={"head": 0.052}), CACHE, RunEnded(step=20, reason="completed"))

    def told():
        return panel.state["cached"] != "" and panel.state["blocks"][0]["moved"] is not None

    before = session.plan.flat()
    assert until(told)
    session.change(**changes)
    assert until(lambda: panel.state["cached"] == "" and panel.state["blocks"][0]["moved"] is None)
    session.change(**before)
    assert until(told)


def test_a_block_that_started_at_zero_shows_how_far_it_moved_in_another_unit(opened, backbone):
    session = FakeSession(backbone=backbone)
    panel = opened(FreezePanel, session)
    moved = WeightsMoved(step=20, by_block={"block 2": 0.013}, rms_by_block={"head": 0.00213})
    session.shown(*fakes.log(60)[:30], moved)
    assert until(lambda: panel.state["blocks"][0]["moved"] is not None)
    by_name = {block["name"]: block["moved"] for block in panel.state["blocks"]}
    assert by_name["block 2"] == {"words": "1.3 %", "unit": " of the norm of its weights", "part": 1.0}
    assert by_name["head"] == {"words": "0.0021 RMS", "unit": ", since its weights started at zero", "part": 1.0}


def test_frozen_parts_are_verified_or_a_broken_promise_is_told(opened, backbone):
    panel = opened(FreezePanel, backbone=backbone)
    saved = CheckpointSaved(step=120, folder="c", size_bytes=1, best=True, frozen_tensors=98)
    panel.show(saved)
    panel.refresh()
    assert panel.state["verified"] == "frozen parts verified at step 120 (98 tensors)"
    assert panel.state["broken"] == ""
    panel.show(FrozenMoved(step=130, tensors=("a", "b", "c", "d", "e"), blocks=("block 1",)))
    panel.show(saved)
    panel.refresh()
    assert panel.state["broken"].startswith("frozen tensors changed by step 130: a, b, c and 2 more.")
    assert panel.state["verified"] == ""
    panel.show(RunChosen(name="another"))
    panel.refresh()
    assert (panel.state["verified"], panel.state["broken"]) == ("", "")


def test_a_run_without_frozen_parts_has_nothing_to_verify(opened):
    panel = opened(FreezePanel)
    panel.show(CheckpointSaved(step=120, folder="c", size_bytes=1, best=True, frozen_tensors=0))
    panel.refresh()
    assert panel.state["verified"] == ""


def test_a_change_that_the_run_could_not_make_is_told_where_it_was_asked_for(opened, press, backbone):
    session = FakeSession(backbone=backbone)
    panel = opened(FreezePanel, session)
    run = session.shown(*fakes.log(60)[:30], change=lambda **changes: None)
    assert until(lambda: panel._effects.is_live)
    run.tell(ChangeRefused(step=20, what="of somebody else"))
    assert not until(lambda: panel.state["problem"] is not None, seconds=0.5)
    press(panel, "toggle", name="block 2")
    run.tell(ChangeRefused(step=21, what="block 2 can't learn", hint="another"))
    assert until(lambda: panel.state["problem"] is not None)
    assert panel.state["problem"]["what"] == "block 2 can't learn"
    assert panel.state["effect"] == "layers: at the next run"


UNFREEZING = Plan().change(trainable="head", unfreeze_to="all")


def unfreezes(step, before, *names):
    return PlanAdjusted(step=step, before={"trainable": before}, after={"trainable": names}, by="unfreezing")


def turns(state):
    return {block["name"]: block["turn"] and block["turn"]["words"] for block in state["blocks"]}


def test_the_schedule_of_the_plan_shows_on_each_block_and_in_a_sentence(opened, backbone):
    session = FakeSession(UNFREEZING, backbone=backbone)
    panel = opened(FreezePanel, session)
    assert turns(panel.state) == {
        "embeddings": "3rd to be unfrozen, after 67 % of the run",
        "block 1": "2nd to be unfrozen, after 44 % of the run",
        "block 2": "1st to be unfrozen, after 22 % of the run",
        "head": None,
    }
    assert panel.state["schedule"] == "3 blocks to be unfrozen · first block 2, after 22 % of the run"
    session.change(unfreeze_to=None)
    assert until(lambda: panel.state["schedule"] == "")
    assert set(turns(panel.state).values()) == {None}


def test_while_a_run_unfreezes_the_picture_shows_what_is_trainable_now(opened, backbone):
    session = FakeSession(UNFREEZING, backbone=backbone)
    panel = opened(FreezePanel, session)
    run = session.shown(*fakes.log(60)[:10])
    assert until(lambda: turns(panel.state)["block 2"] == "1st to be unfrozen, after step 13")
    run.tell(unfreezes(13, "head", "block 2", "head"))
    assert until(lambda: states(panel.state)["block 2"])
    assert (panel.state["preset"], panel.state["last_n"], panel.state["effect"]) == ("last", 1, "")
    assert turns(panel.state)["block 2"] == "1st, unfrozen since step 14"
    assert panel.state["schedule"] == "1 of 3 unfrozen · next block 1, after step 27"
    assert session.plan.transfer.trainable == "head"  # the next run begins with it
    run.tell(RunEnded(step=60, reason="completed"))
    assert until(lambda: panel.state["preset"] == "head")
    assert turns(panel.state)["block 2"] == "1st to be unfrozen, after 22 % of the run"


def test_a_click_while_a_run_unfreezes_changes_what_is_shown_and_ends_the_schedule(opened, press, backbone):
    session = FakeSession(UNFREEZING, backbone=backbone)
    panel = opened(FreezePanel, session)
    asked = lambda **changes: session.calls.append(("run.change", changes))  # noqa: E731
    run = session.shown(*fakes.log(60)[:10], unfreezes(13, "head", "block 2", "head"), change=asked)
    assert until(lambda: states(panel.state)["block 2"])
    state = press(panel, "toggle", name="block 1")
    assert session.calls[-1] == ("run.change", {"trainable": "last 2"})
    assert states(state)["block 1"]
    assert state["effect"] == "layers: from the next step"
    before = {"trainable": ("block 2", "head"), "unfreeze_to": "all"}
    run.tell(PlanAdjusted(step=20, before=before, after={"trainable": "last 2", "unfreeze_to": None}))
    said = "the unfreezing schedule ended at step 20: the layers were changed by hand"
    assert until(lambda: panel.state["schedule"] == said)
    assert panel.state["effect"] == "layers: since step 21"
    assert set(turns(panel.state).values()) == {None}


def test_another_choice_for_the_next_run_is_told_while_a_run_unfreezes(opened, backbone):
    session = FakeSession(UNFREEZING, backbone=backbone)
    panel = opened(FreezePanel, session)
    session.shown(*fakes.log(60)[:10], unfreezes(13, "head", "block 2", "head"))
    assert until(lambda: panel.state["schedule"] != "")
    session.change(trainable="last 1")
    assert until(lambda: panel.state["effect"] == "layers: at the next run")


def test_a_fork_continues_the_schedule_of_its_parent(opened, backbone):
    session = FakeSession(UNFREEZING, backbone=backbone)
    panel = opened(FreezePanel, session)
    parent = session.shown(*fakes.log(60)[:40], unfreezes(13, "head", "block 2", "head"))
    parent.tell(unfreezes(27, ("block 2", "head"), "block 1", "block 2", "head"))
    fork = parent.fork(20)
    fork.plan = fork.plan.change(trainable=("block 2", "head"))  # as it was then
    fork.tell(fakes.log(60)[2])
    assert until(lambda: panel.state["schedule"] == "1 of 3 unfrozen · next block 1, after step 27")
    assert panel.state["effect"] == ""  # the fork does as the plan says, though it began with another block
    assert turns(panel.state)["block 2"] == "1st, unfrozen since step 14"


def test_a_fork_whose_parent_is_gone_says_nothing_that_it_does_not_know(opened, backbone):
    session = FakeSession(UNFREEZING, backbone=backbone)
    panel = opened(FreezePanel, session)
    session.shown(RunForked(parent="gone", step=3, changes={}), *fakes.log(60)[:10])
    assert until(lambda: panel._effects.is_live and panel.state["schedule"] == "")
    assert set(turns(panel.state).values()) == {None}


def test_adapters_have_turns_too(opened):
    plan = UNFREEZING.change(method="lora", trainable="last 1")
    state = opened(FreezePanel, FakeSession(plan, backbone=tiny.backbone("llama"))).state
    assert state["schedule"] == "1 block to be unfrozen · first block 1, after 67 % of the run"


def test_the_layers_are_marked_as_long_as_a_click_also_changes_the_run_under_way(opened, press, backbone):
    session = FakeSession(backbone=backbone)
    panel = opened(FreezePanel, session)
    assert not panel.state["is_live"]
    run = session.shown(*fakes.log(60)[:30])
    assert until(lambda: panel.state["is_live"])
    assert not press(panel, "lora", is_on=True)["is_live"]  # the run trains weights, so its layers stay
    assert press(panel, "lora", is_on=False)["is_live"]
    run.tell(fakes.log(60)[-1])
    assert until(lambda: not panel.state["is_live"])

import pytest
import tiny

from widgets.unfreezing import schedule, shortest, unfrozen
from workbench.events import PlanAdjusted
from workbench.plan.plan import Plan

PLAN = Plan().change(trainable="head", unfreeze_to="all")
FIRST = PlanAdjusted(
    step=3, before={"trainable": "head"}, after={"trainable": ["block 2", "head"]}, by="unfreezing"
)  # as a log from disk has it
SECOND = PlanAdjusted(
    step=5,
    before={"trainable": ["block 2", "head"]},
    after={"trainable": ["block 1", "block 2", "head"]},
    by="unfreezing",
)
BY_HAND = PlanAdjusted(
    step=4,
    before={"trainable": ["block 2", "head"], "unfreeze_to": "all"},
    after={"trainable": "last 1", "unfreeze_to": None},
)


@pytest.fixture(scope="module")
def blocks():
    return tiny.backbone("bert").blocks


def now(*changes):
    plan = PLAN
    for change in changes:
        plan = plan.change(**change.after)
    return plan


def test_before_a_run_each_block_has_its_turn_and_its_share_of_the_run(blocks):
    found = schedule(blocks, PLAN)
    assert found.order == ("block 2", "block 1", "embeddings")
    assert [found.of(name)["words"] for name in found.order] == [
        "1st to be unfrozen, after 22 % of the run",
        "2nd to be unfrozen, after 44 % of the run",
        "3rd to be unfrozen, after 67 % of the run",
    ]
    assert found.of("head") is None
    assert found.line() == "3 blocks to be unfrozen · first block 2, after 22 % of the run"


def test_in_a_run_they_have_steps_and_those_unfrozen_say_since_when(blocks):
    found = schedule(blocks, now(FIRST, SECOND), [FIRST, SECOND], steps=12)
    assert [found.of(name) for name in found.order] == [
        {"turn": "1st", "when": "", "since": "since 4", "words": "1st, unfrozen since step 4"},
        {"turn": "2nd", "when": "", "since": "since 6", "words": "2nd, unfrozen since step 6"},
        {"turn": "3rd", "when": "step 8", "since": "", "words": "3rd to be unfrozen, after step 8"},
    ]
    assert found.line() == "2 of 3 unfrozen · next embeddings, after step 8"
    third = PlanAdjusted(step=8, before=SECOND.after, after={"trainable": "all"}, by="unfreezing")
    assert schedule(blocks, now(FIRST, SECOND, third), [FIRST, SECOND, third], steps=12).line() == (
        "3 of 3 unfrozen · the last one since step 9"
    )


@pytest.mark.parametrize(
    ("changes", "steps", "when"),
    [
        ({"unfreeze_every": 40}, 0, ["after step 40", "after step 80", "after step 120"]),
        ({"unfreeze_every": 40}, 90, ["after step 40", "after step 80", "after step 120, when the run is over"]),
        ({"unfreeze_on": "plateau"}, 90, ["when the loss stops improving"] * 3),
        (
            {"unfreeze_on": "plateau", "stop_metric": "macro_f1"},
            0,
            ["when the F1 (macro) stops improving"] * 3,
        ),
    ],
)
def test_the_time_is_told_as_the_plan_sets_it(blocks, changes, steps, when):
    assert [words for _, words in schedule(blocks, PLAN.change(**changes), steps=steps).when] == when


def test_a_person_who_changes_the_layers_ends_the_schedule(blocks):
    found = schedule(blocks, now(FIRST, BY_HAND), [FIRST, BY_HAND], steps=12)
    assert found.order == ()
    assert found.line() == "the unfreezing schedule ended at step 4: the layers were changed by hand"


def test_a_schedule_that_a_fork_began_counts_from_there(blocks):
    begun = PlanAdjusted(step=6, before={"unfreeze_to": None}, after={"unfreeze_to": "all"}, scheduled=True)
    found = schedule(blocks, now(BY_HAND, begun), [FIRST, BY_HAND, begun], steps=12)
    assert [found.of(name)["words"] for name in found.order] == [
        "1st to be unfrozen, after step 8",
        "2nd to be unfrozen, after step 10",
    ]


@pytest.mark.parametrize("changes", [{"unfreeze_to": None}, {"trainable": "all"}, {"unfreeze_to": "last 9"}])
def test_without_a_schedule_that_can_be_nothing_is_said(blocks, changes):
    found = schedule(blocks, PLAN.change(**changes))
    assert (found.order, found.line()) == ((), "")


def test_the_block_that_was_unfrozen_is_named_whatever_the_plan_said_before():
    assert unfrozen(FIRST) == ["block 2"]
    assert unfrozen(SECOND) == ["block 1"]
    before, after = {"trainable": ("block 1",)}, {"trainable": ("block 1", "head")}
    assert unfrozen(PlanAdjusted(step=1, before=before, after=after, by="unfreezing")) == ["head"]


def test_names_are_said_as_a_preset_where_one_fits():
    every = ["embeddings", "block 1", "block 2", "head"]
    assert shortest(("head",), every) == "head"
    assert shortest(("block 2", "head"), every) == "last 1"
    assert shortest(tuple(every), every) == "all"
    assert shortest(("block 1",), every) == ("block 1",)

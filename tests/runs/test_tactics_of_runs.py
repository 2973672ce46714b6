"""Early stopping and an unfreezing schedule together survive whatever interrupts a run, to the same bits and log."""

import shutil

import deep
import pytest
import tiny
import torch
from tiny_runs import LONG, a_tiny_backbone_by_that_name, assert_same, carried_out, facts, gone_on  # noqa: F401

from workbench import run
from workbench.errors import PlanError
from workbench.events import PlanAdjusted, RunEnded, StepEnded
from workbench.runs.disk.control import Control
from workbench.runs.disk.run_folder import RunFolder
from workbench.runs.fork import fork
from workbench.runs.moment import Moment
from workbench.runs.preparation import Preparation

pytestmark = pytest.mark.slow

# Nothing but the first evaluation counts as an improvement, so that both have to count on over every interruption.
BOTH = LONG.change(
    trainable="head", unfreeze_to="all", stop_patience=5, stop_min_delta=9.0, evaluate_every=2, max_steps=16
)
SCHEDULES = {
    "steps": BOTH.change(unfreeze_every=3),
    "plateau": BOTH.change(unfreeze_on="plateau", unfreeze_patience=2),
}
STOPPED_AT = 10  # evaluations after steps 0 (the best one), 2, 4, 6, 8, 10


@pytest.fixture(params=SCHEDULES)
def plan(request):
    return SCHEDULES[request.param]


def ended(folder):
    return [event for event in folder.events() if isinstance(event, RunEnded)][-1]


def unfrozen(folder):
    return [event.step for event in folder.events() if isinstance(event, PlanAdjusted) and event.by == "unfreezing"]


def test_interrupted_at_twenty_random_places(tmp_path, plan):
    whole = carried_out(plan, tmp_path / "whole")
    assert unfrozen(whole) == ([3, 6, 9] if plan.retention.unfreeze_every else [4, 8])
    assert (ended(whole).step, ended(whole).best_step) == (STOPPED_AT, 0)
    places = range(2, sum(1 for _ in whole.events()) - 1)
    chosen = deep.draw().sample(places, deep.cases(20, len(places)))
    copies = []

    def copy(number, folder):
        if number in chosen:
            copies.append(RunFolder(shutil.copytree(folder, tmp_path / f"copy-{number:03d}")))

    assert_same(whole, carried_out(plan, tmp_path / "again", at_event=copy))
    for folder in copies:
        assert_same(whole, gone_on(folder))
        assert ended(folder) == ended(whole)


def test_paused_and_stopped_in_between(tmp_path, plan):
    whole = carried_out(plan, tmp_path / "whole")
    folder = RunFolder.create(plan.change(task="text-classification", source="table"), tmp_path / "stopped")
    for last in (1, 4, 7, 9):
        control = Control(folder.path)
        for event in run(folder=folder, table=tiny.frame(), control=control):
            if isinstance(event, StepEnded) and event.step == last:
                control.stop()
    assert_same(whole, gone_on(folder))


def test_any_step_can_be_gone_back_to(tmp_path, plan):
    whole = carried_out(plan.change(keep_last=None, checkpoint_every=1), tmp_path / "whole")
    preparation = Preparation(tiny.frame())
    near = {step: Moment(whole, preparation, step).learner for step in range(1, STOPPED_AT + 1)}
    shutil.rmtree(whole.path / "checkpoints")
    for step, learner in near.items():
        far = Moment(whole, preparation, step)  # repeated from the backbone
        assert far.learner.trainable == learner.trainable
        ours, theirs = far.learner.model.state_dict(), learner.model.state_dict()
        assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
        assert far.differs == ""
        assert far.learner.progress == learner.progress
        states = [[tactic.state_dict() for tactic in one.tactics] for one in (far.learner, learner)]
        assert states[0] == states[1]


@pytest.mark.parametrize("step", [2, 5, 8, STOPPED_AT - 1])
def test_a_fork_without_a_change_ends_where_its_parent_did(tmp_path, plan, step):
    whole, preparation = carried_out(plan, tmp_path), Preparation(tiny.frame())
    twin = fork(whole, preparation, step, {})
    list(run(folder=twin, preparation=preparation))
    assert ended(twin) == ended(whole)
    assert [fact for fact in facts(twin) if fact.step > step] == [fact for fact in facts(whole) if fact.step > step]


def test_a_fork_that_would_stop_at_once_is_refused(tmp_path):
    whole, preparation = carried_out(SCHEDULES["steps"], tmp_path), Preparation(tiny.frame())
    with pytest.raises(PlanError, match=r"would end at once: stopped early(.|\n)*higher stop_patience"):
        fork(whole, preparation, STOPPED_AT, {"learning_rate": 0.1})


def test_a_fork_with_more_patience_trains_on(tmp_path, plan):
    whole, preparation = carried_out(plan, tmp_path), Preparation(tiny.frame())
    twin = fork(whole, preparation, STOPPED_AT, {"stop_patience": 7})
    list(run(folder=twin, preparation=preparation))
    assert ended(twin).step == STOPPED_AT + 4
    twin = fork(whole, preparation, STOPPED_AT, {"stop_patience": None})
    list(run(folder=twin, preparation=preparation))
    assert (ended(twin).step, ended(twin).reason) == (16, "completed")

"""Whole runs of a tiny model, interrupted or not, and what must be the same afterwards."""

import pytest
import tiny
import torch
from safetensors.torch import load_file

from workbench import models, run
from workbench.events import PlanAdjusted, StepEnded
from workbench.plan.plan import Plan
from workbench.runs.checkpoints import all_in
from workbench.runs.disk.control import Control
from workbench.runs.disk.run_folder import RunFolder
from workbench.runs.replay import REPEATED_EVENTS

PLAN = Plan().change(
    backbone="tiny", trainable="all", batch_size=8, max_steps=6, evaluate_every=3, precision="fp32", learning_rate=0.01
)


@pytest.fixture(autouse=True)
def a_tiny_backbone_by_that_name(monkeypatch):
    def load(name, *, task, labels=(), seed=0):
        assert name == "tiny"
        return tiny.backbone("gpt2" if task == "language-modeling" else "bert", task=task, labels=len(labels))

    monkeypatch.setattr(models, "load", load)


LONG = PLAN.change(
    max_steps=13, epochs=50, accumulation_steps=2, batch_size=5, dropout=0.2, evaluate_every=4, trainable="head"
)


ADJUSTMENTS = {
    3: {"learning_rate": 0.002},
    5: {"trainable": "last 1"},
    7: {"evaluate_every": 2},
    9: {"trainable": "all"},
}
ADJUSTMENTS |= {10: {"trainable": "head"}, 11: {"learning_rate": 0.02}}


def carried_out(plan, root, *, adjustments=(), at_event=lambda number, folder: None, task="text-classification"):
    """Carry out a plan with changes made after given steps; return its folder."""
    folder = RunFolder.create(plan.change(task=task, source="table"), root)
    control = Control(folder.path)
    asked = dict(adjustments)
    for number, event in enumerate(run(folder=folder, table=tiny.frame(), control=control)):
        at_event(number, folder.path)
        if isinstance(event, StepEnded) and event.step in asked:
            control.change(**asked.pop(event.step))
    return folder


def facts(folder):
    return [event for event in folder.events() if isinstance(event, REPEATED_EVENTS)]


def ends(folder):
    newest = all_in(folder.path / "checkpoints")[-1]
    return {name: load_file(newest.path / f"{name}.safetensors") for name in ("weights", "optimizer")}


def assert_same(one, other):
    assert facts(one) == facts(other)
    mine, theirs = ends(one), ends(other)
    for part in mine:
        assert mine[part].keys() == theirs[part].keys()
        assert all(torch.equal(mine[part][name], theirs[part][name]) for name in mine[part])


def gone_on(folder, adjustments=()):
    control = Control(folder.path)
    events = list(folder.events())
    asked, last = dict(adjustments), max((event.step for event in events if isinstance(event, StepEnded)), default=0)
    for event in events:
        if isinstance(event, PlanAdjusted):
            asked.pop(event.step, None)
    if last in asked:  # asked for, and not heard before the crash
        control.change(**asked.pop(last))
    for event in run(folder=folder, table=tiny.frame(), control=control):
        if isinstance(event, StepEnded) and event.step in asked:
            control.change(**asked.pop(event.step))
    return folder

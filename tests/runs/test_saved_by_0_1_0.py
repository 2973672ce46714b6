"""Run folders that version 0.1.0 wrote (tests/runs/saved_by_0_1_0) open in every way in which a run can be opened."""

import shutil
from pathlib import Path

import pytest
import tiny
import torch
import transformers as tf

import workbench as wb
from workbench.events import PlanAdjusted, ReplayDiverged, RunResumed, StepEnded
from workbench.runs.disk.run_list import summaries

SAVED = Path(__file__).parent / "saved_by_0_1_0"


@pytest.fixture
def attach(tmp_path):
    """Attach to a copy of one of the runs, with its rows and its model."""
    shutil.copytree(SAVED / "runs", tmp_path / "runs")
    model = tf.AutoModelForSequenceClassification.from_pretrained(SAVED / "backbone")
    tokenizer = tf.AutoTokenizer.from_pretrained(SAVED / "backbone")

    def opened(name):
        return wb.attach(name, tmp_path / "runs", table=tiny.frame(), model=model, preprocessor=tokenizer)

    return opened


def losses(run):
    return {event.step: event.loss for event in run.events if isinstance(event, StepEnded)}


def test_they_are_listed():
    rows = {row.name: (row.state, row.step) for row in summaries(SAVED / "runs")}
    assert rows == {"completed": ("completed", 10), "fork": ("completed", 10), "stopped": ("stopped", 6)}


def test_the_models_that_they_kept_are_given_back(attach):
    run = attach("completed")
    assert run.plan.transfer.trainable == "last 1"
    assert any(isinstance(event, PlanAdjusted) for event in run.events)
    kept = run.model("last").state_dict()
    replayed = run.at(10).model().state_dict()
    assert all(torch.allclose(kept[name], tensor, atol=1e-5) for name, tensor in replayed.items())


@pytest.mark.parametrize("name", ["completed", "fork"])
def test_any_step_can_be_gone_back_to(attach, name):
    run = attach(name)
    moment = run.at(6)
    assert moment.learner.step == 6
    assert moment.loss == losses(run)[6]
    assert moment.learner.progress.evaluated_step == 4
    again = run.at(9).learner
    assert again.progress.adjustments == sum(isinstance(event, PlanAdjusted) for event in run.events)


def test_one_that_was_stopped_is_resumed_from_its_checkpoint(attach):
    run = attach("stopped")
    run.resume().wait(60)
    assert (run.state, run.step) == ("completed", 10)
    assert any(isinstance(event, RunResumed) and event.step == 6 for event in run.events)
    assert not any(isinstance(event, ReplayDiverged) for event in run.events)


def test_one_can_be_forked(attach):
    run = attach("completed")
    twin = run.fork(step=8, stop_patience=3)
    twin.wait(60)
    assert (twin.state, twin.step) == ("completed", 10)
    assert losses(twin)[10] == pytest.approx(losses(run)[10], rel=1e-5)

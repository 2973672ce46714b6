import shutil

import numpy as np
import pytest
import tiny
import torch
from datasets import ClassLabel
from tiny_runs import (
    ADJUSTMENTS,
    LONG,
    PLAN,
    a_tiny_backbone_by_that_name,  # noqa: F401
    carried_out,
)

from workbench import models, run
from workbench.errors import RunError
from workbench.events import EvaluationEnded, StepEnded
from workbench.runs.disk.run_folder import RunFolder
from workbench.runs.fork import fork
from workbench.runs.moment import Moment
from workbench.runs.preparation import Preparation

pytestmark = pytest.mark.slow

KEPT = LONG.change(keep_last=None, checkpoint_every=1)


@pytest.fixture(scope="module")
def preparation():
    return Preparation(tiny.frame())


@pytest.mark.parametrize("method", ["weights", "lora"])
def test_a_step_without_a_checkpoint_is_reached_by_repeating(tmp_path, preparation, method):
    plan = KEPT.change(method=method, trainable="all" if method == "lora" else "last 1")
    adjustments = ADJUSTMENTS if method == "weights" else {5: {"trainable": ("block 2",)}, 9: {"trainable": "all"}}
    whole = carried_out(plan, tmp_path, adjustments=adjustments)
    sparse = carried_out(plan.change(checkpoint_every=None, keep_last=1), tmp_path, adjustments=adjustments)
    for step in (2, 5, 7, 11):
        kept, repeated = Moment(whole, preparation, step), Moment(sparse, preparation, step)
        mine, theirs = kept.model().state_dict(), repeated.model().state_dict()
        assert all(torch.equal(mine[name], theirs[name]) for name in mine)
        assert (kept.differs, repeated.differs) == ("", "")
        assert repeated.learner.step == step


def test_a_moment_says_what_was_measured_and_measures_the_same(tmp_path, preparation):
    folder = carried_out(LONG, tmp_path)
    logged = {event.step: event for event in folder.events() if isinstance(event, EvaluationEnded)}
    moment = Moment(folder, preparation, 8)
    assert moment.metrics == logged[8].metrics
    assert moment.loss == next(e.loss for e in folder.events() if isinstance(e, StepEnded) and e.step == 8)
    assert moment.measure("validation") == dict(logged[8].metrics)
    assert Moment(folder, preparation, 0).loss is None
    assert "after 8 steps" in repr(moment)


def test_progress_of_repeating_is_told(tmp_path, preparation):
    folder = carried_out(LONG.change(evaluate_every=13), tmp_path)
    told = []
    Moment(folder, preparation, 3, progress=lambda done, of: told.append((done, of))).model()
    assert told == [(1, 3), (2, 3), (3, 3)]


@pytest.mark.parametrize("task", ["text-classification", "language-modeling"])
def test_samples_are_the_same_rows_at_every_step(tmp_path, preparation, task):
    folder = carried_out(LONG, tmp_path, task=task)
    early, late = Moment(folder, preparation, 0).samples(4), Moment(folder, preparation, 13).samples(4)
    assert list(early.index) == list(late.index)
    assert len(early) == 4
    if task == "text-classification":
        assert list(early.columns) == ["text", "label", "predicted", "probability"]
        assert list(early.text) == list(late.text)
        assert {*late.predicted} <= {"negative", "positive"}
        assert list(early.probability) != list(late.probability)
    else:
        assert list(early.columns) == ["prompt", "completion", "original"]


def test_a_moment_before_a_fork_is_its_parents(tmp_path, preparation):
    parent = carried_out(LONG, tmp_path, adjustments=ADJUSTMENTS)
    twin = fork(parent, preparation, 6, {"learning_rate": 0.5})
    list(run(folder=twin, preparation=preparation))
    mine, theirs = (
        Moment(twin, preparation, 4).model().state_dict(),
        Moment(parent, preparation, 4).model().state_dict(),
    )
    assert all(torch.equal(mine[name], theirs[name]) for name in mine)
    late = Moment(twin, preparation, 12)
    late.model()
    assert late.differs == ""
    with pytest.raises(RunError, match="a whole number from 0 to 13"):
        Moment(twin, preparation, 14)
    shutil.rmtree(parent.path)
    with pytest.raises(RunError, match=f"was forked at step 6 of {parent.name}, which does not exist"):
        Moment(twin, preparation, 4)


def test_samples_of_an_image_run_have_their_pictures(tmp_path, monkeypatch):
    load = models.load
    monkeypatch.setattr(
        models,
        "load",
        lambda name, **options: tiny.backbone("vit") if "image" in options["task"] else load(name, **options),
    )
    rows = tiny.rows("vit", 40).cast_column("label", ClassLabel(names=["cat", "dog"]))
    plan = PLAN.change(source="table", task="image-classification", max_steps=2)
    folder = RunFolder.create(plan, tmp_path)
    preparation = Preparation(rows)
    list(run(folder=folder, preparation=preparation))
    found = Moment(folder, preparation, 2).samples(3)
    assert list(found.columns) == ["image", "label", "predicted", "probability"]
    assert {*found.label} <= {"cat", "dog"}
    assert found._repr_html_().count("data:image/png;base64,") == 3
    assert found.image.iloc[0].size == (16, 16)
    worst = Moment(folder, preparation, 2).results().mistakes
    assert list(worst.columns) == ["row", "image", "label", "predicted", "probability", "loss"]
    for line in worst.itertuples():
        assert np.array(line.image).tolist() == np.array(rows[line.row]["image"]).tolist()
        assert rows.features["label"].names[rows[line.row]["label"]] == line.label

import errno
import math
import shutil

import pytest
import tiny
import torch
import transformers
from tiny_learner import weights
from tiny_runs import (
    LONG,
    a_tiny_backbone_by_that_name,  # noqa: F401
)

from workbench import run
from workbench.errors import LossError, RunError
from workbench.events import (
    CheckpointFailed,
    CheckpointSaved,
    EvaluationEnded,
    FrozenMoved,
    ModelSaved,
    RunEnded,
    RunFailed,
    StepEnded,
)
from workbench.runs import checkpoints
from workbench.runs.disk.run_folder import RunFolder
from workbench.runs.moment import Moment
from workbench.runs.preparation import Preparation
from workbench.training import evaluate

pytestmark = pytest.mark.slow

PLAN = LONG.change(max_steps=12, evaluate_every=2)


def heard(tmp_path, plan=PLAN, *, poke=lambda learner, event: None, monkeypatch=None):
    made = []
    if monkeypatch is not None:
        from workbench import run as _  # noqa: F401
        from workbench.runs.run import _ActiveRun

        built = _ActiveRun._build_learner
        monkeypatch.setattr(_ActiveRun, "_build_learner", lambda story: made.append(built(story)) or made[-1])
    events = []
    for event in run(plan, table=tiny.frame(), runs=tmp_path):
        events.append(event)
        if made:
            poke(made[-1], event)
    (folder,) = tmp_path.iterdir()
    return events, RunFolder(folder)


@pytest.mark.parametrize(("keep_last", "newest"), [(1, {12}), (2, {10, 12}), (None, {2, 4, 6, 8, 10, 12})])
def test_the_best_and_the_newest_checkpoints_stay(tmp_path, keep_last, newest):
    events, folder = heard(tmp_path, PLAN.change(keep_last=keep_last, learning_rate=0.5))
    saved = [event for event in events if isinstance(event, CheckpointSaved)]
    kept = checkpoints.all_in(folder.path / "checkpoints")
    assert {checkpoint.step for checkpoint in kept} == newest | {events[-1].best_step} - {0}
    assert saved[-1].kept == tuple(checkpoint.step for checkpoint in kept)
    assert saved[-1].kept_bytes == sum(checkpoint.size_bytes for checkpoint in kept)


def test_every_checkpoint_says_how_many_frozen_tensors_are_what_they_were(tmp_path):
    events, _ = heard(tmp_path, PLAN.change(trainable="head"))
    model = tiny.backbone("bert").model
    frozen = {n for n, _ in model.named_parameters() if not n.startswith(("classifier", "bert.pooler"))}
    buffers = {n for n, _ in model.named_buffers()}
    assert {e.frozen_tensors for e in events if isinstance(e, CheckpointSaved)} == {len(frozen) + len(buffers)}
    assert not [event for event in events if isinstance(event, FrozenMoved)]


@pytest.mark.parametrize("what", ["parameter", "buffer"])
def test_a_frozen_tensor_that_moves_is_told_at_the_next_checkpoint(tmp_path, monkeypatch, what):
    def poke(learner, event):
        if isinstance(event, StepEnded) and event.step == 3:
            tensors = learner.model.named_parameters() if what == "parameter" else learner.model.named_buffers()
            name, tensor = next((n, t) for n, t in tensors if "embeddings" in n)
            poked.append(name)
            with torch.no_grad():
                tensor.view(-1)[1] += 1

    poked = []
    events, folder = heard(tmp_path, poke=poke, monkeypatch=monkeypatch)
    first = next(event for event in folder.events() if isinstance(event, FrozenMoved))
    assert (first.step, first.tensors, first.blocks) == (4, tuple(poked), ("embeddings",))
    counts = [event.frozen_tensors for event in events if isinstance(event, CheckpointSaved)]
    assert counts[1] == counts[0] - 1


@pytest.mark.parametrize("method", ["weights", "lora"])
def test_a_run_leaves_a_model_that_plain_transformers_loads(tmp_path, method):
    plan = PLAN.change(method=method, trainable="all", learning_rate=0.03)
    events, folder = heard(tmp_path, plan)
    saved = events[-2]
    assert isinstance(saved, ModelSaved)
    assert isinstance(events[-1], RunEnded)
    assert (saved.which, saved.step) == ("best", events[-1].best_step)
    names = {"folder": str(folder.path / saved.folder)}
    exec(saved.load, names)
    expected = Moment(folder, Preparation(tiny.frame()), saved.step).model()
    found = weights(names["model"])
    assert all(torch.equal(found[name], tensor) for name, tensor in weights(expected).items())
    assert transformers.AutoTokenizer.from_pretrained(folder.path / saved.folder).pad_token == "[PAD]"
    assert saved.size_bytes == sum(file.stat().st_size for file in (folder.path / saved.folder).iterdir())


def test_a_block_that_learnt_only_after_the_best_step_is_not_in_the_best_model(tmp_path, monkeypatch):
    plan = PLAN.change(max_steps=8, learning_rate=0.03, schedule="constant", trainable="head")
    folder = RunFolder.create(plan.change(source="table", task="text-classification"), tmp_path)
    from workbench.runs.disk.control import Control

    control = Control()
    for event in run(folder=folder, table=tiny.frame(), control=control):
        if isinstance(event, EvaluationEnded) and event.step == 4:
            control.change(learning_rate=5.0, trainable="all")  # it gets no better from here
    ended, saved = list(folder.events())[-1], list(folder.events())[-2]
    assert 0 < ended.best_step <= 4
    assert saved.step == ended.best_step
    model = transformers.AutoModelForSequenceClassification.from_pretrained(folder.path / "model")
    before = weights(tiny.backbone("bert").model)
    assert torch.equal(before["bert.embeddings.word_embeddings.weight"], model.bert.embeddings.word_embeddings.weight)


@pytest.mark.parametrize(("choice", "which"), [("last", "last"), ("none", None)])
def test_the_plan_says_which_model_is_left(tmp_path, choice, which):
    events, folder = heard(tmp_path, PLAN.change(save_model=choice))
    saved = next((event for event in events if isinstance(event, ModelSaved)), None)
    assert (saved and saved.which) == which
    assert (folder.path / "model").exists() is (which is not None)


def test_a_checkpoint_that_can_not_be_written_is_told_and_ends_nothing(tmp_path, monkeypatch):
    real, calls = checkpoints.save_file, []

    def full(tensors, path):
        calls.append(path)
        if len(calls) in (3, 4):
            raise OSError(errno.ENOSPC, "No space left on device")
        real(tensors, path)

    monkeypatch.setattr(checkpoints, "save_file", full)
    events, folder = heard(tmp_path)
    failed = [event for event in events if isinstance(event, CheckpointFailed)]
    assert [event.what for event in failed] == ["No space left on device"] * 2
    assert events[-1].reason == "completed"
    assert not list((folder.path / "checkpoints").glob(".*"))
    for checkpoint in checkpoints.all_in(folder.path / "checkpoints"):
        checkpoints.verified(checkpoint)


def test_a_run_whose_last_weights_can_not_be_kept_is_not_complete_and_can_go_on(tmp_path, monkeypatch):
    real, is_full = checkpoints.save_file, []

    def full(tensors, path):
        if is_full:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(tensors, path)

    monkeypatch.setattr(checkpoints, "save_file", full)
    story = run(PLAN, table=tiny.frame(), runs=tmp_path)
    next(event for event in story if isinstance(event, StepEnded) and event.step == 11)
    is_full.append(True)
    with pytest.raises(RunError, match="weights of the last step"):
        list(story)
    (folder,) = (RunFolder(path) for path in tmp_path.iterdir())
    assert isinstance(list(folder.events())[-1], RunFailed)
    is_full.clear()
    assert list(run(folder=folder, table=tiny.frame()))[-1].reason == "completed"
    assert [event.step for event in folder.events() if isinstance(event, StepEnded)] == list(range(1, 13))


def test_what_a_process_left_behind_that_died_while_it_saved_is_cleared_away(tmp_path):
    _, folder = heard(tmp_path, PLAN.change(keep_last=None))
    root = folder.path / "checkpoints"
    (root / ".partial-step-000013-1").mkdir()
    (root / "step-000012").rename(root / ".old-step-000012")
    shutil.copytree(root / "step-000010", root / ".old-step-000010")
    checkpoints.tidy(root)
    assert sorted(path.name for path in root.iterdir()) == [f"step-{step:06d}" for step in (2, 4, 6, 8, 10, 12)]
    assert checkpoints.verified(checkpoints.at(root, 12))


def test_the_best_that_could_be_kept_stays_when_a_better_one_can_not(tmp_path, monkeypatch):
    real, calls = checkpoints.save_file, []

    def full(tensors, path):
        calls.append(path)
        if "step-000004" in str(path):
            raise OSError(errno.ENOSPC, "No space left on device")
        real(tensors, path)

    monkeypatch.setattr(checkpoints, "save_file", full)
    events, folder = heard(tmp_path, PLAN.change(keep_last=1, learning_rate=0.01))
    best = {event.step for event in events if isinstance(event, EvaluationEnded) and event.best}
    kept = {checkpoint.step for checkpoint in checkpoints.all_in(folder.path / "checkpoints")}
    assert 12 in kept
    assert kept - {12} <= best


def test_a_checkpoint_that_somebody_deletes_ends_nothing(tmp_path):
    for event in run(PLAN.change(keep_last=None), table=tiny.frame(), runs=tmp_path):
        if isinstance(event, CheckpointSaved) and event.step == 4:
            (folder,) = tmp_path.iterdir()
            shutil.rmtree(folder / "checkpoints" / "step-000002")
    assert isinstance(event, RunEnded)


def test_a_validation_loss_that_is_no_number_stops_the_run(tmp_path, monkeypatch):
    monkeypatch.setattr(evaluate.cross_entropy, "summed", lambda logits, targets: logits.sum() * math.nan)
    story = run(PLAN, table=tiny.frame(), runs=tmp_path)
    with pytest.raises(LossError, match="after step 0 the validation loss is nan"):
        list(story)

import threading

import pytest
import tiny
import torch
from tiny_runs import PLAN, a_tiny_backbone_by_that_name  # noqa: F401

from workbench import run
from workbench.errors import DataError, RunError
from workbench.events import CheckpointSaved, EvaluationEnded, RunEnded, RunFailed, StageStarted, StepEnded
from workbench.runs import checkpoints
from workbench.runs.disk.run_folder import RunFolder
from workbench.runs.disk.run_list import summaries
from workbench.runs.run import Control
from workbench.training import engine


def test_the_whole_story_is_in_the_log_before_it_is_told(tmp_path):
    heard = []
    for event in run(PLAN, table=tiny.frame(), runs=tmp_path):
        (folder,) = tmp_path.iterdir()
        logged = list(RunFolder(folder).events())
        assert logged[-1] == event
        heard.append(event)
    assert next(event.stage for event in heard if isinstance(event, StageStarted)) == "reading the data"
    assert heard[-1].reason == "completed"
    assert summaries(tmp_path)[0].state == "completed"


def stages(events):
    return [event.stage for event in events if isinstance(event, StageStarted)]


def test_each_thing_that_takes_time_before_the_first_step_is_named(tmp_path):
    first = run(PLAN, table=tiny.frame(), runs=tmp_path)
    begun = []
    while not (begun and isinstance(begun[-1], StepEnded)):
        begun.append(next(first))
    loading = ["reading the data", "loading the backbone", "encoding the data"]
    assert stages(begun) == [*loading, "finding the fastest settings (once for each model and batch size)"]
    first.close()
    folder = RunFolder(next(tmp_path.iterdir()))
    assert stages(run(folder=folder, table=tiny.frame())) == [*loading, "restoring the checkpoint"]


def test_leaving_off_ends_the_run_with_a_usable_checkpoint(tmp_path):
    story = run(PLAN, table=tiny.frame(), runs=tmp_path)
    for event in story:
        if isinstance(event, StepEnded) and event.step == 2:
            break
    story.close()
    (folder,) = tmp_path.iterdir()
    *_, last = RunFolder(folder).events()
    assert last == RunEnded(step=2, reason="stopped by the user", best_step=0, best_loss=last.best_loss)
    assert checkpoints.verified(checkpoints.at(folder / "checkpoints", 2))


def test_every_so_many_steps_and_at_each_new_best_a_checkpoint_is_saved(tmp_path):
    events = list(
        run(
            PLAN.change(max_steps=10, checkpoint_every=4, evaluate_every=1, keep_last=None),
            table=tiny.frame(),
            runs=tmp_path,
        )
    )
    best = [event.step for event in events if isinstance(event, EvaluationEnded) and event.best and event.step]
    (folder,) = tmp_path.iterdir()
    kept = {checkpoint.step for checkpoint in checkpoints.all_in(folder / "checkpoints")}
    assert kept == {4, 8, 10, *best}
    saved = [event for event in events if isinstance(event, CheckpointSaved)]
    assert [event.step for event in saved if event.best] == best


def test_a_failure_is_in_the_log_with_what_to_try(tmp_path):
    folder = RunFolder.create(PLAN.change(label_column="lable", source="table"), tmp_path)
    with pytest.raises(DataError):
        list(run(folder=folder, table=tiny.frame()))
    *_, last = folder.events()
    assert isinstance(last, RunFailed)
    assert "lable" in last.what
    assert "label" in last.hint


def test_same_plan_same_weights(tmp_path):
    files = []
    for name in ("one", "two"):
        list(run(PLAN.change(dropout=0.3), table=tiny.frame(), runs=tmp_path / name))
        files.append(next((tmp_path / name).glob("*/checkpoints/step-000006/weights.safetensors")).read_bytes())
    assert files[0] == files[1]


def test_the_global_random_state_is_left_alone(tmp_path):
    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    list(run(PLAN, table=tiny.frame(), runs=tmp_path))
    assert torch.equal(before, torch.random.get_rng_state())


def events_of(tmp_path):
    (folder,) = tmp_path.iterdir()
    return list(RunFolder(folder).events())


def test_leaving_off_after_the_end_leaves_it_completed(tmp_path):
    story = run(PLAN, table=tiny.frame(), runs=tmp_path)
    next(event for event in story if isinstance(event, RunEnded))
    story.close()
    ends = [event.reason for event in events_of(tmp_path) if isinstance(event, RunEnded)]
    assert ends == ["completed"]


def test_a_pause_at_the_very_end_does_not_keep_a_run_alive(tmp_path):
    control = Control()
    heard = []
    for event in run(PLAN, table=tiny.frame(), runs=tmp_path, control=control):
        heard.append(event)
        if isinstance(event, CheckpointSaved) and event.step == 6:
            control.pause()
            threading.Timer(0.1, control.resume).start()
    assert isinstance(heard[-1], RunEnded)


def test_an_interrupt_of_the_loop_keeps_the_model_and_ends_as_stopped(tmp_path, monkeypatch):
    took = engine.take_step

    def interrupted(learner):
        if learner.step == 3:
            raise KeyboardInterrupt
        return took(learner)

    monkeypatch.setattr(engine, "take_step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        list(run(PLAN, table=tiny.frame(), runs=tmp_path))
    *_, saved, ended = events_of(tmp_path)
    assert (saved.step, ended.step, ended.reason) == (3, 3, "stopped by the user")


def test_a_loss_that_is_no_number_leaves_the_weights_of_the_step_before(tmp_path, monkeypatch):
    took = engine.take_step

    def spoiled(learner):
        if learner.step == 4:
            raise RunError("the loss is nan", hint="a lower rate")
        return took(learner)

    monkeypatch.setattr(engine, "take_step", spoiled)
    with pytest.raises(RunError):
        list(run(PLAN, table=tiny.frame(), runs=tmp_path))
    *_, saved, failed = events_of(tmp_path)
    assert (saved.step, failed.step, failed.hint) == (4, 4, "a lower rate")


def test_a_disk_that_fails_is_told_though_it_can_not_be_logged(tmp_path, monkeypatch):
    def full(self, event):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(RunFolder, "append", full)
    heard = []
    with pytest.raises(OSError, match="No space"):
        heard.extend(iter_into(heard, run(PLAN, table=tiny.frame(), runs=tmp_path)))
    assert isinstance(heard[-1], RunFailed)
    assert "No space" in heard[-1].what


def iter_into(heard, story):
    for event in story:
        heard.append(event)
    return ()

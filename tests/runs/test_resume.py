"""A run that was broken off, stopped or killed goes on as if nothing had happened: same weights and log, to the bit."""

import contextlib
import errno
import shutil
import threading

import deep
import pytest
import tiny
from tiny_runs import ADJUSTMENTS, LONG, PLAN, a_tiny_backbone_by_that_name, assert_same, carried_out, gone_on  # noqa: F401

from workbench import run
from workbench.errors import RunError
from workbench.events import (
    ChangeRefused,
    CheckpointRefused,
    EvaluationEnded,
    PlanAdjusted,
    ReplayDiverged,
    RunEnded,
    RunPaused,
    RunResumed,
    RunStarted,
    StepEnded,
)
from workbench.runs.checkpoints import all_in
from workbench.runs.disk import checkpoint_files
from workbench.runs.disk.control import Control, request
from workbench.runs.disk.run_folder import RunFolder
from workbench.runs.replay import REPEATED_EVENTS

EACH = 10**6  # more events than any run here tells


def snapshots(plan, tmp_path, count, **options):
    """Carry out a run and copy its folder, as a crash would leave it, at so many random events."""
    draw = deep.draw()
    plan = plan.change(seed=draw.randrange(2**31))
    whole = carried_out(plan, tmp_path / "whole", **options)
    places = range(2, sum(1 for _ in whole.events()) - 1)
    chosen = draw.sample(places, min(count, len(places)))
    taken = []

    def copy(number, folder):
        if number in chosen:
            taken.append(shutil.copytree(folder, tmp_path / f"copy-{number:03d}"))

    again = carried_out(plan, tmp_path / "again", at_event=copy, **options)
    assert_same(whole, again)
    return whole, [RunFolder(path) for path in taken]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("task", "method", "count"),
    [
        ("text-classification", "weights", 20),
        ("language-modeling", "weights", 5),
        ("language-modeling", "lora", 5),
    ],
)
def test_a_killed_run_goes_on_to_the_same_weights_and_log(tmp_path, task, method, count):
    plan = LONG.change(method=method, trainable="all" if method == "lora" else "last 1")
    whole, copies = snapshots(plan, tmp_path, deep.cases(count, EACH), task=task)
    for folder in copies:
        assert_same(whole, gone_on(folder))


@pytest.mark.slow
def test_changes_made_while_it_ran_are_made_again(tmp_path):
    whole, copies = snapshots(LONG, tmp_path, deep.cases(10, EACH), adjustments=ADJUSTMENTS)
    assert len([event for event in whole.events() if isinstance(event, PlanAdjusted)]) == len(ADJUSTMENTS)
    for folder in copies:
        assert_same(whole, gone_on(folder, ADJUSTMENTS))


def test_a_stopped_run_goes_on_and_its_log_says_so(tmp_path):
    whole = carried_out(LONG, tmp_path / "whole")
    folder = RunFolder.create(LONG.change(source="table", task="text-classification"), tmp_path / "stopped")
    story = run(folder=folder, table=tiny.frame())
    next(event for event in story if isinstance(event, StepEnded) and event.step == 6)
    story.close()
    assert list(folder.events())[-1].reason == "stopped by the user"
    assert isinstance(next(run(folder=folder, table=tiny.frame())), RunResumed)
    assert_same(whole, gone_on(folder))
    assert list(folder.events())[-1].reason == "completed"


@pytest.mark.slow
def test_the_newest_valid_checkpoint_is_taken_and_a_broken_one_named(tmp_path):
    whole, (folder,) = snapshots(LONG, tmp_path, 1)
    shutil.rmtree(folder.path)
    shutil.copytree(whole.path, folder.path)
    log = (folder.path / "events.jsonl").read_text().splitlines(keepends=True)
    (folder.path / "events.jsonl").write_text("".join(line for line in log if '"RunEnded"' not in line))
    newest = all_in(folder.path / "checkpoints")[-1]
    (newest.path / "weights.safetensors").write_bytes(b"cut")
    heard = list(run(folder=folder, table=tiny.frame()))
    refused = [event for event in heard if isinstance(event, CheckpointRefused)]
    assert [newest.path.name in event.what for event in refused] == [True]
    assert_same(whole, folder)
    assert not [event for event in heard if isinstance(event, (StepEnded, EvaluationEnded))]  # all of it was logged


@pytest.mark.slow
def test_a_run_without_any_checkpoint_left_begins_again(tmp_path):
    whole, (folder,) = snapshots(LONG, tmp_path, 1)
    shutil.rmtree(folder.path / "checkpoints", ignore_errors=True)
    assert_same(whole, gone_on(folder))


@pytest.mark.slow
def test_other_numbers_than_logged_are_said(tmp_path):
    folder = snapshots(LONG, tmp_path, 8)[1][-1]
    shutil.rmtree(folder.path / "checkpoints", ignore_errors=True)
    log = folder.path / "events.jsonl"
    step = next(event for event in folder.events() if isinstance(event, StepEnded))
    log.write_text(log.read_text().replace(repr(step.loss), repr(step.loss + 1e-9)))
    heard = list(run(folder=folder, table=tiny.frame()))
    assert [event.step for event in heard if isinstance(event, ReplayDiverged)] == [step.step]


@pytest.mark.slow
def test_a_run_that_is_complete_or_carried_out_elsewhere_is_left_alone(tmp_path):
    folder = carried_out(LONG.change(max_steps=2), tmp_path)
    before = (folder.path / "events.jsonl").read_bytes()
    with pytest.raises(RunError, match=r"has ended \(completed\), so there is nothing to resume"):
        list(run(folder=folder, table=tiny.frame()))
    with RunFolder(folder.path).locked(), pytest.raises(RunError, match="another process"):
        list(run(folder=folder, table=tiny.frame()))
    assert (folder.path / "events.jsonl").read_bytes() == before


@pytest.mark.slow
def test_other_rows_than_the_run_began_with_are_refused(tmp_path):
    _, (folder,) = snapshots(LONG, tmp_path, 1)
    with pytest.raises(RunError, match="rows differ from those"):
        list(run(folder=folder, table=tiny.frame(60)))


@pytest.mark.slow
def test_a_wish_that_can_not_be_granted_is_told_and_ends_nothing(tmp_path):
    folder = RunFolder.create(LONG.change(source="table", task="text-classification"), tmp_path)
    for event in run(folder=folder, table=tiny.frame()):
        if isinstance(event, StepEnded) and event.step == 1:
            request(folder.path, "change", batch_size=3)
            request(folder.path, "change", trainable=["block 9"])
            request(folder.path, "change", learning_rate=0.004)
    refused = [event for event in folder.events() if isinstance(event, ChangeRefused)]
    assert ["batch_size" in refused[0].what, "block 9" in refused[1].what] == [True, True]
    adjusted = [event for event in folder.events() if isinstance(event, PlanAdjusted)]
    assert [event.after for event in adjusted] == [{"learning_rate": 0.004}]
    assert isinstance(list(folder.events())[-1], RunEnded)


@pytest.mark.slow
def test_a_half_written_last_line_is_cut_before_more_is_written(tmp_path):
    whole, (folder,) = snapshots(LONG, tmp_path, 1)
    with (folder.path / "events.jsonl").open("a") as log:
        log.write('{"event": "StepEn')
    assert_same(whole, gone_on(folder))


@pytest.mark.slow
def test_a_run_paused_at_every_event_is_an_unbroken_run(tmp_path):
    whole = carried_out(LONG, tmp_path / "whole")
    folder = RunFolder.create(LONG.change(source="table", task="text-classification"), tmp_path / "paused")
    control, pauses = Control(folder.path), 0
    for event in run(folder=folder, table=tiny.frame(), control=control):
        if isinstance(event, RunPaused):
            pauses += 1
            threading.Timer(0.002, control.resume).start()
        elif isinstance(event, REPEATED_EVENTS):
            control.pause()
    assert pauses > 20
    assert_same(whole, folder)


@pytest.mark.slow
def test_a_log_that_fails_at_any_event_has_no_hole_afterwards(tmp_path, monkeypatch):
    whole = carried_out(LONG, tmp_path / "whole", adjustments=ADJUSTMENTS)
    append, places = RunFolder.append, range(4, sum(1 for _ in whole.events()) - 3)
    for place in deep.draw().sample(places, deep.cases(8, len(places))):
        folder = RunFolder.create(LONG.change(source="table", task="text-classification"), tmp_path / str(place))
        count = []

        def failing(self, event, count=count, place=place):
            count.append(event)
            if len(count) == place:
                raise KeyboardInterrupt if place % 2 else RunError("full")
            append(self, event)

        control, asked = Control(folder.path), dict(ADJUSTMENTS)
        monkeypatch.setattr(RunFolder, "append", failing)
        with contextlib.suppress(RunError, KeyboardInterrupt):
            for event in run(folder=folder, table=tiny.frame(), control=control):
                if isinstance(event, StepEnded) and event.step in asked:
                    control.change(**asked.pop(event.step))
        monkeypatch.setattr(RunFolder, "append", append)
        assert_same(whole, gone_on(folder, ADJUSTMENTS))


@pytest.mark.slow
def test_a_stop_at_the_very_event_of_a_change_changes_nothing(tmp_path):
    whole = carried_out(LONG, tmp_path / "whole", adjustments={7: {"evaluate_every": 7}})
    folder = RunFolder.create(LONG.change(source="table", task="text-classification"), tmp_path / "stopped")
    control = Control(folder.path)
    for event in run(folder=folder, table=tiny.frame(), control=control):
        if isinstance(event, StepEnded) and event.step == 7:
            control.change(evaluate_every=7)
        if isinstance(event, PlanAdjusted):
            control.stop()
    assert_same(whole, gone_on(folder))


def test_a_change_that_comes_too_late_is_told(tmp_path):
    folder = RunFolder.create(LONG.change(source="table", task="text-classification"), tmp_path)
    control = Control(folder.path)
    for event in run(folder=folder, table=tiny.frame(), control=control):
        if isinstance(event, StepEnded) and event.step == 2:
            control.change(learning_rate=0.5)
            control.stop()
    refused = [event for event in folder.events() if isinstance(event, ChangeRefused)]
    assert ["learning_rate" in event.what for event in refused] == [True]


def test_too_many_open_files_condemn_no_checkpoint(tmp_path, monkeypatch):
    folder = RunFolder.create(LONG.change(source="table", task="text-classification"), tmp_path)
    story = run(folder=folder, table=tiny.frame())
    next(event for event in story if isinstance(event, StepEnded) and event.step == 6)
    story.close()
    before = all_in(folder.path / "checkpoints")

    def busy(path):
        raise OSError(errno.EMFILE, "Too many open files")

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint_files, "manifest_entry", busy)
        with pytest.raises(RunError, match="Too many open files"):
            list(run(folder=folder, table=tiny.frame()))
    assert all_in(folder.path / "checkpoints") == before
    assert list(run(folder=folder, table=tiny.frame()))[-1].reason == "completed"


def test_other_threads_than_before_are_said(tmp_path):
    folder = RunFolder.create(LONG.change(source="table", task="text-classification"), tmp_path)
    story = run(folder=folder, table=tiny.frame())
    next(event for event in story if isinstance(event, StepEnded) and event.step == 2)
    story.close()
    folder.note_environment(threads=77)
    started = next(event for event in run(folder=folder, table=tiny.frame()) if isinstance(event, RunStarted))
    assert any("threads 77 →" in note for note in started.notes)

"""Attaching to runs: whoever follows misses nothing, and tells death from slowness by the lock alone."""

import gc
import json
import os
import platform
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest
import tiny
from sample_events import STARTED, STEP
from tiny_runs import PLAN, a_tiny_backbone_by_that_name  # noqa: F401
from waiting import until

import workbench as wb
from workbench.errors import PlanError, RunError
from workbench.events import RunChosen, RunEnded, RunFailed, StepEnded
from workbench.plan.plan import Plan
from workbench.runs.disk import control, process, run_list
from workbench.runs.disk.run_folder import RunFolder
from workbench.session.session import Session
from workbench.session.workers import follow
from workbench.session.workers.follow import LogReader
from workbench.session.workers.post_mortem import Watch

pytestmark = pytest.mark.slow

LONG = PLAN.change(max_steps=400, epochs=1000, evaluate_every=200)


def step(number):
    return StepEnded(**{**vars(STEP), "step": number})


@pytest.fixture
def folder(tmp_path):
    return RunFolder.create(PLAN, tmp_path)


class Carrier:
    """Something that carries a run out, as far as anybody can tell from the folder: it holds the lock and writes."""

    def __init__(self, folder):
        self.folder = RunFolder(folder.path)
        self._held = self.folder.locked()
        self._held.__enter__()

    def tell(self, *events):
        for event in events:
            self.folder.append(event)

    def die(self):
        self.folder.close()
        self._held.__exit__(None, None, None)

    def end(self):
        self.tell(RunEnded(step=2, reason="completed"))
        self.die()


def attach(folder, **objects):
    return wb.attach(folder.name, runs=folder.path.parent, **objects)


def test_all_events_come_from_the_first_to_the_last_whenever_one_attaches(folder):
    carrier = Carrier(folder)
    carrier.tell(STARTED, *map(step, range(1, 4)))
    runs = [attach(folder)]
    assert (runs[0].step, runs[0].state, runs[0].where, runs[0].is_alive) == (3, "running", "elsewhere", True)
    for number in range(4, 200):
        carrier.tell(step(number))
        if number % 50 == 0:
            runs.append(attach(folder))
    carrier.end()
    for run in runs:
        assert run.wait(20).state == "completed"
        assert run.events == list(folder.events())
        assert not run.is_alive


def test_half_a_line_is_waited_for(folder):
    carrier = Carrier(folder)
    carrier.tell(STARTED)
    run = attach(folder)
    log = folder.path / "events.jsonl"
    line = json.dumps(wb.events.to_dict(STEP)) + "\n"
    with log.open("a") as file:
        file.write(line[:20])
        file.flush()
        time.sleep(0.3)
        assert run.events == [STARTED]
        file.write(line[20:])
    until(lambda: run.events == [STARTED, STEP])
    carrier.end()
    run.wait(20)


def test_one_that_is_silent_is_not_dead_as_long_as_it_holds_the_lock(folder):
    carrier = Carrier(folder)
    carrier.tell(STARTED)
    run = attach(folder)
    time.sleep(1)
    assert (run.state, run.is_alive, run.is_over) == ("running", True, False)
    assert run.seconds_silent > 0.9
    carrier.die()
    with pytest.raises(RunError, match="disappeared before the first step"):
        run.wait(20)


def test_two_who_see_it_die_write_one_failure_and_both_tell_it(folder):
    carrier = Carrier(folder)
    carrier.tell(STARTED, step(1), step(2))
    runs = [attach(folder) for _ in range(4)]
    assert run_list.summarize(folder).state == "running"
    carrier.die()
    for run in runs:
        with pytest.raises(RunError, match="after step 2"):
            run.wait(20)
        assert "run.resume()" in run.events[-1].hint
        assert run.state == "failed"
    (failed,) = [event for event in folder.events() if isinstance(event, RunFailed)]
    assert all(run.events[-1] == failed for run in runs)


def test_who_comes_second_to_the_dead_reads_what_the_first_one_wrote(folder):
    carrier = Carrier(folder)
    carrier.tell(STARTED, step(1))
    stories = [LogReader(folder), LogReader(folder)]
    for story in stories:
        story.read()
    carrier.die()
    told = [follow._log_death(story, Watch(folder.path), lambda: None) for story in stories]
    assert told[0] == told[1]
    assert [event.kind for event in folder.events()].count("RunFailed") == 1


def test_a_run_that_died_unseen_is_listed_so_and_told_when_one_attaches(folder):
    carrier = Carrier(folder)
    carrier.tell(STARTED, step(1))
    carrier.die()
    assert run_list.summarize(folder).state == "died"
    assert [row.state for row in Session(runs=folder.path.parent).unfinished()] == ["died"]
    run = attach(folder)
    with pytest.raises(RunError, match="notebook or program"):
        run.wait(20)
    assert run_list.summarize(folder).state == "died"  # it was interrupted, and nothing is wrong with it


def test_a_handle_shows_its_run_only_once_that_goes_on(tmp_path):
    list(wb.run(PLAN, runs=tmp_path))
    session = Session(PLAN, runs=tmp_path)
    (done,) = run_list.summaries(tmp_path)
    with pytest.raises(PlanError, match="no step is left"):
        session.handle(done.name).fork(done.step)
    with pytest.raises(RunError, match="has ended"):
        session.handle(done.name).resume()
    assert session.run is None
    fork = session.handle(done.name).fork(done.step, max_steps=2 * done.steps)
    assert session.run is fork
    assert fork.wait(60).step == 2 * done.step
    assert run_list.summarize(RunFolder(fork.folder)).parent_step == done.step


def test_a_run_that_died_unseen_is_resumed_by_a_handle_on_it(tmp_path):
    events = wb.run(PLAN, runs=tmp_path)
    while not isinstance(next(events), StepEnded):
        pass
    events.close()
    (stopped,) = run_list.summaries(tmp_path)
    log = stopped.path / "events.jsonl"
    log.write_text("".join(log.read_text().splitlines(keepends=True)[:-1]))  # its end was never written
    assert run_list.summaries(tmp_path)[0].state == "died"
    session = Session(PLAN, runs=tmp_path)
    assert session.handle(stopped.name).resume().wait(60).state == "completed"
    assert session.run.name == stopped.name


def test_a_folder_that_can_not_be_written_is_told_of_all_the_same(folder, monkeypatch):
    carrier = Carrier(folder)
    carrier.tell(STARTED, step(1))
    carrier.die()

    def full(self, event):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(RunFolder, "append", full)
    run = attach(folder)
    with pytest.raises(RunError, match="after step 1"):
        run.wait(20)
    assert isinstance(run.events[-1], RunFailed)


def test_a_run_that_nobody_has_begun_yet_is_not_dead(folder):
    run = attach(folder)
    time.sleep(0.4)
    assert (run.state, run.is_over) == ("preparing", False)
    assert run_list.summarize(folder).state == "preparing"
    carrier = Carrier(folder)
    carrier.tell(STARTED)
    until(lambda: run.state == "running")
    carrier.end()
    run.wait(20)


def test_one_whose_process_lives_and_has_not_begun_is_not_dead_until_that_is(folder):
    worker = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    process.note(folder.path, worker.pid)
    run = attach(folder)
    time.sleep(0.4)
    assert (run.state, run.where, run.is_alive) == ("preparing", "process", True)
    worker.communicate(b"\n")
    with pytest.raises(RunError, match="worker process disappeared before the first step"):
        run.wait(20)


def test_a_later_process_of_the_same_number_is_another_one(folder):
    worker = process.note(folder.path, os.getpid())
    assert worker.is_living
    assert worker.memory_bytes > 10_000_000
    for other in ({"began": worker.began + 1000}, {"began": None}, {"host": "elsewhere"}, {"pid": -1}, {"pid": 2**40}):
        (folder.path / process.FILE).write_text(json.dumps(vars(worker) | other))
        assert not process.noted(folder.path).is_living, other


def test_a_process_is_the_same_one_although_the_start_of_the_system_is_known_to_a_second_only(folder, monkeypatch):
    worker, boot = process.note(folder.path, os.getpid()), psutil.boot_time()
    monkeypatch.setattr(psutil, "boot_time", lambda: boot + 1)
    assert worker.is_living


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="a count of Linux")
def test_a_note_of_0_1_0_counts_in_clock_ticks(folder):
    ended = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    for pid in (os.getpid(), ended.pid):
        ticks = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
        (folder.path / process.FILE).write_text(json.dumps({"pid": pid, "began": ticks, "host": platform.node()}))
        assert process.noted(folder.path).is_living
    ended.stdin.close()
    until(lambda: not process.noted(folder.path).is_living)  # nobody has asked for its exit code yet
    ended.wait()
    assert not process.noted(folder.path).is_living


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"pid": "x", "began": 1, "host": "h"}', "[" * 100_000, "\x00"])
def test_a_note_that_is_none_is_passed_over(folder, text):
    (folder.path / process.FILE).write_text(text)
    gc.collect()  # or something old is let go of at the very bottom of a recursion, and fails there
    assert process.noted(folder.path) is None


def test_a_log_that_can_not_be_read_is_said_at_once(folder):
    (folder.path / "events.jsonl").write_text("nonsense\n")
    with pytest.raises(RunError, match="not an event"):
        attach(folder)


def test_no_such_run_is_said(folder):
    with pytest.raises(RunError, match="Did you mean"):
        wb.attach(folder.name[:-1], runs=folder.path.parent)


def test_a_session_tells_everything_of_the_run_it_attaches_to_after_saying_so(folder):
    carrier = Carrier(folder)
    carrier.tell(STARTED, step(1))
    session, heard = Session(runs=folder.path.parent), []
    session.subscribe(heard.append)
    run = session.attach("last")
    assert session.run is run
    assert heard == [RunChosen(name=folder.name), STARTED, step(1)]
    assert session.attach(folder.name) is run
    carrier.tell(step(2))
    carrier.end()
    run.wait(20)
    assert heard == [RunChosen(name=folder.name), STARTED, step(1), step(2), RunEnded(step=2, reason="completed")]
    assert session.unfinished() == []


def test_wishes_go_through_the_folder_and_are_seen_by_all_who_are_attached(folder):
    carrier = Carrier(folder)
    carrier.tell(STARTED)
    heard, one, other = control.Control(folder.path), attach(folder), attach(folder)
    one.pause()
    assert (one.pending_request, other.pending_request) == ("pausing", "pausing")
    one.change(learning_rate=1e-4)
    other.stop()
    assert one.pending_request == "stopping"
    heard.look()
    assert heard.is_stopping
    assert heard.taken_changes() == [{"learning_rate": 1e-4}]
    carrier.end()
    assert one.wait(20).pending_request is None
    size = control.requests_size(folder.path)
    one.stop().pause()
    assert control.requests_size(folder.path) == size  # nobody would hear


def test_a_run_that_is_executed_out_elsewhere_is_not_taken_up_too(folder):
    carrier = Carrier(folder)
    carrier.tell(STARTED, RunEnded(step=0, reason="stopped by the user"))
    carrier.die()
    run = attach(folder)
    run.wait(20)
    carrier = Carrier(folder)
    with pytest.raises(RunError, match="executed by another process"):
        run.resume()
    carrier.die()


def test_a_kernel_run_can_be_followed_and_steered_from_another_session_and_taken_up_there(tmp_path):
    rows = tiny.frame()
    first = Session(LONG, table=rows, runs=tmp_path).start()
    until(lambda: first.step >= 2)
    second = wb.attach("last", runs=tmp_path, table=rows)
    assert (second.where, second.name) == ("elsewhere", first.name)
    second.pause()
    until(lambda: first.state == "paused" and second.state == "paused")
    second.resume()
    until(lambda: second.state == "running")
    second.stop()
    second.wait(20)
    first.wait(20)
    assert second.events == first.events
    assert second.resume().where == "kernel"
    until(lambda: second.step > first.step)
    with pytest.raises(RunError, match="executed by another process"):
        first.resume()
    second.stop().wait(20)
    first.resume()  # knows what the other did meanwhile
    until(lambda: first.step > second.step)
    first.stop().wait(20)
    assert [e.step for e in first.events if isinstance(e, StepEnded)] == list(range(1, first.step + 1))


def test_waiting_for_a_run_elsewhere_can_be_left_off_without_stopping_it(folder, monkeypatch):
    carrier = Carrier(folder)
    carrier.tell(STARTED)
    run = attach(folder)

    def interrupted(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "join", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run.wait()
    assert run.pending_request is None
    carrier.end()
    run.wait(20)


def test_a_file_named_from_here_is_found_from_anywhere(tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    (tmp_path / "there").mkdir()
    tiny.frame().to_csv(tmp_path / "here" / "rows.csv", index=False)
    monkeypatch.chdir(tmp_path / "here")
    folder = RunFolder.create(Plan().change(source="rows.csv", backbone="tiny"), tmp_path)
    monkeypatch.chdir(tmp_path / "there")
    assert folder.plan().data.source == str(tmp_path / "here" / "rows.csv")
    assert Plan().with_absolute_paths() == Plan()


def test_a_run_that_broke_off_goes_on_as_soon_as_it_is_attached_to(tmp_path):
    plan = PLAN.change(max_steps=6, epochs=50, source="table")
    folder = RunFolder.create(plan, tmp_path / "whole")
    for event in wb.run(folder=folder, table=tiny.frame()):
        if isinstance(event, StepEnded) and event.step == 4:
            shutil.copytree(folder.path, tmp_path / "runs" / folder.name)
    run = wb.attach("last", runs=tmp_path / "runs", table=tiny.frame()).resume().wait(60)
    assert run.state == "completed"
    assert [e.step for e in run.events if isinstance(e, StepEnded)] == [1, 2, 3, 4, 5, 6]

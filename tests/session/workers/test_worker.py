"""Runs in a process of their own: exact, steered from anywhere, outliving the kernel, missed only when truly dead."""

import contextlib
import gc
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import deep
import pandas as pd
import pytest
import tiny
import torch
import transformers as tf
from waiting import until

import workbench as wb
from workbench.errors import BackboneError, RunError
from workbench.events import CheckpointSaved, EvaluationEnded, RunEnded, RunFailed, StepEnded
from workbench.models import from_object
from workbench.plan.plan import Plan
from workbench.runs.disk import control, process
from workbench.runs.disk.run_folder import RunFolder
from workbench.session.session import Session
from workbench.session.workers import post_mortem
from workbench.session.workers.employer import Employer, pickled

TESTS = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def place(tmp_path_factory):
    """A folder with a tiny backbone and rows on disk, since another process knows no monkeypatch."""
    folder = tmp_path_factory.mktemp("place")
    backbone = tiny.backbone("bert", dropout=0.1)
    backbone.model.save_pretrained(folder / "bert")
    backbone.preprocessor.save_pretrained(folder / "bert")
    tiny.frame(60).to_csv(folder / "rows.csv", index=False)
    return folder


@pytest.fixture(scope="session")
def plan(place):
    return Plan().change(
        backbone=str(place / "bert"), source=str(place / "rows.csv"), trainable="all", batch_size=8, epochs=1000,
        max_steps=240, evaluate_every=40, precision="fp32", learning_rate=0.003,
    )  # fmt: skip


@pytest.fixture(scope="session")
def undisturbed(place, plan):
    """The same run in this kernel, with nothing in its way."""
    return Session(plan, runs=place / "undisturbed").start().wait(200)


@pytest.fixture
def session(plan, tmp_path):
    made = Session(plan, runs=tmp_path)
    yield made
    made.where = "kernel"
    for run in made.runs:
        kill(run)


def kill(run, number=signal.SIGKILL):
    worker = process.noted(run.folder)
    if worker is not None and worker.is_living:
        os.kill(worker.pid, number)


def weights(run, which="last"):
    return run.model(which).state_dict()


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def told(run):
    """What a run says of its training, times aside."""
    return [event for event in run.events if isinstance(event, (StepEnded, EvaluationEnded))]


# What needs no process


def test_what_can_not_be_pickled_is_named_and_no_folder_is_made(plan, tmp_path):
    rows = tiny.frame()
    rows["lock"] = [threading.Lock() for _ in range(len(rows))]
    session = Session(plan, table=rows, runs=tmp_path)
    with pytest.raises(RunError, match=r"table \(DataFrame\) can't be sent to another process") as caught:
        session.start(where="process")
    assert "where='kernel'" in caught.value.hint
    assert not list(tmp_path.iterdir())
    assert session.run is None
    session.where = "process"  # says nothing yet: only the start does


def test_classes_of_a_notebook_are_pickled_with_what_they_are_made_of():
    class Rows(pd.DataFrame):
        pass

    assert set(pickled({"table": Rows(tiny.frame())})) == {"table"}


def test_a_place_that_is_none_is_refused(plan, tmp_path):
    session = Session(plan, runs=tmp_path)
    with pytest.raises(RunError, match="expected 'kernel' or 'process'"):
        session.where = "cloud"
    with pytest.raises(RunError, match="Did you mean 'process'"):
        session.start(where="proces")
    assert session.where == "kernel"


@pytest.mark.parametrize("kind", ["bert", "gpt2", "vit"])
def test_a_model_given_as_an_object_is_copied_and_never_changed(kind):
    backbone = tiny.backbone(kind)
    before = {name: tensor.clone() for name, tensor in backbone.model.state_dict().items()}
    labels = () if kind == "gpt2" else ("no", "yes")
    adopted = from_object.adopt(backbone.model, backbone.preprocessor, task=backbone.task, labels=labels)
    assert [block.name for block in adopted.blocks] == [block.name for block in backbone.blocks]
    with torch.no_grad():
        for parameter in adopted.model.parameters():
            parameter.add_(1)
    assert same(before, backbone.model.state_dict())
    if labels:
        assert adopted.model.config.id2label == {0: "no", 1: "yes"}
        assert backbone.model.config.id2label == {0: "LABEL_0", 1: "LABEL_1"}


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"labels": ("a", "b", "c")}, r"shape \(1, 2\); the rows need 3 classes"),
        ({"preprocessor": None}, "preprocessor is missing; expected the tokenizer"),
        ({"preprocessor": tf.ViTImageProcessor()}, "a ViTImageProcessor.*; expected the tokenizer"),
        ({"model": torch.nn.Linear(2, 2)}, "model is a Linear; expected a transformers model"),
        ({"task": "language-modeling", "labels": ()}, "the rows need one logit per token"),
    ],
)
def test_a_model_that_does_not_fit_is_refused(wrong, words):
    backbone = tiny.backbone("bert")
    fitting = {"model": backbone.model, "preprocessor": backbone.preprocessor}
    with pytest.raises(BackboneError, match=words):
        from_object.adopt(**{**fitting, "task": "text-classification", "labels": ("a", "b"), **wrong})


def test_a_model_without_a_head_or_with_one_for_other_classes_is_refused():
    backbone = tiny.backbone("bert")
    with pytest.raises(BackboneError, match="returns no logits"):
        from_object.adopt(backbone.model.bert, backbone.preprocessor, task="text-classification", labels=("a", "b"))
    backbone.model.config.id2label = {0: "positive", 1: "negative"}
    with pytest.raises(BackboneError, match="for the classes positive, negative; the rows have negative, positive"):
        from_object.adopt(
            backbone.model, backbone.preprocessor, task="text-classification", labels=("negative", "positive")
        )


def test_a_model_given_to_a_session_stays_as_it_was_when_it_was_given(plan, tmp_path):
    backbone = tiny.backbone("bert")
    with pytest.raises(BackboneError, match="without its preprocessor"):
        Session(plan, model=backbone.model)
    session = Session(plan, table=tiny.frame(), model=backbone.model, preprocessor=backbone.preprocessor, runs=tmp_path)
    assert (session.plan.baseline.backbone, session.plan.data.source) == ("object", "table")
    with torch.no_grad():
        backbone.model.classifier.weight.add_(1)
    session.change(max_steps=2)
    run = session.start().wait(30)
    assert not torch.equal(weights(run, "backbone")["classifier.weight"], backbone.model.classifier.weight)
    again = wb.attach("last", runs=tmp_path, table=tiny.frame())
    with pytest.raises(RunError, match="model of this run was given as an object"):
        again.model("backbone")


def test_a_run_of_objects_that_are_gone_reads_the_model_that_it_saved(plan, tmp_path):
    given = tiny.backbone("bert")
    objects = {"table": tiny.frame(), "model": given.model, "preprocessor": given.preprocessor}
    run = Session(plan.change(max_steps=4, save_model="last"), **objects, runs=tmp_path).start().wait(30)
    again = wb.attach("last", runs=tmp_path)
    mine, read = weights(run, "last"), weights(again, "last")
    assert all(torch.equal(mine[name], read[name]) for name in mine)
    assert again.as_backbone("last").model.config.id2label == {0: "negative", 1: "positive"}
    with pytest.raises(
        RunError, match=r"(?s)rows of this run were given as a table.*attach\(run.folder, table=frame, model="
    ):
        again.model("backbone")
    with pytest.raises(RunError, match=r"(?s)given as an object.*attach\(run.folder, table=frame, model=model, "):
        wb.attach("last", runs=tmp_path, table=objects["table"]).model("backbone")
    whole = weights(wb.attach("last", runs=tmp_path, **objects), "last")
    assert all(torch.equal(mine[name], whole[name]) for name in mine)
    shutil.rmtree(run.folder / "model")
    with pytest.raises(RunError, match="given as a table"):
        again.model("last")


# What needs one


@pytest.mark.slow
def test_a_run_in_a_process_is_the_same_to_the_bit_and_leaves_nothing_open(session, undisturbed):
    run = session.start(where="process")
    until(lambda: run.step >= 1, 60)
    pid = process.noted(run.folder).pid
    assert os.getpgid(pid) == pid != os.getpgid(0)
    assert os.getsid(pid) == pid
    assert not sockets(pid)
    assert os.readlink(f"/proc/{pid}/fd/0") == os.devnull
    assert os.readlink(f"/proc/{pid}/fd/1") == str(run.folder / "worker.log")
    assert run.wait(100).state == "completed"
    assert run.events == undisturbed.events
    assert same(weights(run), weights(undisturbed))
    assert not process.noted(run.folder).is_living
    assert run.where == "process"


def sockets(pid):
    links = [os.readlink(entry) for entry in Path(f"/proc/{pid}/fd").iterdir()]
    return [link for link in links if link.startswith("socket:")]


@pytest.mark.slow
def test_a_warm_worker_takes_its_first_step_soon_of_the_plan_as_it_is_by_then(session):
    session.where = "process"
    idle = idle_of(session)
    session.change(max_rows=20)
    until(lambda: cpu_seconds(idle.pid) == (time.sleep(1) or cpu_seconds(idle.pid)) > 1, 100)  # it has nothing to do
    session.change(max_rows=30)
    begun = time.monotonic()
    run = session.start()
    assert time.monotonic() - begun < 1
    until(lambda: run.step >= 1, 20)
    seconds = time.monotonic() - begun
    assert process.noted(run.folder).pid == idle.pid
    assert seconds < 5  # 0.4 on a quiet machine
    assert run.plan == session.plan
    run.stop().wait(30)
    assert idle_of(session).pid != idle.pid  # the next one


def idle_of(session):
    until(lambda: session._slot.employer._idle is not None)
    return session._slot.employer._idle


def cpu_seconds(pid):
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@pytest.mark.slow
def test_a_warm_worker_ends_with_its_session_or_when_it_is_not_wanted_any_more(plan, tmp_path):
    session, workers = Session(plan, runs=tmp_path), []
    for _ in range(2):
        session.where = "kernel"
        session.where = "process"
        workers.append(idle_of(session))
    until(lambda: not any(thread.name == "workbench-warmer" for thread in threading.enumerate()))
    del session
    gc.collect()
    until(lambda: not any(worker.is_living for worker in workers), 60)


OUTLIVING = """
import os, signal, sys, time
import workbench as wb
from pathlib import Path
plan = wb.Plan.from_json(Path(sys.argv[1]).read_text())
session = wb.Session(plan, runs=sys.argv[2])
run = session.start(where="process")
while run.step < 5:
    time.sleep(0.01)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.slow
def test_a_run_outlives_the_kernel_that_started_it_and_is_seen_whole_from_two_others(plan, tmp_path, undisturbed):
    (tmp_path / "plan.json").write_text(plan.to_json())
    arguments = [str(tmp_path / "plan.json"), str(tmp_path / "runs")]
    died = subprocess.run([sys.executable, "-c", OUTLIVING, *arguments], timeout=200, check=False)
    assert died.returncode == -signal.SIGKILL
    runs = [wb.attach("last", runs=tmp_path / "runs") for _ in range(2)]
    assert not runs[0].is_over
    assert runs[0].is_alive
    for run in runs:
        assert run.wait(100).state == "completed"
        assert run.events == undisturbed.events
    assert same(weights(runs[1]), weights(undisturbed))


@pytest.mark.slow
def test_a_second_handle_pauses_resumes_changes_and_stops_it(session, tmp_path):
    session.change(max_steps=5000)
    run = session.start(where="process")
    until(lambda: run.step >= 3, 60)
    other = wb.attach(run.name, runs=tmp_path)
    other.pause()
    assert run.pending_request == "pausing"
    until(lambda: run.state == other.state == "paused")
    assert any(isinstance(event, CheckpointSaved) and event.step == run.step for event in run.events)
    step = run.step
    time.sleep(0.3)
    assert run.step == step
    run.change(learning_rate=1e-5)
    run.resume()
    until(lambda: other.plan.tuning.learning_rate == 1e-5)
    until(lambda: other.step > step)
    other.stop()
    assert (run.wait(30).state, other.wait(30).state) == ("stopped", "stopped")
    assert run.events == other.events


@pytest.mark.slow
def test_one_that_is_killed_is_told_from_one_that_is_slow_and_goes_on_to_the_same_weights(
    session, tmp_path, undisturbed
):
    run = session.start(where="process")
    until(lambda: run.step >= 60, 60)
    other = wb.attach(run.name, runs=tmp_path)
    worker = process.noted(run.folder)
    os.kill(worker.pid, signal.SIGSTOP)
    time.sleep(1.5)
    step = run.step
    time.sleep(0.5)
    assert (run.state, run.is_alive, run.step) == ("running", True, step)
    assert run.seconds_silent > 0.4
    os.kill(worker.pid, signal.SIGKILL)
    for handle in (run, other):
        with pytest.raises(RunError, match="worker process"):
            handle.wait(20)
        assert handle.state == "failed"
        assert not handle.is_alive
    (failed,) = [event for event in RunFolder(run.folder).events() if isinstance(event, RunFailed)]
    assert run.events[-1] == other.events[-1] == failed
    assert failed.step == step
    assert "executes this run" in failed.traceback  # its last words
    run.resume()
    assert run.where == "process"
    with pytest.raises(RunError, match="executed by another process"):
        other.resume()
    assert run.wait(100).state == "completed"
    assert told(run) == told(undisturbed)
    assert same(weights(run), weights(undisturbed))
    assert process.noted(run.folder).pid != worker.pid


@pytest.mark.deep
def test_one_that_is_killed_at_any_moment_goes_on_to_the_same_weights(session, undisturbed):
    draw = deep.draw()
    for _ in range(20):
        run = session.start(where="process")
        until(lambda run=run: run.step >= 1, 60)
        time.sleep(3 * draw.random())  # a whole run takes about as long
        kill(run)
        with contextlib.suppress(RunError):
            run.wait(60)
        if run.state == "failed":
            run.resume()
        assert run.wait(100).state == "completed"
        assert told(run) == told(undisturbed)
        assert same(weights(run), weights(undisturbed))


@pytest.mark.slow
def test_the_parent_knows_how_its_worker_ended_and_what_memory_it_had(session):
    session.change(max_steps=5000)  # far more than a fast machine takes in that time
    run = session.start(where="process")
    until(lambda: run.step >= 1, 60)
    time.sleep(1.2)  # until somebody looked
    kill(run)
    with pytest.raises(RunError, match=r"was killed \(SIGKILL\) after step \d+; it used 0\.\d GB of memory"):
        run.wait(20)
    run.resume()
    until(lambda: not run.is_over and process.noted(run.folder).is_living)
    kill(run)  # before it came to anything
    with pytest.raises(RunError, match=r"was killed \(SIGKILL\)"):
        run.wait(20)


@pytest.mark.slow
def test_asking_the_process_to_end_leaves_a_model(session):
    session.change(max_steps=5000)
    run = session.start(where="process")
    until(lambda: run.step >= 3, 60)
    for number in (signal.SIGINT, signal.SIGHUP):  # a closed terminal, an interrupted kernel: nothing of its own
        kill(run, number)
    step = run.step
    until(lambda: run.step > step)
    kill(run, signal.SIGTERM)
    assert run.wait(30).state == "stopped"
    assert run.saved_model is not None


@pytest.mark.slow
def test_objects_get_there_without_touching_the_disk_even_of_a_class_of_the_notebook(plan, tmp_path):
    class Own(tf.BertForSequenceClassification):
        """Of no module that could be imported."""

    Own.__module__ = "__main__"
    backbone = tiny.backbone("bert")
    model = Own(backbone.model.config)
    session = Session(
        plan.change(max_steps=10), table=tiny.frame(), model=model, preprocessor=backbone.preprocessor, runs=tmp_path
    )
    run = session.start(where="process").wait(60)
    files = {path.name for path in run.folder.rglob("*") if path.is_file()}
    assert not any("pickle" in name or name.endswith((".pkl", ".pt", ".bin")) for name in files)
    twin = Session(
        plan.change(max_steps=10), table=tiny.frame(), model=model, preprocessor=backbone.preprocessor,
        runs=tmp_path / "twin",
    ).start().wait(60)  # fmt: skip
    assert same(weights(run), weights(twin))


class Unwilling(pd.DataFrame):
    def __reduce__(self):
        return int, ("not a number",)


@pytest.mark.slow
def test_an_object_that_arrives_broken_is_said_in_the_log(plan, tmp_path):
    session = Session(plan, table=Unwilling(tiny.frame()), runs=tmp_path)
    run = session.start(where="process")
    with pytest.raises(RunError, match="can't be unpickled in the worker process: ValueError") as caught:
        run.wait(60)
    assert "where='kernel'" in caught.value.hint


def test_a_worker_that_can_not_even_begin_says_why(session, monkeypatch, tmp_path):
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\necho no torch today >&2\nexit 3\n")
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    run = session.start(where="process")
    with pytest.raises(RunError, match="ended with exit code 3 before the first step"):
        run.wait(30)
    assert run.events[-1].traceback == "no torch today"
    assert run.events[-1].step == 0


def test_what_a_stranger_laid_in_the_place_of_the_last_words_is_neither_read_nor_written(session, tmp_path):
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "worker.log").symlink_to(tmp_path / "secret")
    assert post_mortem.last_lines(tmp_path) == ""
    with pytest.raises(OSError, match="symbolic"):
        post_mortem.words_file(tmp_path, os.O_WRONLY)


@pytest.mark.slow
def test_what_fails_in_a_worker_is_told_as_in_the_kernel(session):
    session.change(label_column="lable")
    run = session.start(where="process")
    with pytest.raises(RunError, match="lable"):
        run.wait(60)
    assert "label" in run.events[-1].hint
    session.change(label_column=None, max_steps=2)
    assert session.start(where="kernel").wait(60).state == "completed"


@pytest.mark.slow
def test_a_stopped_run_goes_on_where_it_ran(session, undisturbed, tmp_path):
    run = session.start(where="process")
    until(lambda: run.step >= 30, 60)
    run.stop().wait(30)
    assert run.step < 240
    other = wb.attach("last", runs=tmp_path)
    assert (other.where, other.state) == ("process", "stopped")
    assert other.resume().wait(100).state == "completed"
    assert isinstance(other.events[-1], RunEnded)
    assert told(other) == told(undisturbed)
    assert same(weights(other), weights(undisturbed))
    assert control.requests_size(run.folder) > 0  # the old wish to stop was not meant for it


@pytest.mark.slow
def test_a_fork_in_a_process_with_no_change_is_its_parent_to_the_bit(session, undisturbed):
    session._where = "process"  # without a worker that warms up beside the measuring
    fork = session.attach(str(undisturbed.folder)).fork(100)
    assert (fork.where, session.run) == ("process", fork)
    assert fork.wait(100).parent == undisturbed.name
    assert fork.differences == {}
    assert same(weights(fork), weights(undisturbed))


def test_an_employer_without_a_worker_can_be_dismissed():
    Employer().dismiss()

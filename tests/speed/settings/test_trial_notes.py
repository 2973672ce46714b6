"""No trial of a setting ends a notebook twice. The trials that end their process run in a child process."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
import tiny

from workbench.plan.plan import Plan
from workbench.runs.build import make_learner, trial_of
from workbench.speed.settings import timing, trials
from workbench.speed.settings.trial_notes import TrialNotes
from workbench.tasks import TABLE
from workbench.training.settings import Settings

TESTS = Path(__file__).parents[2]
GROUP_NORM = """
import dataclasses, tiny, transformers as tf
from workbench.models import blocks
from workbench.plan.plan import Plan
from workbench.tasks import TABLE
from workbench.runs.build import make_learner
from workbench.training import engine

model = tf.PoolFormerForImageClassification(
    tf.PoolFormerConfig(depths=[1, 1, 1, 1], hidden_sizes=[8, 16, 16, 16], num_labels=2)
)
images = tf.ViTImageProcessor(size={"height": 64, "width": 64})
backbone = dataclasses.replace(tiny.backbone("resnet"), model=model, preprocessor=images, blocks=blocks.find(model))
plan = Plan().change(trainable="last 1", batch_size=4, max_steps=2)
examples = TABLE[backbone.task].encode(tiny.rows("resnet", 8), backbone, plan.data)
learner = make_learner(backbone, examples, examples, plan)
assert not learner.settings.channels_last
list(engine.train(learner))
print(*learner.settings.measured, sep="; ")
"""
ENDING = """
import os, signal
from test_trial_notes import measured
from workbench.speed.settings import trials

def taken(step, settings, batch):
    if settings.channels_last:
        os.kill(os.getpid(), signal.SIGKILL)

trials._Step._taken = taken
measured()
"""
SAID = "{} was not tried: an earlier trial of it ended the whole process"


@pytest.fixture(autouse=True)
def memory(tmp_path, monkeypatch):
    monkeypatch.setenv("FINETUNE_WORKBENCH_MEMORY", str(tmp_path / "memory"))
    return tmp_path / "memory"


def child(code):
    paths = [str(TESTS), str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    command = [sys.executable, "-c", code]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=200)


@pytest.mark.slow
def test_a_network_with_a_group_norm_that_is_partly_frozen_trains():
    """torch 2.13 ends the process in the backward pass where such a network lies channels last."""
    done = child(GROUP_NORM)
    assert done.returncode == 0, done.stderr
    assert "channels last" not in done.stdout


def measured():
    """Return what the trials of a run of a convolutional network came to, in words."""
    backbone = tiny.backbone("resnet")
    plan = Plan().change(trainable="all", batch_size=8)
    examples = TABLE[backbone.task].encode(tiny.rows("resnet"), backbone, plan.data)
    return make_learner(backbone, examples, examples, plan).settings.measured


@pytest.mark.slow
def test_a_trial_that_ended_the_process_is_not_repeated(memory):
    assert child(ENDING).returncode == -signal.SIGKILL
    for _ in range(2):  # measured, then remembered
        assert [text for text in measured() if "channels last" in text] == [SAID.format("channels last")]
    assert len(list(memory.glob("*.json"))) == 1


@pytest.mark.parametrize(
    ("kind", "named"),
    [("resnet", {"bf16", "channels last"}), ("bert", {"bf16"})],
)
def test_every_way_but_the_plain_one_is_noted_and_not_tried_after_a_crash(kind, named, monkeypatch):
    monkeypatch.setattr(trials, "has_bf16", lambda device: True)
    monkeypatch.setattr(timing, "BUDGET_SECONDS", 0.0)
    tried = []

    @contextlib.contextmanager
    def noted(notes, trial):
        tried.append(trial)
        yield

    monkeypatch.setattr(TrialNotes, "_noted", noted)
    backbone = tiny.backbone(kind)
    plan = Plan().change(trainable="all", batch_size=8)
    examples = TABLE[backbone.task].encode(tiny.rows(kind), backbone, plan.data)
    trial = trial_of(make_learner(backbone, examples, examples, plan, settings=Settings()))
    trials.measured(trial, plan.tuning)
    assert set(tried) == named
    for name in named:
        tried.clear()
        monkeypatch.setattr(TrialNotes, "crashed", frozenset({name}), raising=False)
        monkeypatch.setattr(TrialNotes, "__init__", lambda notes, key: None)
        said = trials.measured(trial, plan.tuning).measured
        assert name not in tried
        assert [text for text in said if text.startswith(name)] == [SAID.format(name)]
        assert Settings.from_dict(Settings(measured=said).to_dict()) is not None


def test_a_trial_is_noted_while_it_runs_and_no_longer(memory):
    notes = TrialNotes("a")

    def measure():
        (file,) = memory.iterdir()
        assert json.loads(file.read_text())["trial"] == "channels last"
        assert TrialNotes("a").crashed == frozenset()  # it is under way
        return 3.0

    assert notes.seconds(("bf16", "channels last"), measure) == 3.0
    with pytest.raises(KeyboardInterrupt):
        notes.seconds(("bf16",), lambda: (_ for _ in ()).throw(KeyboardInterrupt))
    assert notes.seconds((), lambda: len(list(memory.iterdir()))) == 0  # the plain way has no note
    assert list(memory.iterdir()) == []


def left_behind(memory, **changes):
    """Write the note of a trial whose process was this one, but for what `changes` says."""
    this = psutil.Process()
    note = {"trial": "bf16", "pid": this.pid, "started": this.create_time(), "host": os.uname().nodename, "written": 0}
    memory.mkdir(exist_ok=True)
    (memory / "a.1.trial").write_text(json.dumps(note | changes))


@pytest.mark.parametrize(
    ("changes", "is_crash"),
    [
        ({}, False),
        ({"started": 1.0}, True),  # the number was given to another process since
        ({"pid": 2**22 + 1}, True),
        ({"pid": -1}, True),
        ({"host": "another"}, True),
        ({"host": "another", "written": 1e11}, False),  # too recent to tell
    ],
)
def test_a_note_tells_of_a_crash_where_its_process_is_gone(memory, changes, is_crash):
    left_behind(memory, **changes)
    notes = TrialNotes("a")
    assert notes.crashed == ({"bf16"} if is_crash else frozenset())
    assert TrialNotes("b").crashed == frozenset()
    for names, expected in (((), 1.0), (("channels last",), 1.0), (("bf16", "channels last"), float("inf"))):
        assert notes.seconds(names, lambda: 1.0) == (expected if is_crash else 1.0)


def test_a_crashed_process_that_its_parent_has_not_collected_is_gone(memory):
    dead = subprocess.Popen([sys.executable, "-c", ""])
    os.waitid(os.P_PID, dead.pid, os.WEXITED | os.WNOWAIT)
    left_behind(memory, pid=dead.pid, started=psutil.Process(dead.pid).create_time())
    assert TrialNotes("a").crashed == {"bf16"}
    dead.wait()


@pytest.mark.parametrize(
    "content", ["", "{", "[]", '{"trial": "bf16"}', '{"trial": "bf16", "pid": "x"}', "[" * 100_000]
)
def test_a_broken_note_is_as_good_as_none(memory, content):
    memory.mkdir()
    (memory / "a.1.trial").write_text(content)
    assert TrialNotes("a").crashed == frozenset()


def test_where_no_note_can_be_written_trials_run_all_the_same(memory):
    memory.write_text("a file stands there")
    assert TrialNotes("a").seconds(("bf16",), lambda: 1.0) == 1.0

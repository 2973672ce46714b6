"""Settings are chosen by the clock once; from then on they are facts of the run folder, so bits stay the same."""

import json

import pytest
import tiny
import torch
from tiny_runs import (
    LONG,
    a_tiny_backbone_by_that_name,  # noqa: F401
    assert_same,
    carried_out,
    gone_on,
)

from workbench.events import RunStarted, StepEnded
from workbench.plan.plan import Plan
from workbench.runs import checkpoints
from workbench.runs.build import make_learner
from workbench.runs.disk.run_folder import RunFolder
from workbench.runs.export import copy_of, save_model, to_save
from workbench.runs.fork import fork
from workbench.runs.moment import Moment
from workbench.runs.preparation import Preparation
from workbench.runs.run import run
from workbench.speed.settings import trials
from workbench.tasks import TABLE
from workbench.training import engine
from workbench.training.device import idle_notes
from workbench.training.settings import Settings

BF16 = Settings("bf16", threads=2, fused=False, measured=("bf16 9 × as fast as fp32: taken",))
AUTO = LONG.change(precision="auto", trainable="last 1")


@pytest.fixture(autouse=True)
def memory(tmp_path, monkeypatch):
    monkeypatch.setenv("FINETUNE_WORKBENCH_MEMORY", str(tmp_path / "memory"))


@pytest.fixture
def first(tmp_path, monkeypatch):
    """A run whose settings were measured as bf16; whatever is measured after it comes out otherwise."""
    monkeypatch.setattr(trials, "measured", lambda trial, choice: BF16)
    folder = carried_out(AUTO, tmp_path / "runs")
    for file in (tmp_path / "memory").iterdir():
        file.unlink()
    monkeypatch.setattr(trials, "measured", lambda trial, choice: Settings(measured=("measured anew",)))
    return folder


def started(folder):
    return [event for event in folder.events() if isinstance(event, RunStarted)][-1]


def test_they_are_told_and_noted(first):
    assert (started(first).precision, started(first).settings) == ("bf16", BF16.measured)
    assert Settings.from_dict(first.environment()["settings"]) == BF16


@pytest.mark.slow
def test_a_run_taken_up_again_keeps_them(first):
    folder = RunFolder.create(AUTO.change(source="table", task="text-classification"), first.path.parent)
    folder.note_environment(settings=BF16.to_dict())
    story = run(folder=folder, table=tiny.frame())
    next(event for event in story if isinstance(event, StepEnded) and event.step == 6)
    story.close()
    assert_same(first, gone_on(folder))
    assert started(folder).settings == BF16.measured


@pytest.mark.slow
def test_looking_back_and_forks_of_forks_keep_them(first):
    preparation = Preparation(tiny.frame())
    moment = Moment(first, preparation, 7)
    assert (moment.learner.settings, moment.differs) == (BF16, "")
    child = fork(first, preparation, 6, {"learning_rate": 0.05, "trainable": "all"})
    list(run(folder=child, preparation=preparation))
    grandchild = fork(child, preparation, 8, {})
    list(run(folder=grandchild, preparation=preparation))
    for folder in (child, grandchild, fork(first, preparation, 0, {})):
        assert Settings.from_dict(folder.environment()["settings"]) == BF16
    assert Moment(grandchild, preparation, 9).learner.settings == BF16
    assert_ends_equal(child, grandchild)


def assert_ends_equal(one, other):
    mine, theirs = (checkpoints.all_in(folder.path / "checkpoints")[-1] for folder in (one, other))
    for name in ("weights", "optimizer"):
        assert (mine.path / f"{name}.safetensors").read_bytes() == (theirs.path / f"{name}.safetensors").read_bytes()


@pytest.mark.slow
def test_a_fork_of_another_kind_measures_for_itself(first):
    preparation = Preparation(tiny.frame())
    other = fork(first, preparation, 0, {"method": "lora", "trainable": "all"})
    assert "settings" not in other.environment()
    list(run(folder=other, preparation=preparation))
    assert started(other).settings == ("measured anew",)
    said = fork(first, preparation, 0, {"precision": "fp32"})
    list(run(folder=said, preparation=preparation))
    assert started(said).precision == "fp32"


@pytest.mark.slow
@pytest.mark.parametrize("nonsense", [{"precision": "fp8"}, [1, 2], "x" * 10_000, {**BF16.to_dict(), "threads": -1}])
def test_nonsense_in_a_run_folder_is_measured_anew(first, nonsense):
    folder = RunFolder.create(AUTO.change(source="table", task="text-classification"), first.path.parent)
    folder.note_environment(settings=nonsense)
    list(run(folder=folder, table=tiny.frame()))
    assert started(folder).settings == ("measured anew",)
    assert json.loads((folder.path / "environment.json").read_text())["settings"]["measured"] == ["measured anew"]


def images(settings, plan):
    backbone = tiny.backbone("resnet")
    examples = TABLE[backbone.task].encode(tiny.rows("resnet"), backbone, plan.data)
    return make_learner(backbone, examples, examples, plan, settings=settings)


@pytest.mark.parametrize("method", ["weights", "lora"])
@pytest.mark.parametrize("fused", [True, False])
def test_channels_last_is_in_no_file_and_goes_on_to_the_same_bits(tmp_path, method, fused):
    plan = Plan().change(trainable="all", method=method, batch_size=8, max_steps=6, epochs=50, precision="fp32")
    settings = Settings("fp32", True, fused)
    whole, broken, plain = images(settings, plan), images(settings, plan), images(Settings(), plan)
    assert whole.frozen == plain.frozen
    for _ in range(6):
        engine.take_step(whole)
    for _ in range(3):
        engine.take_step(broken)
    checkpoint = checkpoints.save(broken, tmp_path)
    again = images(settings, plan)
    checkpoints.load(again, checkpoint)
    for _ in range(3):
        engine.take_step(again)
    mine, theirs = whole.model.state_dict(), again.model.state_dict()
    assert all(torch.equal(mine[name], theirs[name]) for name in mine)
    assert {m.weight.is_contiguous(memory_format=torch.channels_last) for m in convolutions(again.model)} == {True}
    copied = copy_of(whole).model
    assert all(parameter.is_contiguous() for parameter in copied.parameters())
    save_model(to_save(whole), tmp_path / "model")
    loaded = type(copied).from_pretrained(tmp_path / "model").state_dict()
    assert all(torch.equal(value, loaded[name]) for name, value in copied.state_dict().items())


def convolutions(model):
    return [module for module in model.modules() if isinstance(module, torch.nn.Conv2d)]


def test_torch_that_came_first_is_told_of(monkeypatch):
    import workbench

    assert idle_notes() == ()
    monkeypatch.setattr(workbench, "spins_idly", True)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    monkeypatch.setattr("sys.platform", "linux")
    (note,) = idle_notes()
    assert "import workbench first" in note

import hashlib
import json

import pytest
import torch
from tiny_learner import PLAN, make, weights

from workbench.errors import RunError
from workbench.events import EvaluationEnded, StepEnded
from workbench.runs import checkpoints
from workbench.runs.checkpoints import Checkpoint
from workbench.runs.disk.checkpoint_files import FILES
from workbench.training import engine
from workbench.training.restore import progress_of

LONG = PLAN.change(max_steps=8, accumulation_steps=2, dropout=0.2, evaluate_every=3, batch_size=5)


def told(events):
    return [event for event in events if isinstance(event, (StepEnded, EvaluationEnded))]


@pytest.mark.parametrize("stop_at", [3, 5, *(pytest.param(step, marks=pytest.mark.deep) for step in (1, 2, 7))])
@pytest.mark.parametrize("kind", ["bert", "gpt2", "resnet"])
def test_a_run_put_back_goes_on_as_if_nothing_had_happened(tmp_path, kind, stop_at):
    unbroken = make(kind, LONG)
    expected = told(engine.train(unbroken))
    broken = make(kind, LONG)
    for event in engine.train(broken):
        if isinstance(event, StepEnded) and event.step == stop_at:
            break
    saved = checkpoints.save(broken, tmp_path)
    again = make(kind, LONG)
    checkpoints.load(again, saved)
    rest = told(engine.train(again))
    heard = expected.index(event) + 1
    assert rest == expected[heard:]
    ends = weights(unbroken.model), weights(again.model)
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])
    assert progress_of(again) == progress_of(unbroken)


def test_only_what_can_differ_from_the_backbone_is_kept(tmp_path):
    made = make("bert", PLAN.change(trainable="head"))
    engine.take_step(made)
    head = sum(p.numel() for p in made.model.parameters() if p.requires_grad)
    saved = checkpoints.save(made, tmp_path)
    assert saved.size_bytes < 4 * 3 * head + 16_000
    assert {file.name for file in saved.path.iterdir()} == {
        "weights.safetensors",
        "optimizer.safetensors",
        "state.json",
        "frozen.json",
        "manifest.json",
    }


@pytest.fixture
def saved(tmp_path):
    made = make("bert", PLAN)
    engine.take_step(made)
    return checkpoints.save(made, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", [*sorted(FILES), "manifest.json"])
@pytest.mark.parametrize("damage", ["flip", "cut", "remove"])
def test_a_broken_checkpoint_is_refused(saved, name, damage):
    file = saved.path / name
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    {
        "flip": lambda: file.write_bytes(content),
        "cut": lambda: file.write_bytes(content[: len(content) // 2]),
        "remove": file.unlink,
    }[damage]()
    with pytest.raises(RunError, match="step-000001"):
        checkpoints.load(make("bert", PLAN), saved)


def test_a_checkpoint_of_another_model_is_refused(saved):
    with pytest.raises(RunError, match="has the trained blocks"):
        checkpoints.load(make("bert", PLAN.change(trainable="head")), saved)


def test_a_manifest_can_not_point_outside(saved):
    outside = saved.path.parent / "outside"
    outside.write_text("")
    entry = {"bytes": 0, "sha256": hashlib.sha256(b"").hexdigest()}
    for manifest in ({"../outside": entry}, {}):
        (saved.path / "manifest.json").write_text(json.dumps(manifest))
        with pytest.raises(RunError, match="its manifest names"):
            checkpoints.verified(saved)


def test_asking_for_a_step_without_a_checkpoint_says_which_there_are(saved):
    root = saved.path.parent
    assert checkpoints.at(root, 1) == Checkpoint(saved.path, 1)
    with pytest.raises(RunError, match="use a step that has one: 1"):
        checkpoints.at(root, 2)

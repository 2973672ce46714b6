"""Any checkpoint: it is put back to the bit, or a RunError says why; and the one before it can still be taken."""

import json
import os
import shutil

import pytest
import torch
from fuzzing import JUNK, TEXTS, VALUES, as_json, contents, damaged, outcome, said
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from tiny_learner import PLAN, make, weights

from workbench.errors import RunError
from workbench.runs import checkpoints
from workbench.runs.disk.checkpoint_files import FILES, manifest_entry
from workbench.training import engine

pytestmark = pytest.mark.slow

TENSORS = ["weights.safetensors", "optimizer.safetensors"]
NAMES = sorted([*FILES, "manifest.json"])


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """Checkpoints after one and after two steps, as they should be; not to be changed."""
    made, root = make("bert", PLAN), tmp_path_factory.mktemp("checkpoints")
    for _ in range(2):
        engine.take_step(made)
        checkpoints.save(made, root)
    return root


@pytest.fixture
def root(written, tmp_path):
    return shutil.copytree(written, tmp_path / "run" / "checkpoints")


@pytest.fixture(scope="module")
def learner():
    """A learner that every example may put something into; what is refused is not to be used any further."""
    return make("bert", PLAN)


def sealed(folder):
    """Let the manifest say that everything is as it was written: a stranger can do that too."""
    (folder / "manifest.json").write_text(json.dumps({name: manifest_entry(folder / name) for name in FILES}))


def put_back(learner, root):
    """Put the newest checkpoint back in every way there is; nothing on disk changes by that."""
    before = contents(root.parent)
    checkpoint = checkpoints.at(root, 2)
    found = outcome(lambda: checkpoints.load(learner, checkpoint) or "restored")
    assert found == "restored" or isinstance(found, RunError)
    outcome(lambda: checkpoints.state_of(checkpoint))
    outcome(lambda: checkpoints.verified(checkpoint))
    assert contents(root.parent) == before
    return found


def again(folder, whole):
    for name, content in whole.items():
        (folder / name).write_bytes(content)


@given(st.sampled_from(NAMES), st.data())
def test_damage_to_any_file_is_refused_and_the_step_before_taken(learner, root, name, drawn):
    folder = root / "step-000002"
    whole = contents(folder)
    (folder / name).write_bytes(drawn.draw(damaged(whole[name]) | JUNK))
    is_whole = contents(folder) == whole or name == "manifest.json"
    newest, refusals = checkpoints.newest_valid(root)
    found = put_back(learner, root)
    again(folder, whole)
    if not is_whole:
        assert isinstance(found, RunError)
        assert (newest.step, len(refusals)) == (1, 1)
        assert "step-000002" in refusals[0].what


FIELDS = ["step", "best_step", "best_loss", "measured_step", "adjusted", "plan", "learnt", "joined"]


@given(st.sampled_from(FIELDS), VALUES)
def test_any_value_in_a_sealed_state(learner, root, field, value):
    folder = root / "step-000002"
    whole = contents(folder)
    if (text := as_json({**json.loads(whole["state.json"]), field: value})) is not None:
        (folder / "state.json").write_text(text)
        sealed(folder)
        put_back(learner, root)
        again(folder, whole)


@given(st.sampled_from(["state.json", "frozen.json"]), JUNK | VALUES.map(as_json).filter(bool).map(str.encode))
def test_any_text_in_a_sealed_file(learner, root, name, content):
    folder = root / "step-000002"
    whole = contents(folder)
    (folder / name).write_bytes(content)
    sealed(folder)
    found = put_back(learner, root)
    again(folder, whole)
    assert isinstance(found, RunError)


def other(tensors, how):
    """Return tensors that are not those of the learner."""
    name = sorted(tensors)[0]
    first = tensors[name]
    changed = {
        "another shape": {name: torch.zeros(3)},
        "turned around": {name: first.reshape(-1)[:, None].contiguous()},
        "whole numbers": {name: torch.zeros(first.shape, dtype=torch.int8)},
        "half as wide": {name: first.half()},
        "complex": {name: torch.zeros(first.shape, dtype=torch.complex64)},
        "one more": {"nothing/there": first.clone()},
        "no slash": {"nothing": first.clone()},
    }
    if how == "one less":
        return {key: value for key, value in tensors.items() if key != name}
    return {**tensors, **changed[how]}


HOWS = [
    "another shape",
    "turned around",
    "whole numbers",
    "half as wide",
    "complex",
    "one more",
    "no slash",
    "one less",
]


@pytest.mark.parametrize("how", HOWS)
@pytest.mark.parametrize("name", TENSORS)
def test_tensors_of_another_kind_are_refused_though_the_manifest_fits(learner, root, name, how):
    folder = root / "step-000002"
    save_file(other(load_file(folder / name), how), folder / name)
    sealed(folder)
    assert "step-000002" in said(lambda: checkpoints.load(learner, checkpoints.at(root, 2)))


@given(st.sampled_from(TENSORS), st.data())
def test_sealed_bytes_that_are_no_tensors(learner, root, name, drawn):
    folder = root / "step-000002"
    whole = contents(folder)
    header = (5).to_bytes(8, "little")
    content = drawn.draw(JUNK | JUNK.map(header.__add__) | st.just((2**62).to_bytes(8, "little") + b"{}"))
    (folder / name).write_bytes(content)
    sealed(folder)
    found = put_back(learner, root)
    again(folder, whole)
    assert isinstance(found, RunError)


@given(st.dictionaries(st.sampled_from([*NAMES, "../../x", "/etc/passwd"]) | TEXTS, VALUES, max_size=5) | VALUES)
def test_any_manifest(learner, root, tree):
    text = as_json(tree)
    if text is not None:
        (root / "step-000002" / "manifest.json").write_text(text)
        assert isinstance(put_back(learner, root), RunError)


@pytest.mark.timeout(20)
@pytest.mark.parametrize("name", NAMES)
def test_pipes_and_devices_make_nobody_wait(learner, root, name):
    path = root / "step-000002" / name
    path.unlink()
    os.mkfifo(path)
    assert isinstance(put_back(learner, root), RunError)


@pytest.mark.parametrize(
    "name", ["step-", "step-x", "step--1", "step-٣", "step-²", "step-9999999999999999999999", "step-2 "]
)
def test_folders_of_odd_names_hide_no_checkpoint(root, name):
    (root / name).mkdir()
    newest, _ = checkpoints.newest_valid(root)
    assert newest.step == 2


def test_a_checkpoint_that_is_a_file_or_leads_nowhere_hides_no_other(root):
    (root / "step-000003").write_text("x")
    (root / "step-000004").symlink_to(root / "step-000004")
    newest, refusals = checkpoints.newest_valid(root)
    assert (newest.step, len(refusals)) == (2, 2)


def test_what_was_not_damaged_is_put_back_to_the_bit(written):
    fresh, steps = make("bert", PLAN), make("bert", PLAN)
    for _ in range(2):
        engine.take_step(steps)
    checkpoints.load(fresh, checkpoints.at(written, 2))
    ends = weights(fresh.model), weights(steps.model)
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])

"""A copy costs nothing until it changes, and then neither of the two sees what is written into the other."""

import copy

import architectures
import numpy as np
import pytest
import safetensors.torch
import tiny
import torch
from torch import nn

from workbench.models import copy_on_write as twins
from workbench.models.fingerprints import hash_of
from workbench.plan.plan import Plan
from workbench.runs.build import make_learner
from workbench.runs.preparation import Preparation
from workbench.tasks import TABLE
from workbench.training import engine
from workbench.training.settings import Settings

SHARED = torch._C._is_cow_tensor


def state(model):
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def is_same(model, before):
    return all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


WRITES = {
    "add_": lambda tensor: tensor.add_(1),
    "data": lambda tensor: tensor.data.mul_(3),
    "a view": lambda tensor: tensor.view(-1)[0].fill_(7),
    "index": lambda tensor: tensor.__setitem__(0, 9.0),
    "copy_": lambda tensor: tensor.copy_(torch.ones_like(tensor)),
    "numpy": lambda tensor: np.ndarray.fill(tensor.numpy(), 5.0),
    "dlpack": lambda tensor: torch.from_dlpack(tensor.detach()).fill_(4.0),
    "init": lambda tensor: nn.init.ones_(tensor),
}


@pytest.mark.parametrize("write", WRITES)
@pytest.mark.parametrize("side", ["the copy", "the first"])
def test_whatever_writes_writes_into_one_of_the_two(write, side):
    first = nn.Linear(4, 3)
    other = twins.twin(first, first)
    assert SHARED(first.weight)
    assert SHARED(other.weight)
    before = state(first)
    changed, kept = (other, first) if side == "the copy" else (first, other)
    with torch.no_grad():
        WRITES[write](changed.weight)
    assert not torch.equal(changed.weight, before["weight"])
    assert is_same(kept, before)


NAMES = ("bert", "gpt2 lm", "llama-tied lm", "resnet-basic", "plain resnet", "t5", "mixtral lm")


@pytest.mark.parametrize("name", NAMES)
def test_a_copy_is_what_deepcopy_gives(name):
    model, _ = architectures.make(name)
    next(model.parameters()).requires_grad_(False)
    made, true = twins.twin(model, model), copy.deepcopy(model)
    assert [n for n, _ in made.named_parameters()] == [n for n, _ in true.named_parameters()]  # what is tied stays tied
    assert [n for n, _ in made.named_buffers()] == [n for n, _ in true.named_buffers()]
    assert made.state_dict().keys() == true.state_dict().keys()
    assert is_same(made, state(model))
    for one, other, first in zip(made.parameters(), true.parameters(), model.parameters(), strict=True):
        assert type(one) is type(other)
        assert one.requires_grad == other.requires_grad
        assert one is not first
        assert one.is_leaf
        assert one.grad is None
    for one, first in zip(made.buffers(), model.buffers(), strict=True):
        assert one is not first
    torch.manual_seed(0)
    answer = architectures.forward(made)
    torch.manual_seed(0)
    assert torch.equal(answer, architectures.forward(model))


@pytest.mark.parametrize("kind", ["bert", pytest.param("llama", marks=pytest.mark.slow), "resnet"])
@pytest.mark.parametrize("trainable", ["last 1", pytest.param("all", marks=pytest.mark.slow)])
def test_training_leaves_the_pristine_weights_alone_and_what_is_frozen_is_not_copied(kind, trainable, cpu_plan):
    plan = cpu_plan.change(trainable=trainable)
    first = tiny.backbone(kind)
    before = state(first.model)
    own = twins.twin(first, first.model)
    train, validation = (TABLE[own.task].encode(tiny.rows(kind, count), own, plan.data) for count in (24, 8))
    learner = make_learner(own, train, validation, plan, settings=Settings().overridden_by(plan.tuning))
    list(engine.train(learner))
    assert is_same(first.model, before)
    for name, parameter in learner.model.named_parameters():
        assert SHARED(parameter) == (not parameter.requires_grad), name
    assert not is_same(learner.model, before)


@pytest.fixture
def cpu_plan():
    return Plan().change(batch_size=6, epochs=2, precision="fp32", device="cpu", max_length=10, learning_rate=3e-3)


def test_a_hash_copies_nothing():
    first = nn.Linear(700, 700)  # more than one part
    other = twins.twin(first, first)
    assert hash_of(other.weight) == hash_of(first.weight) == hash_of(first.weight.clone())
    assert SHARED(other.weight)
    with torch.no_grad():
        other.weight[-1, -1] += 1
    assert hash_of(other.weight) != hash_of(first.weight)


def test_a_later_copy_keeps_what_was_there():
    tensor = torch.arange(6.0, requires_grad=True)
    kept = twins.later_copy(tensor)
    assert SHARED(kept)
    assert not kept.requires_grad
    with torch.no_grad():
        tensor.mul_(2)
    assert kept.tolist() == [0, 1, 2, 3, 4, 5]


class Sharing(nn.Module):
    def __init__(self):
        super().__init__()
        self.whole = nn.Parameter(torch.arange(6.0))
        self.register_buffer("part", self.whole.detach()[2:4])
        self.tied = nn.Parameter(torch.ones(3))
        self.tied.data = self.whole.data.view(2, 3)


def test_what_shares_memory_shares_it_in_the_copy_too():
    model = Sharing()
    made = twins.twin(model, model)
    assert SHARED(made.whole)
    assert SHARED(made.part)
    with torch.no_grad():
        made.whole.fill_(7)
    assert made.part.tolist() == [7, 7]
    assert made.tied.tolist() == [[7, 7, 7], [7, 7, 7]]
    assert model.part.tolist() == [2, 3]
    assert model.tied.tolist() == [[0, 1, 2], [3, 4, 5]]


def test_a_later_copy_of_a_part_keeps_that_part_alone():
    part = torch.arange(1000.0)[3:5]
    assert twins.later_copy(part).untyped_storage().nbytes() == 8


def test_weights_of_a_mapped_file_are_settled_first(tmp_path):
    model = nn.Linear(8, 8)
    safetensors.torch.save_file(model.state_dict(), tmp_path / "weights.safetensors")
    mapped = nn.Linear(8, 8)
    mapped.load_state_dict(safetensors.torch.load_file(tmp_path / "weights.safetensors"), assign=True)
    twins.settle(mapped)
    made = twins.twin(mapped, mapped)
    assert SHARED(made.weight)
    assert is_same(made, state(model))


def test_where_torch_has_no_such_storage_everything_is_copied(monkeypatch):
    monkeypatch.setattr(twins, "_lazy_clone", None)
    model = nn.BatchNorm2d(3)
    twins.settle(model)
    made = twins.twin(model, model)
    kept = twins.later_copy(model.weight)
    with torch.no_grad():
        model.weight.fill_(8)
    assert kept.tolist() == made.weight.tolist() == [1, 1, 1]
    assert not SHARED(made.weight)


def test_a_prepared_backbone_and_the_copy_of_a_run_share_their_weights():
    preparation = Preparation(tiny.frame(), model=tiny.backbone("bert").model, preprocessor=tiny.tokenizer())
    plan = Plan().change(source="table", backbone="object")
    own = preparation.own_backbone(plan)
    pristine = preparation.backbone(plan)
    assert own is not pristine
    assert own.model is not pristine.model
    assert all(SHARED(parameter) for parameter in own.model.parameters())
    assert all(one is not other for one, other in zip(own.model.parameters(), pristine.model.parameters(), strict=True))

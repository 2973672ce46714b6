"""Frozen means bit-identical on every architecture, and the counts tell what really learns."""

import architectures
import pytest
import torch
from torch import nn

from workbench.errors import PlanError
from workbench.models import blocks, freezing
from workbench.plan.choices import Transfer

pytestmark = pytest.mark.slow  # the whole file takes some seconds


STEPS = 10


def copy_of(model):
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def train(model, found, names, steps=STEPS):
    """Take AdamW steps on random rows; return the names of the parameters that got a gradient."""
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2, weight_decay=0.1)
    reached = set()
    for _ in range(steps):
        freezing.train_mode(model, found, names)
        architectures.forward(model, rows=2).square().mean().backward()
        reached |= {name for name, p in model.named_parameters(remove_duplicate=False) if p.grad is not None}
        optimizer.step()
        optimizer.zero_grad()
    return reached


@pytest.mark.parametrize("name", architectures.NAMES)
def test_frozen_is_bit_identical_and_the_rest_moves(name):
    model, _ = architectures.make(name)
    found, choice = blocks.find(model), Transfer(trainable="last 1")
    counts, names = freezing.count(model, found, choice), freezing.resolve(found, choice)
    before = copy_of(model)
    freezing.freeze(model, found, choice)
    assert counts.trainable == sum(p.numel() for p in model.parameters() if p.requires_grad) > 0
    assert counts.total == sum(p.numel() for p in model.parameters())
    assert sum(counts.by_block.values()) == counts.trainable

    reached = train(model, found, names)

    after = model.state_dict()
    learning = {n for n, p in model.named_parameters(remove_duplicate=False) if p.requires_grad}
    moved = {n for n in after if not torch.equal(after[n], before[n])}
    statistics = {n for block in found if block.name in names for n in buffers(model, block)}
    assert moved <= learning | statistics, "something frozen moved"
    assert learning & reached <= moved, "something trainable stood still"
    assert learning & reached, "nothing learnt"


def buffers(model, block):
    return [f"{path}.{name}" for path in block.modules for name, _ in model.get_submodule(path).named_buffers()]


@pytest.mark.parametrize("name", ["bert", "albert", "t5", "swin", "llama-tied lm", "plain vgg"])
def test_everything_trainable_leaves_nothing_out(name):
    model, _ = architectures.make(name)
    found, choice = blocks.find(model), Transfer(trainable="all")
    freezing.freeze(model, found, choice)
    assert all(parameter.requires_grad for parameter in model.parameters())
    freezing.train_mode(model, found, freezing.resolve(found, choice))
    assert all(module.training for module in model.modules())


@pytest.mark.parametrize("name", ["bert", "bart", "opt", "modernbert", "resnet-basic", "swin", "plain resnet"])
def test_a_frozen_model_gives_the_same_in_training_mode(name):
    model, _ = architectures.make(name)
    found = blocks.find(model)
    torch.manual_seed(1)
    expected = architectures.forward(model)
    freezing.train_mode(model, found, ())
    torch.manual_seed(1)
    assert torch.equal(architectures.forward(model), expected)


def test_dropout_is_on_where_it_learns_and_off_where_it_does_not():
    model, _ = architectures.make("bert")
    found = blocks.find(model)
    freezing.train_mode(model, found, ("block 3", "head"))
    assert model.bert.encoder.layer[2].output.dropout.training
    assert model.dropout.training
    assert not model.bert.encoder.layer[1].output.dropout.training
    assert not model.bert.embeddings.dropout.training
    assert not model.bert.training, "a module around frozen blocks must not drop anything either"


def test_norm_statistics_of_a_frozen_block_stay_and_those_of_a_trainable_one_move():
    model, _ = architectures.make("resnet-basic")
    found = blocks.find(model)
    before = copy_of(model)
    freezing.train_mode(model, found, ("block 3", "head"))
    architectures.forward(model)
    moved = {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}
    assert moved
    assert all(name.startswith("resnet.encoder.stages.1.") for name in moved)


@pytest.fixture
def bert():
    return blocks.find(architectures.make("bert")[0])


class TestResolve:
    @pytest.mark.parametrize(
        ("trainable", "expected"),
        [
            ("head", ("head",)),
            ("last 2", ("block 2", "block 3", "head")),
            ("all", ("embeddings", "block 1", "block 2", "block 3", "head")),
            (("head", "block 1"), ("block 1", "head")),
        ],
    )
    def test_names_come_in_the_order_of_the_blocks(self, bert, trainable, expected):
        assert freezing.resolve(bert, Transfer(trainable=trainable)) == expected

    def test_unknown_name_gets_the_nearest(self, bert):
        with pytest.raises(PlanError, match=r"no block 'blok 2'(.|\n)*block 2"):
            freezing.resolve(bert, Transfer(trainable=("blok 2",)))

    def test_more_blocks_than_there_are(self, bert):
        with pytest.raises(PlanError, match=r"asks for 4 blocks; this backbone has 3(.|\n)*last 3"):
            freezing.resolve(bert, Transfer(trainable="last 4"))

    def test_adapters_leave_the_embeddings_out(self, bert):
        choice = Transfer(trainable="all", method="lora")
        assert freezing.resolve(bert, choice) == ("block 1", "block 2", "block 3", "head")

    def test_adapters_in_embeddings_only_train_nothing(self, bert):
        with pytest.raises(PlanError, match="nothing would be trained"):
            freezing.resolve(bert, Transfer(trainable=("embeddings",), method="lora"))


@pytest.fixture
def llama():
    model, _ = architectures.make("llama-tied lm")
    return model, blocks.find(model)


class TestTied:
    def test_a_tied_weight_learns_only_if_all_its_users_do(self, llama):
        model, found = llama
        counts = freezing.count(model, found, Transfer(trainable="head"))
        assert counts.trainable == counts.by_block["head"] == 16  # the last norm; the output layer is the embeddings
        (note,) = counts.notes
        assert note.startswith("the output weights are tied to the embeddings, so the head alone trains 16 of 6,832 ")
        assert note.endswith(" parameters: choose 'last 2', or 'all' with LoRA")
        both = freezing.count(model, found, Transfer(trainable=("embeddings", "head")))
        assert both.trainable == 60 * 16 + 16
        assert not both.notes

    def test_more_blocks_than_the_head_are_told_how_to_train_the_tied_weights(self, llama):
        (note,) = freezing.count(*llama, Transfer(trainable="last 1")).notes
        assert note == "the output weights are tied to the embeddings: unfreeze embeddings and head to train them"

    @pytest.mark.parametrize("name", ["gpt-neox lm", "albert"])  # an output layer of its own, a block that is shared
    def test_a_head_with_weights_of_its_own_has_no_note(self, name):
        model, _ = architectures.make(name)
        assert freezing.count(model, blocks.find(model), Transfer(trainable="head")).notes == ()

    def test_a_tied_weight_counts_once(self, llama):
        model, found = llama
        counts = freezing.count(model, found, Transfer(trainable="all"))
        assert counts.trainable == counts.total == sum(p.numel() for p in model.parameters())

    def test_alone_it_trains_nothing(self, llama):
        with pytest.raises(PlanError, match="shared with blocks that are frozen") as error:
            freezing.resolve(llama[1], Transfer(trainable=("embeddings",)))
        assert error.value.hint == "choose trainable='last 2', or 'all' with method='lora'"
        one = [block for block in llama[1] if block.name not in ("block 2", "block 3")]
        with pytest.raises(PlanError, match="'last 1'"):
            freezing.resolve(one, Transfer(trainable=("embeddings",)))

    def test_adapters_leave_a_tied_head_alone(self, llama):
        model, found = llama
        choice = Transfer(trainable="last 1", method="lora")
        assert freezing.resolve(found, choice) == ("block 3",)
        assert "tied" in freezing.count(model, found, choice).notes[0]
        with pytest.raises(PlanError, match="nothing would be trained") as error:
            freezing.resolve(found, Transfer(trainable="head", method="lora"))
        assert error.value.hint == "choose trainable='last 2' or 'all'"


def test_norms_without_weights_and_plain_modules_work():
    model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4, affine=False), nn.Linear(4, 2))
    found = blocks.find(model)
    before = copy_of(model)
    freezing.train_mode(model, found, ("head",))
    model(torch.randn(8, 4))
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())

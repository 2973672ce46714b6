"""Adapters: counted truly from shapes, of no effect at step 0, alone in moving, and folded in exactly."""

import copy
import warnings

import architectures
import peft
import pytest
import torch
import transformers as tf
from torch import nn

from workbench.errors import PlanError
from workbench.models import blocks, freezing, lora
from workbench.plan.choices import Transfer

pytestmark = pytest.mark.slow  # the whole file takes some seconds


LORA = Transfer(trainable="all", method="lora", lora_rank=2, lora_alpha=8.0)


def logits(model):
    torch.manual_seed(7)
    with torch.no_grad():
        return architectures.forward(model, rows=2)


def in_double(model):
    torch.set_default_dtype(torch.float64)  # so are the random pixels, and the tables that models make on the way
    try:
        return logits(model)
    finally:
        torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("name", architectures.NAMES)
def test_adapters_are_counted_truly_and_do_nothing_at_step_0(name):
    model, _ = architectures.make(name)
    found = blocks.find(model)
    plain, counts = logits(model), freezing.count(model, found, LORA)
    state = torch.get_rng_state()

    freezing.freeze(model, found, LORA, seed=3)

    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(logits(model), plain)
    assert counts.trainable == sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert counts.total == sum(p.numel() for p in model.parameters())
    assert counts.by_block[found[0].name] == 0 or found[0].kind == "block"
    assert freezing.count(model, found, LORA) == counts, "counting again, with the adapters in, must give the same"


@pytest.mark.parametrize(
    "name",
    [
        "albert",
        "bert",
        "gpt2",
        "llama-tied lm",
        "t5",
        "vit",
        "efficientnet-lite",
        "mobilenet-v2",
        "resnet-basic",
        "swin",
    ],
)
def test_only_adapters_and_head_move_and_fold_in_exactly(name):
    model, _ = architectures.make(name)
    found = blocks.find(model)
    names = freezing.resolve(found, LORA)
    before, plain = copy.deepcopy(model.state_dict()), logits(model)
    freezing.freeze(model, found, LORA)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2, weight_decay=0.1)
    for _ in range(3):
        freezing.train_mode(model, found, names)
        architectures.forward(model, rows=2).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
    model.eval()

    after = {lora.own_name(key): tensor for key, tensor in model.state_dict().items() if not lora.is_adapter(key)}
    head = {key for block in found if block.kind == "head" and block.name in names for key in inside(block, after)}
    assert {*after} == {*before}
    assert {key for key in before if not torch.equal(after[key], before[key])} <= head
    assert not torch.equal(logits(model), plain)

    merged = lora.fold(copy.deepcopy(model))
    assert {*merged.state_dict()} == {*before}
    # What the two round differently may grow in norms and deep layers, so equality is looked at in float64.
    exact = copy.deepcopy(model).double()
    torch.testing.assert_close(in_double(lora.fold(copy.deepcopy(exact))), in_double(exact), atol=1e-9, rtol=1e-7)
    torch.testing.assert_close(logits(merged), logits(model), atol=1e-3, rtol=1e-2)


def inside(block, names):
    return [name for name in names if any(name.startswith(f"{path}.") for path in block.modules)]


def test_the_seed_makes_the_adapters():
    def adapters(seed):
        model, _ = architectures.make("bert")
        freezing.freeze(model, blocks.find(model), LORA, seed=seed)
        return torch.cat([p.flatten() for name, p in model.named_parameters() if lora.is_adapter(name)])

    assert torch.equal(adapters(1), adapters(1))
    assert not torch.equal(adapters(1), adapters(2))


def test_peft_counts_the_same():
    model, _ = architectures.make("llama")
    counts = freezing.count(model, blocks.find(model), LORA)
    config = peft.LoraConfig(r=2, target_modules="all-linear", task_type="SEQ_CLS")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PEFT asks transformers by a name that it has deprecated
        trainable, total = peft.get_peft_model(model, config).get_nb_trainable_parameters()
    # Ours trains the last norm with the head; PEFT keeps the head twice.
    assert (counts.trainable, counts.total) == (trainable + 16, total - 3 * 16)


def test_only_the_chosen_blocks_get_adapters():
    model, _ = architectures.make("gpt2")
    freezing.freeze(model, blocks.find(model), Transfer(trainable=("block 2",), method="lora"))
    adapted = {name.split(".")[2] for name, p in model.named_parameters() if p.requires_grad}
    assert adapted == {"1"}


def test_output_projection_read_without_a_call_gets_none():
    class Reader(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = nn.ModuleList(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True) for _ in range(2))
            self.head = nn.Linear(8, 2)

        def forward(self, x):
            for layer in self.layers:
                x = layer(x)
            return self.head(x)

    model = Reader()
    found = blocks.find(model)
    assert [path.split(".")[-1] for path in lora.targets(model, found[:1])] == ["linear1", "linear2"]


def test_a_block_without_layers_says_so():
    class Scale(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm = nn.LayerNorm(4)

        def forward(self, x):
            return self.norm(x)

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = nn.ModuleList([Scale(), Scale()])

        def forward(self, x):
            return self.layers[1](self.layers[0](x))

    model = Model()
    with pytest.raises(PlanError, match="no layer that an adapter fits"):
        freezing.freeze(model, blocks.find(model), LORA)


def test_merged_model_saves_and_loads_as_an_ordinary_one(tmp_path):
    model, _ = architectures.make("gpt2")
    freezing.freeze(model, blocks.find(model), LORA)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if lora.is_adapter(name):
                parameter.normal_(std=0.1)
    lora.fold(copy.deepcopy(model)).save_pretrained(tmp_path)
    loaded = tf.GPT2ForSequenceClassification.from_pretrained(tmp_path)
    torch.testing.assert_close(logits(loaded), logits(model), atol=1e-5, rtol=1e-5)

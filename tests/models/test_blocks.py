"""The blocks of every architecture are found from the model itself, and finding them leaves it as it was."""

import architectures
import pytest
import torch
from torch import nn

from workbench.models import blocks, trace

pytestmark = pytest.mark.slow  # the whole file takes some seconds


def copy_of(model):
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


@pytest.mark.parametrize("name", architectures.NAMES)
def test_blocks_partition_the_model(name):
    model, number = architectures.make(name)
    model.train()
    model.get_submodule(next(path for path, _ in model.named_children())).eval()  # a mixed mode must survive too
    before, modes = copy_of(model), [module.training for module in model.modules()]
    state = torch.get_rng_state()

    assert trace.trace(model) is not None
    found = blocks.find(model)

    middle = [block.name.removesuffix(" (shared)") for block in found if block.kind == "block"]
    assert middle == [f"block {i}" for i in range(1, number + 1)]
    assert [block.kind for block in found if block.kind != "block"][-1] == "head" == found[-1].kind

    parameters = dict(model.named_parameters())
    uses = [name for block in found for name in block.parameters]
    tied = {name for name in uses if uses.count(name) > 1}
    assert {*uses} == {*parameters}
    assert tied <= {id_name for id_name in parameters if is_tied(model, id_name)}
    assert all(block.size == sum(parameters[name].numel() for name in block.parameters) for block in found)

    paths = [path for block in found for path in block.modules]
    assert len({*paths}) == len(paths)
    for block in found:  # everything inside a block's modules is the block's
        inside = {id(p) for path in block.modules for p in model.get_submodule(path).parameters()}
        assert inside <= {id(parameters[name]) for name in block.parameters}

    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert [module.training for module in model.modules()] == modes
    assert torch.equal(torch.get_rng_state(), state)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def is_tied(model, name):
    parameter = dict(model.named_parameters())[name]
    return sum(p is parameter for _, p in model.named_parameters(remove_duplicate=False)) > 1


@pytest.mark.parametrize(
    ("name", "first", "head"),
    [
        ("bert", ("bert.embeddings",), ("bert.pooler", "dropout", "classifier")),
        ("deberta-v2", ("deberta.embeddings", "deberta.encoder.rel_embeddings", "deberta.encoder.LayerNorm"), None),
        ("gpt2 lm", ("transformer.wte", "transformer.wpe", "transformer.drop"), ("transformer.ln_f", "lm_head")),
        ("resnet-basic", ("resnet.embedder",), ("resnet.pooler", "classifier")),
        ("vit", ("vit.embeddings",), ("vit.layernorm", "classifier")),
        ("plain resnet", ("conv1", "bn1", "relu"), ("fc",)),
    ],
)
def test_what_is_first_and_last(name, first, head):
    model, _ = architectures.make(name)
    found = blocks.find(model)
    assert found[0].modules == first
    assert head is None or found[-1].modules == head


def test_tied_output_layer_is_in_both_blocks():
    model, _ = architectures.make("llama-tied lm")
    found = blocks.find(model)
    assert {"model.embed_tokens.weight"} == {*found[0].parameters} & {*found[-1].parameters}


def test_layers_run_again_and_again_are_one_shared_block():
    model, _ = architectures.make("albert")
    assert [block.name for block in blocks.find(model)] == ["embeddings", "block 1 (shared)", "head"]


def test_what_is_left_of_a_stage_stays_in_it():
    model, _ = architectures.make("swin")
    modules = {block.name: block.modules for block in blocks.find(model)}
    assert "swin.encoder.layers.0.downsample" in modules["block 2"]
    assert modules["block 3"] == ("swin.encoder.layers.1",)


def test_residual_layers_are_blocks_and_their_convolutions_are_not():
    model, _ = architectures.make("resnet-bottleneck")
    paths = [path for block in blocks.find(model) if block.kind == "block" for path in block.modules]
    assert paths == [f"resnet.encoder.stages.{i}.layers.{j}" for i, j in ((0, 0), (0, 1))] + ["resnet.encoder.stages.1"]


def test_minilm_head_has_148_610_parameters():
    import transformers

    config = transformers.BertConfig(
        hidden_size=384, num_hidden_layers=1, num_attention_heads=12, intermediate_size=64, vocab_size=99, num_labels=2
    )
    with torch.device("meta"):
        model = transformers.BertForSequenceClassification(config)
    assert blocks.find(model)[-1].size == 384 * 384 + 384 + 2 * 384 + 2 == 148_610


class Untraceable(nn.Module):
    """A model whose forward no guess fits."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Linear(4, 4)
        self.layers = nn.ModuleList(nn.TransformerEncoderLayer(4, 2, 8) for _ in range(2))
        self.head = nn.Linear(4, 2)

    def forward(self, *, left, right):
        return self.head(left + right)


def test_without_a_trace_the_order_of_registration_has_to_do():
    model = Untraceable()
    assert trace.trace(model) is None
    found = blocks.find(model)
    assert [(block.name, block.modules) for block in found] == [
        ("stem", ("stem",)),
        ("block 1", ("layers.0",)),
        ("block 2", ("layers.1",)),
        ("head", ("head",)),
    ]


def test_nothing_repeated_gives_one_block_for_each_weight():
    found = blocks.find(nn.Sequential(nn.Linear(4, 8), nn.LayerNorm(8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 2)))
    assert [(block.name, block.modules) for block in found] == [("block 1", ("0", "1")), ("head", ("2", "3", "4"))]


def test_a_single_layer_is_a_head():
    assert [(block.name, block.size) for block in blocks.find(nn.Linear(3, 2))] == [("head", 8)]

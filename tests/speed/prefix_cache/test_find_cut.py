"""Cuts are found from the model itself, and a model that starts at its cut has the same logits and gradients."""

from concurrent.futures import ThreadPoolExecutor

import architectures
import pytest
import torch
from answers import answer, answered, assert_alike, inputs
from torch import nn

from workbench.models import blocks
from workbench.speed.prefix_cache import find_cut
from workbench.speed.prefix_cache.cut import ROWS, TIME, UncuttableError
from workbench.speed.prefix_cache.patch import activations_at_cut, patched, replace_activations, start_at_cut
from workbench.speed.prefix_cache.prove_cut import ProbeBatch

QUICK = ("bert", "gpt2", "resnet-basic", "albert", "deberta-v2", "swin", "efficientnet-lite", "llama-tied lm", "t5")


def probe_batch(model, rows, time, seed=0):
    batch, time = inputs(model, rows, time, seed)
    return ProbeBatch(lambda: answer(model, batch), rows, time)


def cut_of(name, first):
    """Return the model, with the blocks below `first` frozen, and its cut."""
    model, _ = architectures.make(name)
    found = blocks.find(model)
    first = first if first >= 0 else len(found) + first
    frozen = {parameter for block in found[:first] for parameter in block.parameters}
    for parameter_name, parameter in model.named_parameters():
        parameter.requires_grad_(parameter_name not in frozen)
    return model, find_cut.find(model, found, first, (probe_batch(model, 2, 5), probe_batch(model, 3, 9)))


def from_inputs_and_from_cut(model, cut, batch, time):
    """Return (logits, gradients) of a batch from its inputs, and from the activations at the cut."""
    rows = len(next(iter(batch.values())))
    with torch.no_grad():
        value = activations_at_cut(model, cut, lambda: answer(model, batch))
    if cut.first_of is not None:
        value = value.narrow(cut.first_of, 0, 1)
    whole = answered(model, batch)
    with patched(model, cut, rows, time, replace_activations(cut, value)):
        return whole, answered(model, batch)


@pytest.mark.parametrize("first", [-1, -2])
@pytest.mark.parametrize(
    "name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in
             [*architectures.CLASSIFIERS, *(f"{n} lm" for n in architectures.DECODERS), "plain resnet", "plain vgg"]],
)  # fmt: skip
def test_every_architecture_is_cut_or_refused_with_a_reason(name, first):
    if (name, first) in REFUSED:
        with pytest.raises(UncuttableError, match="read"):
            cut_of(name, first)
        return
    model, cut = cut_of(name, first)
    batch, time = inputs(model, 4, 7, seed=5)  # the cut was found with other sizes
    assert_alike(*from_inputs_and_from_cut(model, cut, batch, time))
    assert cut.shape.axis(ROWS) is not None
    assert cut.skipped


# Their blocks read more than one value from below.
REFUSED = {("t5", -2), ("bart", -2), ("mobilevit", -2), ("squeezebert", -2)}


def test_nothing_runs_below_the_cut():
    model, cut = cut_of("bert", -2)
    batch, _ = inputs(model, 2, 6)
    with torch.no_grad():
        value = activations_at_cut(model, cut, lambda: answer(model, batch))
    ran = []
    for name, module in model.named_modules():
        module.register_forward_hook(lambda module, args, output, name=name: ran.append(name))
    with patched(model, cut, 2, 6, replace_activations(cut, value)):
        answer(model, batch)
    below = ("bert.embeddings.", "bert.encoder.layer.0.", "bert.encoder.layer.1.")
    assert not [name for name in ran if name.startswith(below)]
    assert "bert.encoder.layer.2.attention" in ran


def test_only_the_first_token_is_cached_if_the_head_reads_no_other():
    _, cut = cut_of("bert", -1)
    assert (cut.first_of, cut.shape.sizes) == (1, (ROWS, 1, 16))
    _, cut = cut_of("gpt2", -1)  # its head reads the last token, whose position varies
    assert (cut.first_of, cut.shape.sizes) == (None, (ROWS, TIME, 16))


def test_pooled_features_are_cached_for_a_convolutional_network():
    _, cut = cut_of("resnet-basic", -1)
    assert cut.shape.sizes == (ROWS, 32, 1, 1)


class Bypass(nn.Module):
    """A network whose last layer also reads the output of the first block."""

    def __init__(self, scale=1.0):
        super().__init__()
        self.embed = nn.Linear(4, 8)
        self.layers = nn.ModuleList(nn.Sequential(nn.Linear(8, 8), nn.Tanh()) for _ in range(3))
        self.head = nn.Linear(8, 2)
        self.scale = scale

    def forward(self, x):
        first = x = self.layers[0](self.embed(x))
        for layer in self.layers[1:]:
            x = layer(x)
        return self.head(x + self.scale * first)


class Gain(Bypass):
    """A network with a trainable weight that is in none of the blocks and is used below them."""

    def __init__(self):
        super().__init__(scale=0.0)
        self.gain = nn.Parameter(torch.ones(8))

    def forward(self, x):
        x = self.embed(x) * self.gain
        for layer in self.layers:
            x = layer(x)
        return self.head(x)


def plain_batches(model):
    inputs = [torch.randn(rows, 4) for rows in (2, 3)]
    return tuple(ProbeBatch(lambda x=x: model(x), len(x), 0) for x in inputs)


def test_a_value_that_bypasses_the_cut_is_detected():
    torch.manual_seed(0)
    model = Bypass()
    with pytest.raises(UncuttableError, match="read elsewhere than by block 3"):
        find_cut.find(model, blocks.find(model), 3, plain_batches(model))


def test_a_trainable_weight_outside_the_blocks_is_detected():
    torch.manual_seed(0)
    model = Gain()
    found = blocks.find(model)
    for block in found[:3]:
        for path in block.modules:
            if path:
                model.get_submodule(path).requires_grad_(False)
    model.gain.requires_grad_(True)
    with pytest.raises(UncuttableError, match="trainable weight"):
        find_cut.find(model, found, 3, plain_batches(model))


def test_the_model_is_restored_even_after_an_error():
    model, cut = cut_of("bert", -2)
    before = {name: vars(module).copy() for name, module in model.named_modules()}
    batch, time = inputs(model, 2, 6)

    def broken(leaves):
        raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"), patched(model, cut, 2, time, broken):
        model(**batch)
    activations_at_cut(model, cut, lambda: model(**batch))
    for name, module in model.named_modules():
        assert "forward" not in vars(module)
        assert len(module._forward_pre_hooks) == len(before[name]["_forward_pre_hooks"]) == 0


def test_the_model_is_not_changed_for_another_thread():
    model, cut = cut_of("bert", -2)
    batch, _ = inputs(model, 2, 6)
    with torch.no_grad():
        expected = answer(model, batch)
        with patched(model, cut, 2, 6, replace_activations(cut, torch.zeros(2, 6, 16))):
            other = ThreadPoolExecutor(1).submit(torch.no_grad()(lambda: answer(model, batch))).result()
            own = answer(model, batch)
    assert torch.equal(other, expected)
    assert not torch.equal(own, expected)


@pytest.mark.parametrize(("name", "tail"), [("bert", ("bert.pooler", "dropout", "classifier")), ("gpt2", ())])
def test_only_the_head_runs_if_it_is_a_chain_of_modules(name, tail):
    model, cut = cut_of(name, -1)
    assert cut.tail == tail
    batch, time = inputs(model, 4, 7)
    with torch.no_grad():
        value = activations_at_cut(model, cut, lambda: answer(model, batch))
    value = value if cut.first_of is None else value.narrow(cut.first_of, 0, 1)
    whole, ran = answered(model, batch), []
    for path, module in model.named_modules():
        module.register_forward_hook(lambda module, args, output, path=path: ran.append(path))
    with start_at_cut(model, cut, value, rows=4, time=time):
        assert_alike(whole, answered(model, batch))
    assert ("bert" in ran, "transformer" in ran) == (False, name == "gpt2")

import dataclasses
import re

import architectures
import pytest
import tiny
import torch
import transformers as tf
from datasets import Dataset
from hypothesis import given
from hypothesis import strategies as st
from rounding import same_loss

from workbench.plan.choices import Data
from workbench.tasks import TABLE, packing
from workbench.tasks.examples import IGNORED

TASK = TABLE["language-modeling"]
CONFIGS = {
    **{name: architectures.DECODERS[name][0] for name in ("gpt2", "gpt-neox", "llama-tied", "mixtral", "opt")},
    **{name: architectures.CLASSIFIERS[name][0] for name in ("gemma2", "gpt-neo", "mistral", "falcon", "bloom")},
    "recurrent-gemma": tf.RecurrentGemmaConfig(
        vocab_size=60,
        hidden_size=16,
        num_hidden_layers=3,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=8,
        intermediate_size=24,
        lru_width=16,
        attention_window_size=32,
        pad_token_id=0,
        eos_token_id=2,
        bos_token_id=1,
    ),
}
UNFIT = {"bloom": "takes no position ids", "recurrent-gemma": "differently|does not accept"}


def model(name, **options):
    torch.manual_seed(0)
    made = tf.AutoModelForCausalLM.from_config(CONFIGS[name], **options)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return made.eval()


def examples(lengths=(12, 3, 5, 7, 2, 4), overlap=1):
    backbone = tiny.backbone("llama")
    draw = torch.Generator().manual_seed(0)
    texts = [
        " ".join(tiny.WORDS[i] for i in torch.randint(len(tiny.WORDS), (length,), generator=draw)) for length in lengths
    ]
    return TASK.encode(Dataset.from_dict({"text": texts}), backbone, Data(max_length=64, window_overlap=overlap))


COLLATE = examples().collate


def gradient(made, batch):
    made.zero_grad()
    nats, targets = TASK.nats(made, batch)
    nats.backward()
    return nats.item() / targets, torch.cat([p.grad.flatten() for p in made.parameters() if p.grad is not None])


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("name", [name for name in CONFIGS if name not in UNFIT])
def test_packed_windows_give_the_loss_and_gradient_of_padded_ones(name, attention):
    if attention == "sdpa" and name in ("gemma2", "gpt-neo"):
        pytest.skip("transformers has no such attention for it")
    made, given_ = model(name, attn_implementation=attention), examples()
    packed = TASK.pack(given_, made)
    assert packed.notes == ()
    batch = packed.batch(range(6))
    assert len(batch["labels"]) == 3 < len(given_.batch(range(6))["labels"])
    expected, slope = gradient(made, given_.batch(range(6)))
    loss, found = gradient(made, batch)
    assert loss == same_loss(expected)
    assert (found - slope).norm() < 1e-5 * slope.norm()


@pytest.mark.parametrize("name", UNFIT)
def test_a_model_that_cannot_is_found_out_and_gets_padding(name):
    made = model(name).train()
    before, state = torch.get_rng_state(), {name: tensor.clone() for name, tensor in made.state_dict().items()}
    packed = TASK.pack(examples(), made)
    assert packed.layout is None
    assert re.search(UNFIT[name], packed.notes[-1])
    assert torch.equal(before, torch.get_rng_state())
    assert all(module.training for module in made.modules())
    assert all(torch.equal(state[name], tensor) for name, tensor in made.state_dict().items())


def test_attention_that_does_not_reach_over_a_window_is_refused():
    made = model("mistral")
    made.config.sliding_window = 8
    assert "reaches back 8 tokens, and the longest window has 12" in TASK.pack(examples(), made).notes[-1]
    made.config.sliding_window = 12
    assert TASK.pack(examples(), made).notes == ()


@pytest.mark.parametrize("spoilt", ["position_ids", "attention_mask"])
def test_the_trial_sees_shifted_positions_and_a_leak(spoilt, monkeypatch):
    genuine = packing.lay

    def lay(batch, *, is_bool):
        laid = genuine(batch, is_bool=is_bool)
        wrong = torch.arange(laid["real"].shape[1]).expand(laid["real"].shape)
        if spoilt == "attention_mask":
            wrong = torch.ones_like(laid["attention_mask"]).tril()
        return {**laid, spoilt: wrong}

    monkeypatch.setattr(packing, "lay", lay)
    assert "differently" in TASK.pack(examples(), model("gpt2")).notes[-1]


@given(st.lists(st.integers(2, 20), min_size=1, max_size=12), st.integers(1, 5), st.booleans())
def test_a_packed_batch_holds_every_window_once_and_says_where(lengths, overlap, is_bool):
    ids = [torch.arange(100 * i, 100 * i + length) + 1 for i, length in enumerate(lengths)]
    items = [(window, min(overlap, len(window) - 1)) for window in ids]
    padded = COLLATE(items)
    batch = packing.lay(padded, is_bool=is_bool)
    if "order" not in batch:
        assert batch is padded
        return
    rows, longest = batch["input_ids"].shape
    assert (rows < len(lengths), longest) == (True, max(lengths))
    order = batch["order"].tolist()
    assert sorted(order) == list(range(len(lengths)))
    assert torch.equal(batch["input_ids"][batch["real"]], torch.cat([ids[index] for index in order]))
    assert torch.equal(batch["position_ids"][batch["real"]], torch.cat([torch.arange(lengths[i]) for i in order]))
    was = padded["attention_mask"].bool()
    labels = torch.cat([padded["labels"][index][was[index]] for index in order])
    assert torch.equal(batch["labels"][batch["real"]], labels)
    assert (batch["labels"][~batch["real"]] == IGNORED).all()
    seen = batch["attention_mask"].squeeze(1) if is_bool else batch["attention_mask"].squeeze(1) == 0
    reads = seen.sum(-1)  # (rows, time): places that each one reads
    assert torch.equal(reads[batch["real"]], batch["position_ids"][batch["real"]] + 1)
    assert (reads > 0).all()


def test_windows_that_never_fit_beside_each_other_are_not_tried():
    made = model("gpt2")
    made.forward = None  # would raise
    for lengths in ((12, 12, 12), (12, 8, 7), (9,), (9, 4)):
        given_ = examples(lengths)
        assert TASK.pack(given_, made) is given_


def test_a_sample_keeps_the_layout_and_classifiers_have_none():
    packed = TASK.pack(examples(), model("gpt2"))
    assert packed.sample(5, seed=0).layout is packed.layout
    assert dataclasses.replace(packed).padded(range(6))["input_ids"].shape == (6, 12)
    bert = tiny.backbone("bert")
    encoded = TABLE[bert.task].encode(tiny.rows("bert", 9), bert, Data())
    assert TABLE[bert.task].pack(encoded, bert.model) is encoded

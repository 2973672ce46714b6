import copy

import architectures
import pytest
import tiny
import torch
import transformers as tf
from rounding import differ, same_loss
from torch.nn import functional as F

from workbench.models import blocks
from workbench.models.freezing import freeze
from workbench.plan.choices import Data, Transfer
from workbench.tasks import TABLE, cross_entropy, output_layer
from workbench.tasks.examples import IGNORED

TASK = TABLE["language-modeling"]
SCALED = {
    "cohere": tf.CohereConfig(**architectures.LLAMA),
    "gemma2": tf.Gemma2Config(**architectures.LLAMA, final_logit_softcapping=5.0),
    "granite": tf.GraniteConfig(**architectures.LLAMA, logits_scaling=3.0),
}
CONFIGS = {**{name: config for name, (config, _) in architectures.DECODERS.items()}, **SCALED}


def model(name):
    torch.manual_seed(0)
    made = tf.AutoModelForCausalLM.from_config(CONFIGS[name])
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return made.eval()


def batch(count=9):
    backbone = tiny.backbone("llama")
    return TASK.encode(tiny.rows("llama", count), backbone, Data(max_length=12)).batch(range(count))


def gradients(made, loss):
    made.zero_grad()
    loss.backward()
    return {name: p.grad.clone() for name, p in made.named_parameters() if p.grad is not None}


def as_before(made, some):
    """Count with all logits, as a reader of the definition would."""
    logits = made(input_ids=some["input_ids"], attention_mask=some["attention_mask"]).logits
    is_target = some["labels"] != IGNORED
    return F.cross_entropy(logits[is_target].float(), some["labels"][is_target], reduction="sum")


def agree(made, some, *, rtol=1e-6):
    expected = as_before(made, some)
    wanted = gradients(made, expected)
    found, targets = TASK.nats(made, some)
    got = gradients(made, found)
    assert targets == int((some["labels"] != IGNORED).sum())
    assert found.item() / max(targets, 1) == same_loss(expected.item() / max(targets, 1))
    assert list(got) == list(wanted)
    whole = torch.cat([g.flatten() for g in wanted.values()]).norm()
    assert all((got[name] - wanted[name]).norm() <= rtol * whole for name in wanted)
    return found.item()


@pytest.mark.parametrize("name", CONFIGS)
def test_nats_and_gradient_are_those_of_all_the_logits(name, monkeypatch):
    monkeypatch.setattr(cross_entropy, "LOGITS", 60 * 7)  # seven targets at a time
    made, some = model(name), batch()
    agree(made, some)
    assert (made in output_layer._CHANGES_LOGITS) == (name in SCALED)
    logits, truth = TASK.score(made, some)
    is_target = some["labels"] != IGNORED
    whole = made(input_ids=some["input_ids"], attention_mask=some["attention_mask"]).logits
    assert differ(logits, whole[is_target]) < 1e-5
    assert torch.equal(truth, some["labels"][is_target])
    agree(copy.deepcopy(made), some)


@pytest.mark.parametrize("trainable", ["head", "last 1", "all"])
@pytest.mark.parametrize("method", ["weights", "lora"])
@pytest.mark.parametrize("name", ["llama-tied", "gpt-neox"])
def test_so_they_are_whatever_learns(name, method, trainable):
    made, some = model(name), batch()
    if (method, trainable) == ("lora", "head"):
        pytest.skip("no layer of these heads takes an adapter")
    freeze(made, blocks.find(made), Transfer(trainable=trainable, method=method), seed=0)
    agree(made, some)


def test_a_batch_without_a_target_costs_nothing_and_moves_nothing():
    for name in ("llama-tied", "gemma2"):
        made, some = model(name), batch()
        some["labels"][:] = IGNORED
        found, targets = TASK.nats(made, some)
        assert (found.item(), targets) == (0, 0)
        assert all(not slope.any() for slope in gradients(made, found).values())


@pytest.mark.parametrize("name", ["llama-tied", "gemma2"])
def test_in_bf16_they_are_those_of_bf16(name):
    made, some = model(name), batch()
    with torch.autocast("cpu", torch.bfloat16):
        agree(made, some, rtol=0.02)


def test_no_logits_are_made_where_the_layer_is_plain(monkeypatch):
    made, some = model("llama-tied"), batch()
    sizes = []
    monkeypatch.setattr(cross_entropy, "LOGITS", 60 * 7)
    genuine = torch.mm

    def multiplied(left, right, out=None):
        sizes.append(len(left))
        return genuine(left, right, out=out)

    monkeypatch.setattr(torch, "mm", multiplied)
    made.lm_head.forward = lambda hidden: pytest.fail("the layer was run")
    _, targets = TASK.nats(made, some)
    assert (max(sizes), sum(sizes)) == (7, targets)


@pytest.mark.parametrize("name", ["llama-tied", "gemma2"])
def test_the_layer_is_as_it_was_even_if_the_model_raises(name):
    made, some = model(name), batch()
    TASK.nats(made, some)
    assert "forward" not in vars(made.lm_head)
    norm = made.model.norm.register_forward_hook(lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        TASK.nats(made, some)
    norm.remove()
    assert "forward" not in vars(made.lm_head)
    own = made.lm_head.forward = made.lm_head.forward  # as accelerate does
    TASK.nats(made, some)
    assert vars(made.lm_head)["forward"] is own


def test_another_thread_sees_the_whole_model_meanwhile():
    from threading import Thread

    made, some, shapes = model("llama-tied"), batch(), []
    ids = some["input_ids"][:2]

    def look(*_):
        hook.remove()
        thread = Thread(target=lambda: shapes.append(made(input_ids=ids).logits.shape))
        thread.start()
        thread.join()

    hook = made.model.norm.register_forward_hook(look)
    TASK.nats(made, some)
    assert shapes == [(*ids.shape, 60)]


def test_a_layer_that_is_watched_is_run_and_seen():
    made, some, seen = model("llama-tied"), batch(), []
    made.lm_head.register_forward_hook(lambda layer, given, said: seen.append(said.shape))
    agree(made, some)
    assert (1, int((some["labels"] != IGNORED).sum()), 60) in seen


@pytest.mark.parametrize("name", ["llama-tied", "gemma2"])
def test_the_first_call_draws_the_dropout_that_every_call_draws(name):
    made, some = model(name), batch()
    made.train()
    for module in made.modules():
        module.attention_dropout = 0.5
    ends, losses = [], []
    for _ in range(2):
        torch.manual_seed(3)
        losses.append(TASK.nats(made, some)[0].item())
        ends.append(torch.rand(1).item())
    assert (losses[0], ends[0]) == (losses[1], ends[1])
    made.eval()
    assert TASK.nats(made, some)[0].item() != losses[0]

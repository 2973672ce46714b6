"""If only the first position is read, the last block computes no other, and all numbers are the same."""

from concurrent.futures import ThreadPoolExecutor

import architectures
import pytest
import tiny
import torch
from answers import answered, assert_alike, inputs
from torch import nn

from workbench.events import EvaluationEnded, StepEnded
from workbench.models import blocks
from workbench.plan.plan import Plan
from workbench.runs.build import make_learner
from workbench.speed import narrowing
from workbench.speed.prefix_cache import store
from workbench.tasks import TABLE
from workbench.training import engine
from workbench.training.learner import score
from workbench.training.settings import Settings

PLAN = Plan().change(
    trainable="all", batch_size=6, epochs=2, precision="fp32", dropout=0.0, learning_rate=3e-3, max_length=10,
    evaluate_every=5,
)  # fmt: skip
NARROWED = {
    *("bert", "deberta-v2", "distilbert", "electra", "mobilebert", "modernbert", "mpnet", "roberta"),
    *("deit", "pvt", "vit"),
}
QUICK = ("bert", "gpt2", "resnet-basic", "distilbert", "vit", "albert")
NAMES = [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in architectures.CLASSIFIERS]
CAUSAL = ("gpt2", "llama")


def find(model, shapes=((2, 5), (1, 9))):
    made = [inputs(model, rows, time)[0] for rows, time in shapes]
    return narrowing.find(model, blocks.find(model), [lambda batch=batch: model(**batch).logits for batch in made])


def make(kind, plan=PLAN, **options):
    backbone = tiny.backbone(kind, **options)
    train, validation = (TABLE[backbone.task].encode(tiny.rows(kind, count), backbone, plan.data) for count in (40, 14))
    return make_learner(backbone, train, validation, plan, settings=Settings().overridden_by(plan.tuning))


def numbers(learner):
    events = list(engine.train(learner))
    losses = [event.loss for event in events if isinstance(event, StepEnded)]
    return torch.tensor([*losses, *(event.metrics["loss"] for event in events if isinstance(event, EvaluationEnded))])


def positions_seen(module):
    """Return a list to which each run of the module appends the number of positions of its output."""
    seen = []
    module.register_forward_hook(lambda module, args, out: seen.append(out.shape[1]))
    return seen


@pytest.mark.parametrize("name", NAMES)
def test_logits_and_gradients_are_the_same_for_each_architecture_that_reads_the_first_position(name):
    model, _ = architectures.make(name)
    found = find(model)
    assert bool(found) == (name in NARROWED)
    for rows, time in ((3, 4), (4, 11)) if found else ():
        batch, _ = inputs(model, rows, time, seed=1)
        whole = answered(model, batch)
        with narrowing.narrowed(model, found):
            assert_alike(whole, answered(model, batch))


def test_the_model_is_not_changed():
    model, _ = architectures.make("bert")
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    state = torch.get_rng_state()
    find(model)
    assert torch.equal(torch.get_rng_state(), state)
    assert not any(module.training or module._forward_pre_hooks or module._forward_hooks for module in model.modules())
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize(
    "trainable", ["last 1", pytest.param("all", marks=pytest.mark.slow), pytest.param("head", marks=pytest.mark.slow)]
)
@pytest.mark.parametrize("cache", ["auto", pytest.param("off", marks=pytest.mark.slow)])
@pytest.mark.parametrize("kind", ["bert", pytest.param("vit", marks=pytest.mark.slow)])
def test_a_run_has_the_same_numbers_with_and_without_the_shortcut(kind, trainable, cache, monkeypatch, tmp_path):
    monkeypatch.setenv("FINETUNE_WORKBENCH_ACTIVATIONS", str(tmp_path))
    store._MEMORY.clear()
    plan = PLAN.change(trainable=trainable, prefix_cache=cache)
    narrowed, whole = make(kind, plan), make(kind, plan)
    assert narrowed.shortcuts[0].paths
    whole.shortcuts[0].paths = ()
    assert torch.allclose(numbers(narrowed), numbers(whole), rtol=1e-5, atol=0)
    for (name, one), other in zip(narrowed.model.state_dict().items(), whole.model.state_dict().values(), strict=True):
        assert torch.allclose(one, other, atol=2e-4), name


def test_attention_gets_every_position_and_later_layers_only_the_first():
    learner = make("bert")
    last, below = learner.model.bert.encoder.layer[1], learner.model.bert.encoder.layer[0]
    after, attention, other = map(positions_seen, (last.intermediate, last.attention.self.key, below.output))
    batch = learner.batch(learner.train, [0, 1, 2])
    score(learner, batch)
    positions = batch["input_ids"].shape[1]
    assert (after, attention, other) == ([1], [positions], [positions])


def test_every_position_is_computed_for_another_thread():
    model, _ = architectures.make("bert")
    found, (batch, time) = find(model), inputs(model, 3, 7)
    seen = positions_seen(model.bert.encoder.layer[2].intermediate)
    with narrowing.narrowed(model, found), ThreadPoolExecutor(1) as pool:
        pool.submit(model, **batch).result()
        model(**batch)
    assert seen == [time, 1]


def test_dropout_has_the_same_probability():
    learner = make("bert", PLAN.change(dropout=0.3))
    learner.model.train()
    drop = learner.model.bert.encoder.layer[1].output.dropout
    kept = []
    drop.register_forward_hook(lambda module, args, out: kept.append((out != 0).float().mean().item()))
    batch = learner.batch(learner.train, list(range(40)))
    for _ in range(50):
        score(learner, batch)
    assert sum(kept) / len(kept) == pytest.approx(0.7, abs=4 * (0.3 * 0.7 / (50 * 40 * 16)) ** 0.5)


def test_dropout_is_the_same_with_and_without_the_cache():
    plan = PLAN.change(dropout=0.3, trainable="last 1")
    cached, plain = (numbers(make("bert", plan.change(prefix_cache=cache))) for cache in ("auto", "off"))
    assert torch.allclose(cached, plain, rtol=1e-5, atol=0)


def test_no_part_of_an_adapted_layer_is_narrowed_by_itself():
    paths = make("bert", PLAN.change(method="lora", trainable="all")).shortcuts[0].paths
    assert paths == make("bert").shortcuts[0].paths == ("bert.encoder.layer.1.attention.output",)


@pytest.mark.parametrize("kind", CAUSAL)
@pytest.mark.parametrize("task", ["text-classification", "language-modeling"])
def test_a_model_that_reads_other_positions_computes_them(kind, task):
    made = make(kind, task=task)
    assert made.shortcuts[0].paths == ()


class ReadsMore(nn.Module):
    """Reads the first position, and in a long row another one too."""

    def __init__(self, bert):
        super().__init__()
        self.bert = bert

    def forward(self, ids):
        features = self.bert(ids).last_hidden_state
        return features[:, 0, :2] + features[:, 6:7, :2].sum(1)


def test_a_model_that_reads_other_positions_in_long_rows_is_detected_with_a_long_row():
    model = ReadsMore(architectures.make("bert")[0].bert).eval()
    made = [torch.randint(3, 60, shape) for shape in ((2, 5), (1, 9))]
    assert narrowing.find(model, blocks.find(model), [lambda ids=ids: model(ids) for ids in made]) == ()
    assert narrowing.find(model, blocks.find(model), [lambda: model(made[0])])


def test_blocks_with_activation_checkpointing_are_not_changed():
    model, _ = architectures.make("bert")
    model.activation_checkpointing_enable()
    assert find(model) == ()


@pytest.mark.parametrize("frozen", ["all of it", "the last block"])
def test_activation_checkpointing_is_detected_while_parameters_are_frozen(frozen):
    model, _ = architectures.make("bert")
    model.activation_checkpointing_enable()
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name.startswith("classifier") and frozen != "all of it")
    trainable_before = [parameter.requires_grad for parameter in model.parameters()]
    assert find(model) == ()
    assert [parameter.requires_grad for parameter in model.parameters()] == trainable_before


def test_rows_of_one_position_have_nothing_to_leave_out():
    model, _ = architectures.make("bert")
    made = torch.full((2, 1), 5)
    assert narrowing.find(model, blocks.find(model), [lambda: model(input_ids=made).logits]) == ()

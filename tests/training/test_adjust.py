from dataclasses import replace

import pytest
import tiny
import torch
import transformers as tf
from tiny_learner import PLAN, make, weights

from workbench.errors import PlanError
from workbench.events import PlanAdjusted, StepEnded, WeightsMoved
from workbench.models import blocks
from workbench.plan.plan import LIVE_FIELDS
from workbench.tasks import TABLE
from workbench.training import engine
from workbench.training.adjust import adjust
from workbench.training.build import build
from workbench.training.change import Change, check
from workbench.training.schedule import late_warmup

LONG = PLAN.change(max_steps=40, trainable="head", weight_decay=0.5, learning_rate=0.05)


def steps(made, count):
    for _ in range(count):
        engine.take_step(made)


def moved(before, made):
    return {name for name, tensor in weights(made.model).items() if not torch.equal(before[name], tensor)}


def own(made, *blocks):
    paths = tuple(f"{path}." for block in made.backbone.blocks if block.name in blocks for path in block.modules)
    return {name for name in made.model.state_dict() if name.startswith(paths)}


@pytest.mark.parametrize("kind", ["bert", "gpt2", "resnet"])
def test_unfreezing_in_mid_run_moves_what_was_frozen(kind):
    made = make(kind, LONG.change(trainable="last 1"))
    steps(made, 3)
    before = weights(made.model)
    first = made.backbone.blocks[1].name
    adjust(made, Change({"trainable": [first, *made.trainable]}))
    steps(made, 2)
    assert moved(before, made) & own(made, first)


@pytest.mark.parametrize("kind", ["bert", "gpt2", "resnet"])
def test_freezing_in_mid_run_lets_neither_momentum_nor_decay_move_anything(kind):
    made = make(kind, LONG.change(trainable="all"))
    steps(made, 3)
    before = weights(made.model)
    adjust(made, Change({"trainable": ["block 1"]}))
    steps(made, 4)
    assert moved(before, made) <= own(made, "block 1")
    assert moved(before, made)
    assert made.changed_frozen_tensors() == ()


def test_what_begins_to_learn_has_a_warm_up_of_its_own_and_the_rest_keeps_its_momentum():
    made = make("bert", LONG.change(schedule="constant", warmup_fraction=0.0))
    steps(made, 5)
    kept = {id(p): s["exp_avg"].clone() for p, s in made.optimizer.state.items()}
    adjust(made, Change({"trainable": "last 1"}))
    assert all(torch.equal(made.optimizer.state[p]["exp_avg"], kept[id(p)]) for p in made.optimizer.state)
    rates = []
    for _ in range(12):
        steps(made, 1)
        rates.append({group["trainable_since"]: group["lr"] for group in made.optimizer.param_groups})
    assert {rate[0] for rate in rates} == {0.05}
    assert [rate[5] for rate in rates] == pytest.approx([0.05 * min(1, (n + 1) / 11) for n in range(12)])


def test_joining_follows_the_plans_share_of_warm_up():
    choice = LONG.change(warmup_fraction=0.5).tuning
    assert late_warmup(100, 0, 200, choice) == 1.0
    assert [late_warmup(step, 100, 200, choice) for step in (100, 125, 149, 150, 199)] == pytest.approx(
        [1 / 51, 26 / 51, 50 / 51, 1, 1]
    )


def test_a_block_that_rests_for_a_while_joins_again():
    made = make("bert", LONG.change(trainable="last 1"))
    steps(made, 3)
    adjust(made, Change({"trainable": "head"}))
    steps(made, 3)
    before = weights(made.model)
    adjust(made, Change({"trainable": "last 1"}))
    steps(made, 1)
    assert moved(before, made) >= {name for name in own(made, "block 2") if name.endswith("weight")}
    assert {group["trainable_since"] for group in made.optimizer.param_groups} == {0, 6}
    assert made.progress.trained == ("block 2", "head")


def test_adapters_begin_and_cease_to_learn():
    made = make("gpt2", LONG.change(method="lora", trainable=("block 2",)))
    steps(made, 3)
    adjust(made, Change({"trainable": ("block 1",)}))
    before = weights(made.model)
    steps(made, 3)
    assert moved(before, made)
    assert all("lora_" in name and ".0." in name for name in moved(before, made))
    assert made.changed_frozen_tensors() == ()


def test_a_change_of_the_rate_is_obeyed_by_the_next_step():
    made = make("bert", LONG.change(schedule="constant", warmup_fraction=0.0))
    told = []
    changes = {2: [Change({"learning_rate": 0.001})], 3: [Change({"learning_rate": 0.001})]}
    for event in engine.train(made, changes=lambda step: changes.pop(step, ())):
        told.append(event)
        if isinstance(event, StepEnded) and event.step == 4:
            break
    assert [event.learning_rate for event in told if isinstance(event, StepEnded)] == [0.05, 0.05, 0.001, 0.001]
    assert [event for event in told if isinstance(event, PlanAdjusted)] == [
        PlanAdjusted(step=2, before={"learning_rate": 0.05}, after={"learning_rate": 0.001})
    ]


def test_a_change_that_can_not_be_leaves_the_learner_as_it_was():
    made = make("bert", LONG)
    before = (made.plan, made.trainable, [p.requires_grad for p in made.model.parameters()])
    for fields in ({"trainable": ["block 9"]}, {"batch_size": 3}, {"learning_rate": -1}, {"learning_rat": 1}):
        with pytest.raises(PlanError):
            adjust(made, Change(fields))
    assert before == (made.plan, made.trainable, [p.requires_grad for p in made.model.parameters()])


def test_what_a_run_can_obey_is_said():
    assert set(LIVE_FIELDS) == {"learning_rate", "trainable", "evaluate_every"}
    with pytest.raises(PlanError, match="can't change after the first step") as caught:
        check(PLAN, {"backbone": "other"})
    assert "new run" in caught.value.hint


def test_how_far_a_block_moved_is_the_relative_l2_distance():
    made = make("bert", LONG.change(trainable="last 1"))
    before = weights(made.model)
    steps(made, 3)
    told = engine.weights_moved(made).by_block
    assert list(told) == ["block 2", "head"]
    for name, value in told.items():
        names = [n for n, _ in made.model.named_parameters() if n in own(made, name)]
        now = weights(made.model)
        change = sum((now[n] - before[n]).square().sum().item() for n in names)
        size = sum(before[n].square().sum().item() for n in names)
        assert value == pytest.approx((change / size) ** 0.5, rel=1e-5)


def test_how_far_weights_that_started_at_zero_moved_is_the_root_mean_square_of_their_change():
    """Gemma 3 stores its norms as offsets from 1: zero at first, with nothing that a change could be relative to."""
    plan = LONG.change(trainable="head")
    config = tf.Gemma3TextConfig(
        **tiny.SIZES, **tiny.POSITIONS, num_key_value_heads=2, head_dim=8, pad_token_id=0, tie_word_embeddings=True
    )
    model = tf.Gemma3ForCausalLM(config)
    assert not model.model.norm.weight.any()
    backbone = replace(tiny.backbone("llama"), model=model, blocks=blocks.find(model))
    examples = TABLE[backbone.task].encode(tiny.rows("llama"), backbone, plan.data)
    made = build(backbone, examples, examples, plan)
    assert engine.weights_moved(made) == WeightsMoved(step=0, by_block={}, rms_by_block={"head": 0.0})
    steps(made, 3)
    expected = model.model.norm.weight.square().mean().sqrt().item()
    told = engine.weights_moved(made)
    assert (told.by_block, told.rms_by_block) == ({}, {"head": pytest.approx(expected, rel=1e-6)})
    assert expected > 0


def test_what_adapters_add_counts_as_movement_of_their_layer():
    made = make("llama", LONG.change(method="lora", trainable=("block 1",)))
    assert engine.weights_moved(made).by_block == {"block 1": 0.0}
    before = weights(tiny.backbone("llama").model)
    steps(made, 3)
    from workbench.runs.export import copy_of

    after = weights(copy_of(made).model)
    names = [name for name in before if name.startswith("model.layers.0.") and "proj" in name]
    change = sum((after[n] - before[n]).square().sum().item() for n in names)
    size = sum(before[n].square().sum().item() for n in names)
    assert engine.weights_moved(made).by_block["block 1"] == pytest.approx((change / size) ** 0.5, rel=1e-3)


def test_norms_that_rest_beside_adapters_are_hashed():
    made = make("resnet", LONG.change(method="lora", trainable="all"))
    assert {name.replace(".base_layer", "") for name, _ in made.model.named_buffers()} <= set(made.frozen)

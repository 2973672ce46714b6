import pytest
import torch
from tiny_learner import PLAN, make, weights

from workbench.errors import PlanError
from workbench.events import CacheReady, EvaluationEnded, PlanAdjusted
from workbench.training import engine
from workbench.training.change import Change

LONG = PLAN.change(trainable="head", unfreeze_to="all", max_steps=12, epochs=99, evaluate_every=3, learning_rate=0.01)


def unfrozen(events):
    """Return the steps after which blocks were unfrozen, each with what was trainable from then on."""
    return [(e.step, e.after["trainable"]) for e in events if isinstance(e, PlanAdjusted) and e.by == "unfreezing"]


def test_blocks_join_one_at_a_time_from_the_top_evenly_over_two_thirds_of_the_run():
    assert unfrozen(engine.train(make("bert", LONG))) == [
        (3, ("block 2", "head")),
        (5, ("block 1", "block 2", "head")),
        (8, ("embeddings", "block 1", "block 2", "head")),
    ]


@pytest.mark.parametrize(("every", "steps"), [(1, [1, 2, 3]), (4, [4, 8]), (20, [])])
def test_an_interval_can_be_given(every, steps):
    assert [step for step, _ in unfrozen(engine.train(make("bert", LONG.change(unfreeze_every=every))))] == steps


def test_several_are_unfrozen_at_once_in_a_run_that_is_shorter_than_the_schedule():
    short = LONG.change(max_steps=2)
    assert [step for step, _ in unfrozen(engine.train(make("bert", short)))] == [1, 1, 1]


def test_a_block_moves_once_it_is_unfrozen_and_not_before_and_warms_up():
    made = make("bert", LONG)
    before = weights(made.model)
    for event in engine.train(made):
        if isinstance(event, PlanAdjusted):
            name = event.after["trainable"][0].replace("block ", "layer.") if event.step < 8 else "embeddings"
            layer = name if name == "embeddings" else f"layer.{int(name[-1]) - 1}."
            own = {key: tensor for key, tensor in made.model.state_dict().items() if layer in key}
            assert own
            assert all(torch.equal(before[key], tensor) for key, tensor in own.items())
    after = weights(made.model)
    assert not torch.equal(
        before["bert.embeddings.word_embeddings.weight"], after["bert.embeddings.word_embeddings.weight"]
    )
    assert {group["trainable_since"] for group in made.optimizer.param_groups} == {0, 3, 5, 8}


def test_on_a_plateau_a_block_joins_when_evaluations_stop_improving():
    plan = LONG.change(unfreeze_on="plateau", unfreeze_patience=2, evaluate_every=1, learning_rate=1e-8)
    plan = plan.change(stop_min_delta=1.0)  # nothing counts as an improvement but the first evaluation
    assert [step for step, _ in unfrozen(engine.train(make("bert", plan)))] == [2, 4, 6]


def test_the_prefix_cache_follows():
    made = make("bert", LONG.change(unfreeze_to="last 2", max_steps=20))
    ready = [event for event in engine.train(made) if isinstance(event, CacheReady) and event.split == "train"]
    assert [event.boundary for event in ready] == ["head", "block 2"]


@pytest.mark.parametrize(
    ("changes", "is_cached"),
    [
        ({"max_steps": 20}, True),  # 7 steps between two unfreezings, and 5 in an epoch
        ({"max_steps": 9}, False),
        ({"max_steps": 20, "unfreeze_every": 4}, False),
        ({"max_steps": 20, "unfreeze_on": "plateau", "evaluate_every": 5}, True),
        ({"max_steps": 20, "unfreeze_on": "plateau", "evaluate_every": 4}, False),
    ],
)
def test_training_examples_are_cached_only_if_a_stage_lasts_an_epoch(changes, is_cached):
    made = make("bert", LONG.change(**{"unfreeze_to": "last 2", **changes}))
    first = [event for event in engine.train(made) if isinstance(event, CacheReady) and event.boundary == "head"]
    assert {event.split for event in first} == ({"validation", "train"} if is_cached else {"validation"})


def test_whoever_changes_by_hand_what_is_trainable_takes_over():
    asked = lambda step: [Change({"trainable": "last 1"})] if step == 4 else []  # noqa: E731
    made = make("bert", LONG)
    events = list(engine.train(made, changes=asked))
    assert [step for step, _ in unfrozen(events)] == [3]
    (by_hand,) = [event for event in events if isinstance(event, PlanAdjusted) and not event.by]
    assert by_hand.after == {"trainable": "last 1", "unfreeze_to": None}
    assert made.trainable == ("block 2", "head")


def test_adapters_are_unfrozen_too():
    made = make("llama", LONG.change(method="lora", trainable="last 1"))
    assert [names for _, names in unfrozen(engine.train(made))] == [("block 1", "block 2")]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"unfreeze_to": "last 3"}, ["last 3", "2"]),
        ({"unfreeze_to": ("block 9",)}, ["block 9", "block 2"]),
        ({"unfreeze_to": "head"}, ["'head'", "adds no block"]),
        ({"unfreeze_to": "last 1", "trainable": "all"}, ["lacks"]),
    ],
)
def test_a_schedule_that_cant_be_is_refused_before_the_first_step(changes, words):
    with pytest.raises(PlanError) as caught:
        next(engine.train(make("bert", LONG.change(**changes))))
    assert all(word in str(caught.value) for word in words)


def test_without_a_schedule_nothing_changes():
    events = list(engine.train(make("bert", LONG.change(unfreeze_to=None))))
    assert unfrozen(events) == []
    assert any(isinstance(event, EvaluationEnded) for event in events)

import dataclasses
import math
import time

import pytest
import torch
from rounding import same_loss
from tiny_learner import PLAN, make, weights
from torch.nn import functional as F

from workbench.errors import LossError
from workbench.events import EvaluationEnded, RunEnded, RunStarted, StepEnded
from workbench.training import engine, evaluate
from workbench.training.tactics import Tactic


def brute_force_nats(learner, examples):
    """Count nats one example at a time, with no batch, no padding and the model's own logits."""
    nats, targets = 0.0, 0
    for index in range(len(examples)):
        batch = examples.batch([index])
        inputs = {name: value for name, value in batch.items() if name != "labels"}
        logits = learner.model(**inputs).logits.double()
        if learner.backbone.task == "language-modeling":
            logits, labels = logits[0, :-1], batch["input_ids"][0, 1:]
        else:
            labels = batch["labels"]
        nats += F.cross_entropy(logits, labels, reduction="sum").item()
        targets += len(labels)
    return nats, targets


@pytest.mark.parametrize("batch_size", [4, *(pytest.param(size, marks=pytest.mark.slow) for size in (1, 32))])
@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("bert", {}),
        ("vit", {}),
        ("gpt2", {}),
        ("llama", {}),
        ("gpt2", {"side": "left"}),
        ("llama", {"task": "text-classification"}),
    ],
)
def test_validation_loss_is_the_brute_force_count_whatever_the_batch_size(kind, options, batch_size):
    made = make(kind, PLAN.change(batch_size=batch_size), **options)
    *_, ended = evaluate.evaluate(made)
    with torch.no_grad():
        nats, targets = brute_force_nats(made, made.validation)
    assert ended.targets == targets
    assert ended.metrics["loss"] == same_loss(nats / targets)
    if made.backbone.task == "language-modeling":
        assert math.log(ended.metrics["perplexity"]) == same_loss(nats / targets)


def test_the_last_step_of_an_epoch_is_normalised_by_its_own_targets():
    made = make("bert", PLAN.change(batch_size=8, accumulation_steps=3, max_steps=2))  # 40 rows: 24, then 16
    first, last = [event for event in engine.train(made) if isinstance(event, StepEnded)]
    assert (first.targets, last.targets, last.epoch) == (24, 16, 1.0)


def test_the_story_of_a_run():
    events = list(engine.train(make()))
    kinds = [type(event).__name__ for event in events if type(event).__name__ != "EvaluationProgressed"]
    step, evaluation = ["StepEnded"], ["EvaluationEnded"]
    measured = ["WeightsMoved", *evaluation]
    assert kinds == ["RunStarted", *evaluation, *2 * step, *measured, *2 * step, *measured, "RunEnded"]
    assert isinstance(events[-1], RunEnded)
    assert events[-1].reason == "completed"
    assert [event.step for event in events if isinstance(event, EvaluationEnded)] == [0, 2, 4]


def test_training_learns_and_the_best_step_is_that_of_the_lowest_loss():
    events = list(engine.train(make("gpt2", PLAN.change(max_steps=30, learning_rate=0.02, evaluate_every=5))))
    losses = {event.step: event.metrics["loss"] for event in events if isinstance(event, EvaluationEnded)}
    assert losses[30] < losses[0] - 0.15
    assert events[-1].best_step == min(losses, key=losses.get)
    assert events[-1].best_loss == min(losses.values())


@pytest.mark.parametrize("kind", ["bert", "gpt2", "resnet"])
def test_same_seed_same_bits_and_the_notebooks_random_state_is_left_alone(kind):
    ends = []
    for _ in range(2):
        made = make(kind, PLAN.change(seed=3, dropout=0.2))
        torch.manual_seed(5)
        before = torch.random.get_rng_state()
        list(engine.train(made))
        assert torch.equal(before, torch.random.get_rng_state())
        ends.append(weights(made.model))
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])
    other = make(kind, PLAN.change(seed=4, dropout=0.2))
    list(engine.train(other))
    assert any(not torch.equal(ends[0][name], tensor) for name, tensor in weights(other.model).items())


@pytest.mark.parametrize("trainable", ["head", "last 1", ("block 1",)])
@pytest.mark.parametrize("kind", ["bert", "gpt2", "vit", "resnet"])
def test_frozen_blocks_stay_bit_identical(kind, trainable):
    made = make(kind, PLAN.change(trainable=trainable, weight_decay=0.5, learning_rate=0.1, dropout=0.1))
    before = weights(made.model)
    list(engine.train(made))
    moved = {name for name, tensor in weights(made.model).items() if not torch.equal(before[name], tensor)}
    paths = [path for block in made.backbone.blocks if block.name in made.trainable for path in block.modules]
    assert moved
    assert all(any(name.startswith(f"{path}.") for path in paths) for name in moved)


def test_stopping_is_to_stop_asking():
    made = make()
    for event in engine.train(made):
        if isinstance(event, StepEnded):
            break
    assert made.step == 1


def test_a_penalty_moves_the_weights_and_is_not_in_the_logged_loss():
    class TowardsZero(Tactic):
        name = "towards zero"

        def penalty(self, learner):
            return 100 * sum(p.square().sum() for p in learner.model.classifier.parameters())

        def stop_reason(self, learner):
            return "enough" if learner.step == 2 else None

    plain, pulled = make(), make()
    pulled.tactics = (TowardsZero(),)
    plain_events, pulled_events = list(engine.train(plain)), list(engine.train(pulled))
    first = [next(e for e in events if isinstance(e, StepEnded)).loss for events in (plain_events, pulled_events)]
    assert first[0] == first[1]
    assert pulled_events[-1].reason == "enough"
    assert pulled.step == 2
    assert not torch.equal(plain.model.classifier.weight, pulled.model.classifier.weight)


def test_the_trivial_baseline_of_classes_is_the_majority():
    started = next(event for event in engine.train(make("bert")) if isinstance(event, RunStarted))
    labels = [i % 2 for i in range(13)]
    assert started.baseline["accuracy"] == labels.count(0) / 13
    assert started.baseline["loss"] == pytest.approx(math.log(2), abs=1e-6)


def test_the_trivial_baseline_of_a_language_model_is_its_word_frequencies():
    made = make("gpt2")
    started = next(iter(engine.train(made)))
    counts = torch.ones(made.backbone.model.config.vocab_size, dtype=torch.float64)
    for window in made.train.labels:
        for token in window[1:]:
            counts[token] += 1
    scored = [token for window in made.validation.labels for token in window[1:]]
    nats = -sum(math.log(counts[token] / counts.sum()) for token in scored) / len(scored)
    assert started.baseline["perplexity"] == pytest.approx(math.exp(nats), rel=1e-9)


def test_dropout_that_no_trainable_block_has_is_said():
    assert any("has no effect" in note for note in make("gpt2", PLAN.change(trainable="head", dropout=0.5)).notes)
    assert not any("has no effect" in note for note in make("gpt2", PLAN.change(dropout=0.5)).notes)


def test_float_noise_adds_no_step():
    made = make("bert", PLAN.change(batch_size=4, epochs=0.7, max_steps=None))
    assert (made.steps_per_epoch, made.steps) == (10, 7)


@pytest.mark.slow
def test_time_spent_between_two_batches_is_not_the_evaluations():
    made = make("bert", PLAN.change(batch_size=2))
    for event in evaluate.evaluate(made):
        if not isinstance(event, EvaluationEnded):
            time.sleep(0.2)
    assert event.seconds < 0.2


def test_a_loss_that_is_not_finite_names_the_examples_that_do_it():
    made = make("vit", PLAN.change(max_steps=5))
    collate, poisoned = made.train.collate, made.train.items[17]

    def spoilt(items):
        batch = collate(items)
        for place, item in enumerate(items):
            if item == poisoned:
                batch["pixel_values"][place] = math.inf
        return batch

    made.train = dataclasses.replace(made.train, collate=spoilt)
    with pytest.raises(LossError, match=r"training examples 17\. The weights") as caught:
        list(engine.train(made))
    assert caught.value.rows == (17,)
    assert caught.value.step == made.step + 1
    assert "learning rate below" in caught.value.hint

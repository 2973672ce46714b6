import dataclasses
import math
import weakref

import pytest
import torch
from rounding import differ
from tiny_learner import PLAN, make, weights

from workbench.errors import LossError, RunError
from workbench.tasks import cross_entropy
from workbench.tasks.examples import IGNORED
from workbench.training import evaluate, learner
from workbench.training.step import _accumulate, _clip, planned_batches, take_step


@pytest.mark.parametrize(("batch_size", "accumulation_steps"), [(80, 1), (8, 10), (7, 11), (16, 5)])
@pytest.mark.parametrize("kind", ["bert", "gpt2"])
def test_accumulation_changes_neither_loss_nor_gradient(kind, batch_size, accumulation_steps):
    made = make(kind, PLAN.change(batch_size=batch_size, accumulation_steps=accumulation_steps, clip_norm=None))
    whole = made.train.batch(list(range(len(made.train))))
    (cross_entropy.summed(*learner.score(made, whole)) / (whole["labels"] != -100).sum()).backward()
    expected = torch.cat([p.grad.flatten() for p in made.model.parameters() if p.grad is not None])
    step = take_step(made)
    found = torch.cat([p.grad.flatten() for p in made.model.parameters() if p.grad is not None])
    assert len(made.train) <= batch_size * accumulation_steps
    with torch.no_grad():
        assert step.targets == int((whole["labels"] != -100).sum())
    assert differ(found, expected) < 1e-5
    assert step.gradient_norm == pytest.approx(expected.norm().item(), rel=1e-5)


def test_the_batches_of_a_step_are_made_one_at_a_time(monkeypatch):
    made, alive, most = make("bert", PLAN.change(batch_size=4, accumulation_steps=5)), [], []
    batch = type(made).batch

    def counted(learner, examples, indices):
        found = batch(learner, examples, indices)
        alive.append(weakref.ref(found["input_ids"]))
        most.append(sum(ref() is not None for ref in alive))
        return found

    monkeypatch.setattr(type(made), "batch", counted)
    take_step(made)
    assert len(most) == 5
    assert max(most) <= 2


def test_every_row_comes_once_an_epoch_in_another_order_each_time():
    made = make("bert", PLAN.change(batch_size=16))
    epochs = []
    for _ in range(2):
        seen = []
        for _ in range(made.steps_per_epoch):
            seen += [index for _, batch in planned_batches(made) for index in batch]
            made.progress.step += 1
        epochs.append(seen)
    assert sorted(epochs[0]) == sorted(epochs[1]) == list(range(40))
    assert epochs[0] != epochs[1]


@pytest.mark.parametrize("changes", [{}, {"batch_tokens": 30}, {"batching": "shuffled"}])
def test_the_batches_depend_on_the_step_alone(changes):
    made = make("bert", PLAN.change(batch_size=5, accumulation_steps=2, max_steps=None, epochs=3, **changes))
    assert made.steps == 3 * made.steps_per_epoch
    steps, known = range(made.steps), {}
    for step in steps:
        made.progress.step = step
        known[step] = [indices for _, indices in planned_batches(made)]
    for step in reversed(steps):
        made.progress.step, made.train = step, dataclasses.replace(made.train)  # one that remembers no order
        assert [indices for _, indices in planned_batches(made)] == known[step]


def test_dropout_acts_while_training_and_not_while_measuring():
    made = make("bert", PLAN.change(dropout=0.5))
    *_, first = evaluate.evaluate(made)
    *_, second = evaluate.evaluate(made)
    assert first.metrics["loss"] == second.metrics["loss"]
    dropped, plain = take_step(made), take_step(make("bert", PLAN.change(dropout=0.0)))
    assert dropped.loss != plain.loss


def test_a_loss_that_is_not_finite_stops_the_run_before_it_spoils_the_weights():
    made = make("bert", PLAN.change(max_steps=50))
    with torch.no_grad():
        made.model.classifier.weight[0, 0] = math.nan
    before = weights(made.model)
    with pytest.raises(RunError, match="at step 1 the loss is nan"):
        take_step(made)
    assert all(torch.equal(before[n], t) for n, t in weights(made.model).items() if not t.isnan().any())


def test_clipping_bounds_the_gradient_and_tells_the_norm_it_had():
    made = make("bert", PLAN.change(clip_norm=1e-3))
    step = take_step(made)
    norm = torch.nn.utils.get_total_norm([p.grad for p in made.model.parameters() if p.grad is not None])
    assert norm.item() == pytest.approx(1e-3, rel=1e-3)
    assert step.gradient_norm > 1e-3


@pytest.mark.parametrize("limit", [1e-6, 1e-3, 0.5, 0.999, 1.0, 1.0000001, 1.001, 1.01, 50.0, None])
def test_clipping_gives_the_bits_that_torch_gives(limit):
    ours, theirs = make("bert"), make("bert")
    for made in (ours, theirs):
        _accumulate(made)
        total = torch.nn.utils.get_total_norm([p.grad for p in made.model.parameters() if p.grad is not None])
        for parameter in made.model.parameters():
            if parameter.grad is not None:
                parameter.grad /= total  # a norm of one
    ours.plan = ours.plan.change(clip_norm=limit)
    norm = _clip(ours)
    expected = torch.nn.utils.clip_grad_norm_(theirs.model.parameters(), math.inf if limit is None else limit)
    assert norm == expected.item()
    pairs = zip(ours.model.parameters(), theirs.model.parameters(), strict=True)
    assert all(torch.equal(mine.grad, other.grad) for mine, other in pairs if other.grad is not None)


def test_frozen_norms_stay_still_even_if_somebody_calls_train():
    made = make("resnet", PLAN.change(trainable="head"))
    before = weights(made.model)
    for _ in range(3):
        take_step(made)
        made.model.train()
    moved = {name for name, tensor in weights(made.model).items() if not torch.equal(before[name], tensor)}
    assert moved == {"classifier.1.weight", "classifier.1.bias"}


@pytest.mark.parametrize("kind", ["bert", "resnet"])
def test_a_step_without_a_target_moves_nothing(kind):
    made = make(kind, PLAN.change(weight_decay=0.5))
    take_step(made)
    before = weights(made.model)
    collate = made.train.collate
    unlabelled = dataclasses.replace(
        made.train,
        collate=lambda items: {**(batch := collate(items)), "labels": batch["labels"] * 0 + IGNORED},
        labels=[IGNORED] * len(made.train),
        outline=None,
    )
    made.train = unlabelled
    step = take_step(made)
    assert (step.loss, step.targets, step.step) == (0.0, 0, 2)
    assert all(torch.equal(before[n], p) for n, p in made.model.named_parameters())


def test_a_step_that_is_given_up_leaves_running_statistics_as_they_were():
    made = make("resnet", PLAN)
    take_step(made)
    before = weights(made.model)
    pixels = made.train.collate

    def spoilt(items):
        batch = pixels(items)
        batch["pixel_values"][0] = math.nan
        return batch

    made.train = dataclasses.replace(made.train, collate=spoilt)
    with pytest.raises(LossError):
        take_step(made)
    assert all(torch.equal(before[name], tensor) for name, tensor in weights(made.model).items())


def test_a_batch_of_one_row_uses_the_running_statistics():
    made = make("resnet", PLAN.change(batch_size=13, max_steps=4))  # 40 rows: 13, 13, 13 and one alone
    assert [take_step(made).rows for _ in range(4)] == [13, 13, 13, 1]
    assert all(norm.training for norm in made.training_norms)

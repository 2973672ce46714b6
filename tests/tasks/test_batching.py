import dataclasses
import itertools
import math
import random

import pytest
import tiny
import torch
from hypothesis import given
from hypothesis import strategies as st

from workbench.plan.choices import Data, Tuning
from workbench.seeding import mixed
from workbench.tasks import TABLE, batching

LENGTHS = st.lists(st.integers(1, 300), min_size=1, max_size=400)
CHOICES = st.builds(
    Tuning,
    batch_size=st.integers(1, 40),
    batch_tokens=st.none() | st.integers(1, 2000),
    batching=st.sampled_from(["by length", "shuffled"]),
    accumulation_steps=st.integers(1, 4),
    seed=st.integers(0, 99),
)


def batches(lengths, choice, number=0):
    order = batching.epoch(lengths, choice, number)
    count = batching.steps_per_epoch(lengths, choice)
    steps = [order.batches_of_step(position, choice.accumulation_steps) for position in range(count)]
    assert all(steps)
    assert order.batches_of_step(count, choice.accumulation_steps) == []
    assert all(len(step) == choice.accumulation_steps for step in steps[:-1])
    return list(itertools.chain(*steps))


def waste(lengths, found):
    return sum(len(batch) * max(lengths[i] for i in batch) for batch in found) / sum(lengths)


def drawn(count=3000):
    draw = random.Random(0)
    return [min(128, 2 + int(draw.expovariate(1 / 30))) for _ in range(count)]


@given(LENGTHS, CHOICES, st.integers(0, 5))
def test_every_example_comes_once_an_epoch_and_the_number_of_steps_stays(lengths, choice, number):
    found = batches(lengths, choice, number)
    assert sorted(itertools.chain(*found)) == list(range(len(lengths)))
    assert found == batches(lengths, choice, number)
    assert len(found) == len(batches(lengths, choice, number + 1))


@given(LENGTHS, CHOICES)
def test_batches_keep_to_their_size_or_their_budget(lengths, choice):
    found = batches(lengths, choice)
    if choice.batch_tokens is None:
        assert all(len(batch) == choice.batch_size for batch in found[:-1])
    else:
        padded = [len(batch) * max(lengths[i] for i in batch) for batch in found]
        assert all(
            tokens <= choice.batch_tokens or len(batch) == 1 for tokens, batch in zip(padded, found, strict=True)
        )


@pytest.mark.parametrize(("batching_", "lengths"), [("shuffled", drawn(50)), ("by length", [7] * 50)])
def test_a_shuffled_order_is_that_of_torch_and_so_is_one_of_equal_lengths(batching_, lengths):
    choice = Tuning(batch_size=8, batching=batching_, seed=3)
    order = torch.randperm(50, generator=torch.Generator().manual_seed(mixed(3, 2, stream="order"))).tolist()
    assert batches(lengths, choice, 2) == [order[start : start + 8] for start in range(0, 50, 8)]


@pytest.mark.parametrize(
    ("changes", "most"),
    [({}, 1.06), ({"accumulation_steps": 3}, 1.06), ({"batch_tokens": 1000}, 1.12), ({"batching": "shuffled"}, 9)],
)
def test_batches_by_length_waste_little_and_differ_from_epoch_to_epoch(changes, most):
    lengths = drawn()
    choice = Tuning(**{"batch_size": 16, **changes})
    first, second = (batches(lengths, choice, number) for number in (0, 1))
    assert waste(lengths, first) < most
    assert (waste(lengths, first) > 2) == (changes == {"batching": "shuffled"})
    shared = {frozenset(batch) for batch in first if len(batch) > 1} & {frozenset(batch) for batch in second}
    assert len(shared) < len(first) / 20
    means = [sum(lengths[i] for i in batch) / len(batch) for batch in first]  # no epoch goes from short to long
    halves = [sum(half) / len(half) for half in (means[: len(means) // 2], means[len(means) // 2 :])]
    assert max(halves) / min(halves) < 1.4


def test_a_chunk_is_fifty_steps_of_the_random_order():
    lengths, choice = drawn(), Tuning(batch_size=4, accumulation_steps=2)
    order = batching.epoch(lengths, dataclasses.replace(choice, batching="shuffled"), 0).indices.tolist()
    place = {index: number // (50 * 8) for number, index in enumerate(order)}
    assert all(len({place[index] for index in batch}) == 1 for batch in batches(lengths, choice))


def test_examples_remember_their_order_and_know_when_it_changes():
    backbone = tiny.backbone("bert")
    examples = TABLE[backbone.task].encode(tiny.rows("bert", 40), backbone, Data(max_length=10))
    choice = Tuning(batch_size=8)
    assert examples.steps_per_epoch(choice) == 5
    first = examples.batches_of_step(choice, 0, 1)
    for number in range(9):
        assert len(examples.batches_of_step(choice, number, 4)) == 1
    assert len(examples._orders) < 6
    assert examples.batches_of_step(choice, 0, 1) == first
    assert examples.batches_of_step(dataclasses.replace(choice, seed=1), 0, 1) != first
    tokens = dataclasses.replace(choice, batch_tokens=40)
    assert examples.steps_per_epoch(tokens) == len(batches(examples.lengths, tokens))
    assert math.ceil(sum(examples.lengths) / 40) <= examples.steps_per_epoch(tokens)

"""Decides which examples form which batch: a pure function of their lengths, the plan and the epoch.

There are three methods. "shuffled" cuts a random order into batches. "by length" shuffles the examples, sorts them by
length within chunks of fifty steps, cuts them into batches, and shuffles the batches. This keeps padding low and still
gives different batches in each epoch. If all examples have the same length, the order is exactly that of "shuffled".
A token budget sorts all examples by length and starts a new batch where the next example would exceed the budget.
Lengths are rounded up first, so that examples of similar length swap batches between epochs. The rounded lengths are
the same in each epoch, and so is the number of batches. A batch then has many short examples or a few long ones.

One optimizer step uses `accumulation_steps` consecutive batches; the last step of an epoch may have fewer.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from workbench.plan.choices import Tuning
from workbench.seeding import mixed

CHUNK_STEPS = 50  # steps whose examples are sorted together


@dataclass(frozen=True, eq=False)
class Epoch:
    """The batches of one pass over the examples: one list of indices, cut at the bounds.

    Attributes:
        indices: The index of each example, once.  # (examples,)
        bounds: Start of each batch in `indices`, and the end of the last one.
    """

    indices: Tensor
    bounds: Sequence[int]

    def batches_of_step(self, position: int, batches: int) -> list[list[int]]:
        """Return the batches of the `position`-th step as lists of indices; each step uses `batches` batches."""
        bounds = self.bounds[position * batches : (position + 1) * batches + 1]
        return [self.indices[start:end].tolist() for start, end in itertools.pairwise(bounds)]


def steps_per_epoch(lengths: Sequence[int], choice: Tuning) -> int:
    """Return the number of optimizer steps in one pass over examples of these lengths."""
    batches = math.ceil(len(lengths) / choice.batch_size)
    if choice.batch_tokens is not None:
        batches = len(batch_bounds(sorted(_rounded(lengths)), None, choice.batch_tokens)) - 1
    return math.ceil(batches / choice.accumulation_steps)


def epoch(lengths: Sequence[int], choice: Tuning, number: int) -> Epoch:
    """Return the batches of epoch `number`; the same arguments give the same batches.

    Args:
        lengths: Length of each example, in tokens.
        choice: batch_size or batch_tokens, batching, accumulation_steps and seed.
        number: Number of the epoch, from 0.
    """
    order = torch.randperm(len(lengths), generator=_generator(choice.seed, number, "order"))
    if choice.batch_tokens is not None:
        return _by_tokens(order, lengths, choice, number)
    if choice.batching == "by length" and min(lengths) < max(lengths):
        order = _by_length(order, torch.tensor(lengths), choice, number)
    return Epoch(order, [*range(0, len(order), choice.batch_size), len(order)])


def _by_length(order: Tensor, lengths: Tensor, choice: Tuning, number: int) -> Tensor:
    """Return the order with similar lengths next to each other.

    The examples that do not fill a whole batch stay at the end, whatever their lengths.

    Args:
        order: A random order.  # (examples,)
        lengths: Length of each example, in tokens.  # (examples,)
        choice: batch_size, accumulation_steps and seed.
        number: Number of the epoch, from 0.
    """
    size = choice.batch_size
    full, rest = order.split([len(order) // size * size, len(order) % size])
    chunk = torch.arange(len(full)) // (CHUNK_STEPS * size * choice.accumulation_steps)
    by_length = full[(chunk * (int(lengths.max()) + 1) + lengths[full]).argsort(stable=True)]
    batches = by_length.view(-1, size)  # (batches, batch)
    shuffled = torch.randperm(len(batches), generator=_generator(choice.seed, number, "batches"))
    return torch.cat([batches[shuffled].flatten(), rest])


def _by_tokens(order: Tensor, lengths: Sequence[int], choice: Tuning, number: int) -> Epoch:
    rounded = torch.tensor(_rounded(lengths))[order]
    keys, by_length = rounded.sort(stable=True)
    bounds = batch_bounds(keys.tolist(), None, choice.batch_tokens)
    batches = order[by_length].split([end - start for start, end in itertools.pairwise(bounds)])
    shuffled = torch.randperm(len(batches), generator=_generator(choice.seed, number, "batches")).tolist()
    sizes = itertools.accumulate((len(batches[index]) for index in shuffled), initial=0)
    return Epoch(torch.cat([batches[index] for index in shuffled]), list(sizes))


def batch_bounds(lengths: Sequence[int], rows: int | None, tokens: int | None) -> list[int]:
    """Cut ascending lengths into batches of at most `rows` rows and at most `tokens` = rows × longest; None: no limit.

    Returns:
        The start of each batch, and the end of the last one.
    """
    bounds = [0]
    for index, length in enumerate(lengths):
        count = index - bounds[-1]  # rows in the current batch
        is_full = count == rows or (tokens is not None and (count + 1) * length > tokens)
        if count and is_full:
            bounds.append(index)
    return [*bounds, len(lengths)] if lengths else [0]


def _rounded(lengths: Sequence[int]) -> list[int]:
    """Return each length rounded up to the longest length in its group.

    A group has all lengths that share their four leading binary digits. Treating a group as equally long wastes at
    most a ninth of a batch.
    """
    groups = [(shift := max(0, length.bit_length() - 4), length >> shift) for length in lengths]
    longest: dict[tuple[int, int], int] = {}
    for group, length in zip(groups, lengths, strict=True):
        longest[group] = max(length, longest.get(group, 0))
    return [longest[group] for group in groups]


def _generator(seed: int, number: int, stream: str) -> torch.Generator:
    return torch.Generator().manual_seed(mixed(seed, number, stream=stream))

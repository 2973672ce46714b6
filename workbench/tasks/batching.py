"""Which examples make up which batch: a pure function of their lengths, the plan and the epoch.

Three ways. "shuffled" cuts a random order into batches. "by length" shuffles, sorts within chunks of some fifty
windows, cuts, and shuffles the batches, so that little is padding and yet each epoch mixes anew; where all are equally
long it is the very order of "shuffled". A budget of tokens sorts everything by length, rounded up so that neighbours
can change places, and cuts where the next row would exceed the budget; since the lengths stay the same, so does the
number of batches, epoch by epoch. Short rows then share their step with many others, long ones with few.

A window is what one optimizer step sees: so many batches in a row, the last one of an epoch maybe fewer.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from workbench.plan.choices import Tuning
from workbench.seeding import mixed

CHUNK = 50  # windows that are sorted together


@dataclass(frozen=True, eq=False)
class Epoch:
    """The batches of one pass over the examples: indices one after the other, cut at the bounds.

    Attributes:
        indices: Every example once.  # (examples,)
        bounds: Where each batch begins, and the end of the last one.
    """

    indices: Tensor
    bounds: Sequence[int]

    def window(self, position: int, batches: int) -> list[list[int]]:
        """Return the `position`-th window of so many batches, as lists of indices."""
        bounds = self.bounds[position * batches : (position + 1) * batches + 1]
        return [self.indices[start:end].tolist() for start, end in itertools.pairwise(bounds)]


def windows_in(lengths: Sequence[int], choice: Tuning) -> int:
    """Return the optimizer steps in one pass over examples of these lengths."""
    batches = math.ceil(len(lengths) / choice.batch_size)
    if choice.batch_tokens is not None:
        batches = len(cuts(sorted(_rounded(lengths)), None, choice.batch_tokens)) - 1
    return math.ceil(batches / choice.accumulation_steps)


def epoch(lengths: Sequence[int], choice: Tuning, number: int) -> Epoch:
    """Return the batches of epoch `number`; same arguments, same batches.

    Args:
        lengths: What each example costs, in tokens.
        choice: batch_size or batch_tokens, batching, accumulation_steps and seed.
        number: Epochs that went before.
    """
    order = torch.randperm(len(lengths), generator=_generator(choice.seed, number, "order"))
    if choice.batch_tokens is not None:
        return _by_tokens(order, lengths, choice, number)
    if choice.batching == "by length" and min(lengths) < max(lengths):
        order = _by_length(order, torch.tensor(lengths), choice, number)
    return Epoch(order, [*range(0, len(order), choice.batch_size), len(order)])


def _by_length(order: Tensor, lengths: Tensor, choice: Tuning, number: int) -> Tensor:
    """Return the order with like lengths beside each other; what fills no batch stays at the end, whatever its length.

    Args:
        order: A random one.  # (examples,)
        lengths: Tokens of each example.  # (examples,)
        choice: batch_size, accumulation_steps and seed.
        number: Of the epoch.
    """
    size = choice.batch_size
    full, rest = order.split([len(order) // size * size, len(order) % size])
    chunk = torch.arange(len(full)) // (CHUNK * size * choice.accumulation_steps)
    by_length = full[(chunk * (int(lengths.max()) + 1) + lengths[full]).argsort(stable=True)]
    batches = by_length.view(-1, size)  # (batches, batch)
    shuffled = torch.randperm(len(batches), generator=_generator(choice.seed, number, "batches"))
    return torch.cat([batches[shuffled].flatten(), rest])


def _by_tokens(order: Tensor, lengths: Sequence[int], choice: Tuning, number: int) -> Epoch:
    rounded = torch.tensor(_rounded(lengths))[order]
    keys, by_length = rounded.sort(stable=True)
    bounds = cuts(keys.tolist(), None, choice.batch_tokens)
    batches = order[by_length].split([end - start for start, end in itertools.pairwise(bounds)])
    shuffled = torch.randperm(len(batches), generator=_generator(choice.seed, number, "batches")).tolist()
    sizes = itertools.accumulate((len(batches[index]) for index in shuffled), initial=0)
    return Epoch(torch.cat([batches[index] for index in shuffled]), list(sizes))


def cuts(lengths: Sequence[int], rows: int | None, tokens: int | None) -> list[int]:
    """Return where ascending lengths are cut so that a batch keeps to so many rows and rows × longest; None: any."""
    bounds = [0]
    for place, length in enumerate(lengths):
        within = place - bounds[-1]
        is_full = within == rows or (tokens is not None and (within + 1) * length > tokens)
        if within and is_full:
            bounds.append(place)
    return [*bounds, len(lengths)] if lengths else [0]


def _rounded(lengths: Sequence[int]) -> list[int]:
    """Return for each length the largest that is there of its kind: those that share their first four binary digits.

    All of one kind are taken for equally long, which wastes a ninth of a batch at most.
    """
    kinds = [(shift := max(0, length.bit_length() - 4), length >> shift) for length in lengths]
    largest: dict[tuple[int, int], int] = {}
    for kind, length in zip(kinds, lengths, strict=True):
        largest[kind] = max(length, largest.get(kind, 0))
    return [largest[kind] for kind in kinds]


def _generator(seed: int, number: int, stream: str) -> torch.Generator:
    return torch.Generator().manual_seed(mixed(seed, number, stream=stream))

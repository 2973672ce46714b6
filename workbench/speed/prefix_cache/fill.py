"""Runs the frozen blocks once over every example and keeps what they give.

Each row is computed in a batch of its like that is a function of the lengths alone, so that its last bits don't hang
on when it was computed, by whom, or what else was asked for. Left out: where a model is cut, and whether it pays
(prefix.py).
"""

import contextlib
import time
from collections.abc import Generator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from workbench.events import CacheProgressed
from workbench.speed.first_token import FirstToken
from workbench.speed.prefix_cache.cut import Cut
from workbench.speed.prefix_cache.patch import activations_at_cut, capture_at_cut, patched, replace_activations
from workbench.speed.prefix_cache.rows import Rows, crossing, extent, taken
from workbench.speed.prefix_cache.store import StoredActivations
from workbench.speed.prefix_cache.writer import MemoryWriter, Writer
from workbench.tasks.examples import Batch, Examples
from workbench.training.learner import Learner

TOKENS, TEXTS, IMAGES = 2048, 64, 16  # at most, in a batch that is only computed to be kept
ENOUGH, PADDING = 512, 0.02  # tokens from which on a batch is closed rather than padded by more than this share
TELL, REPORTS = 0.25, 100  # seconds between two reports of progress, at least; how many there are, at most


@dataclass(frozen=True)
class Source:
    """Where fill batches start from: the inputs, or what was kept at a lower boundary."""

    cut: Cut | None = None
    rows: Rows | None = None


@dataclass(frozen=True)
class Filling:
    """Computing what crosses the cut for all examples."""

    learner: Learner
    cut: Cut
    split: str
    examples: Examples
    source: Source
    padding: str  # side of padding that is kept as well
    first_token: FirstToken

    def carried_out(self, writer: Writer | MemoryWriter) -> Generator[CacheProgressed, None, StoredActivations]:
        """Write it down, telling now and then how far it is; return it."""
        began = told = time.perf_counter()
        nats, targets = 0.0, 0
        parts = portions(self.examples)
        costs = [sum(self.examples.lengths[index] for index in part) for part in parts]
        counts: list[int] = []
        total, done = sum(costs), 0
        with writer:
            for number, part in enumerate(parts, start=1):
                places, found, answered = self._computed(part)
                writer.add(places)
                counts += found
                nats, targets = nats + answered[0], targets + answered[1]
                done += costs[number - 1]
                now = time.perf_counter()
                left = (now - began) * (total - done) / done
                if now - told > max(TELL, (now - began + left) / REPORTS):
                    told = now
                    yield self._progress(len(counts), left, nats / targets if targets else None)
            return writer.finish(counts)

    def is_exact(self) -> bool:
        """Whether running on from the source gives the bits of the inputs, on the first rows: padding may count."""
        plain = replace(self, source=Source())
        part = portions(self.examples)[0]
        return torch.equal(self._computed(part)[0], plain._computed(part)[0])

    def _progress(self, done: int, seconds_left: float, loss: float | None) -> CacheProgressed:
        step, rows = self.learner.step, len(self.examples)
        return CacheProgressed(
            step=step, split=self.split, rows_done=done, rows=rows, seconds_left=seconds_left, loss=loss
        )

    def _computed(self, part: list[int]) -> tuple[Tensor, list[int], tuple[float, int]]:
        """Return what crosses the cut for these examples, the places of each, and nats and targets if it was looked."""
        learner = self.learner
        indices = part
        if self.padding:  # let there be as much of it as there can be
            indices = [*part, max(range(len(self.examples)), key=lambda index: self.examples.lengths[index])]
        batch = learner.settings.moved(self.examples.padded(indices), learner.device)
        narrowing = self.first_token.narrowing if self.cut.first_of is not None else None
        narrowed = narrowing.applied(learner.model) if narrowing else contextlib.nullcontext()
        with torch.no_grad(), learner.settings.autocast(learner.device), self._below(indices, batch), narrowed:
            found, answer = self._crossed(batch)
        places, counts = taken(found, self.cut, batch, with_padding=self.padding)
        kept = sum(counts[: len(part)])
        return places[:kept], counts[: len(part)], answer

    def _below(self, indices: list[int], batch: Batch) -> contextlib.AbstractContextManager[None]:
        """Return the context in which the blocks below the source's boundary do not run."""
        model, source = self.learner.model, self.source
        if source.cut is None or source.rows is None:
            return contextlib.nullcontext()
        value = crossing(source.rows, source.cut, indices, batch).to(self.learner.device)
        return patched(model, source.cut, *extent(batch), replace_activations(source.cut, value))

    def _crossed(self, batch: Batch) -> tuple[Tensor, tuple[float, int]]:
        """Return what crosses the cut, and the nats and targets of the batch where people wait to see a loss."""
        learner = self.learner
        if self.split != "validation" or self.padding:
            return activations_at_cut(learner.model, self.cut, lambda: learner.task.nats(learner.model, batch)), (
                0.0,
                0,
            )
        with capture_at_cut(learner.model, self.cut) as found:
            nats, targets = learner.task.nats(learner.model, batch)
        return found[0], (nats.item(), targets)


def portions(examples: Examples) -> list[list[int]]:
    """Return the batches that are computed together: of like length, and a function of the lengths alone."""
    is_text = "input_ids" in examples.padded([0])
    found: list[list[int]] = [[]]
    tokens = 0
    for index in sorted(range(len(examples)), key=lambda index: (examples.lengths[index], index)):
        rows, length = len(found[-1]), examples.lengths[index]
        if rows and (_is_full(rows, tokens, length) if is_text else rows >= IMAGES):
            found.append([])
            tokens = 0
        found[-1].append(index)
        tokens += length
    return found


def _is_full(rows: int, tokens: int, length: int) -> bool:
    """Whether a batch of so many texts and tokens should not take in another text, at least as long as they are."""
    padded, real = (rows + 1) * length, tokens + length
    return rows >= TEXTS or padded > TOKENS or (tokens >= ENOUGH and padded > (1 + PADDING) * real)


def by_example(kept: StoredActivations, examples: Examples, padding: str) -> Rows:
    """Return what was kept in the order of `portions` by the number of the example."""
    order = torch.tensor([index for part in portions(examples) for index in part])
    starts, counts = torch.empty_like(order), torch.empty_like(order)
    starts[order], counts[order] = kept.starts, kept.counts
    return Rows(kept, starts, counts, padding)

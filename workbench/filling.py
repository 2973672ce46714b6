"""Runs the frozen blocks once over every example and keeps what they give.

Each row is computed in a batch of its like that is a function of the lengths alone, so that its last bits don't hang
on when it was computed, by whom, or what else was asked for. Left out: where a model is cut, and whether it pays
(prefix.py).
"""

import contextlib
import time
from collections.abc import Generator
from dataclasses import dataclass

import torch
from torch import Tensor

from workbench.events import CacheProgressed
from workbench.learner import Learner
from workbench.tasks.examples import Examples
from workbench.transfer import shelf
from workbench.transfer.cuts import Cut
from workbench.transfer.patching import giving, patched, reached
from workbench.transfer.reuse import Rows, crossing, extent, taken

TOKENS, TEXTS, IMAGES = 4096, 64, 16  # at most, in a batch that is only computed to be kept
TELL = 0.25  # seconds between two reports of progress


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

    def carried_out(self, writer: shelf.Writer) -> Generator[CacheProgressed, None, shelf.Kept]:
        """Write it down, telling now and then how far it is; return it."""
        began = told = time.perf_counter()
        parts = portions(self.examples)
        costs = [sum(self.examples.lengths[index] for index in part) for part in parts]
        counts: list[int] = []
        with writer:
            for number, part in enumerate(parts, start=1):
                places, found = self._computed(part)
                writer.add(places)
                counts += found
                if (now := time.perf_counter()) - told > TELL:
                    told, done = now, sum(costs[:number])
                    left = (now - began) * (sum(costs) - done) / done
                    yield self._progress(len(counts), left)
            return writer.finish(counts)

    def _progress(self, done: int, seconds_left: float) -> CacheProgressed:
        rows = len(self.examples)
        return CacheProgressed(
            step=self.learner.step, split=self.split, rows_done=done, rows=rows, seconds_left=seconds_left
        )

    def _computed(self, part: list[int]) -> tuple[Tensor, list[int]]:
        """Return what crosses the cut for these examples, and the places of each."""
        learner = self.learner
        longest = max(range(len(self.examples)), key=lambda index: self.examples.lengths[index])
        indices = [*part, longest] if self.padding else part  # so that there is as much padding as there can be
        batch = learner.settings.moved(self.examples.padded(indices), learner.device)
        below: contextlib.AbstractContextManager[None] = contextlib.nullcontext()
        if self.source.cut is not None and self.source.rows is not None:
            value = crossing(self.source.rows, self.source.cut, indices, batch).to(learner.device)
            below = patched(learner.model, self.source.cut, *extent(batch), hand_over=giving(self.source.cut, value))
        with torch.no_grad(), learner.settings.autocast(learner.device), below:
            found = reached(learner.model, self.cut, lambda: learner.task.score(learner.model, batch))
        places, counts = taken(found, self.cut, batch, with_padding=self.padding)
        kept = sum(counts[: len(part)])
        return places[:kept], counts[: len(part)]


def portions(examples: Examples) -> list[list[int]]:
    """Return the batches that are computed together: of like length, and a function of the lengths alone."""
    is_text = "input_ids" in examples.padded([0])
    found: list[list[int]] = [[]]
    for index in sorted(range(len(examples)), key=lambda index: (examples.lengths[index], index)):
        full = len(found[-1]) >= (TEXTS if is_text else IMAGES)
        if found[-1] and (full or (is_text and (len(found[-1]) + 1) * examples.lengths[index] > TOKENS)):
            found.append([])
        found[-1].append(index)
    return found


def by_example(kept: shelf.Kept, examples: Examples, padding: str) -> Rows:
    """Return what was kept in the order of `portions` by the number of the example."""
    order = torch.tensor([index for part in portions(examples) for index in part])
    starts, counts = torch.empty_like(order), torch.empty_like(order)
    starts[order], counts[order] = kept.starts, kept.counts
    return Rows(kept, starts, counts, padding)

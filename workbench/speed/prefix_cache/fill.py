"""Runs the frozen blocks once over every example and stores the activations at the cut.

Activations are cached in batches of similar length, because their last bits depend on the sequence length. These
batches depend on nothing but the lengths of the examples, so every run computes the same bits.

Left out: where a model is cut (find_cut.py), and whether it is worth it (cache.py).
"""

import contextlib
import functools
import time
from collections.abc import Generator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from workbench.events import CacheProgressed
from workbench.speed.narrowing import narrowed
from workbench.speed.prefix_cache.cut import Cut
from workbench.speed.prefix_cache.patch import activations_at_cut, capture_at_cut, patched, replace_activations
from workbench.speed.prefix_cache.rows import CachedRows, join_rows, rows_and_time, split_rows
from workbench.speed.prefix_cache.store import StoredActivations
from workbench.speed.prefix_cache.writer import MemoryWriter, Writer
from workbench.tasks.examples import Batch, Examples
from workbench.training.learner import Learner

MAX_TOKENS, MAX_TEXTS, MAX_IMAGES = 2048, 64, 16  # in one batch
FULL_TOKENS, MAX_PADDING = 512, 0.02  # a batch of so many tokens takes no text that raises padding above this share
REPORT_SECONDS, MAX_REPORTS = 0.25, 100  # shortest time between two reports of progress, and how many there can be


@dataclass(frozen=True)
class FillStart:
    """Where the batches start: at the inputs, or at a lower cut whose activations are cached."""

    cut: Cut | None = None
    rows: CachedRows | None = None


@dataclass(frozen=True)
class Fill:
    """Computes the activations at the cut for all examples of a split.

    Attributes:
        learner: The learner; its model is in eval mode.
        cut: The cut.
        split: "train" or "validation", for the events.
        examples: The examples.
        start: Where the batches start.
        padding_side: "left" or "right" if padding on this side is cached too; "" if padding is not cached.
        narrowed_paths: Paths of the modules that compute only the first position (narrowing.py).
    """

    learner: Learner
    cut: Cut
    split: str
    examples: Examples
    start: FillStart
    padding_side: str
    narrowed_paths: tuple[str, ...]

    def run(self, writer: Writer | MemoryWriter) -> Generator[CacheProgressed, None, StoredActivations]:
        """Write the activations, report progress, and return what was stored, in the order of `fill_batches`."""
        began = reported = time.perf_counter()
        nats, targets = 0.0, 0
        tokens_done, tokens = 0, sum(self.examples.lengths)
        counts: list[int] = []
        with writer:
            for indices in fill_batches(self.examples):
                positions, found, (batch_nats, batch_targets) = self._compute(indices)
                writer.add(positions)
                counts += found
                nats, targets = nats + batch_nats, targets + batch_targets
                tokens_done += sum(self.examples.lengths[index] for index in indices)
                now = time.perf_counter()
                left = (now - began) * (tokens - tokens_done) / tokens_done
                is_last = len(counts) == len(self.examples)  # after it, the rows are checked
                if is_last or now - reported > max(REPORT_SECONDS, (now - began + left) / MAX_REPORTS):
                    reported = now
                    yield CacheProgressed(
                        step=self.learner.step,
                        split=self.split,
                        rows_done=len(counts),
                        rows=len(self.examples),
                        seconds_left=left,
                        loss=nats / targets if targets else None,
                    )
            return writer.finish(counts)

    def is_exact(self) -> bool:
        """Whether the first batch has the same bits from the lower cut as from the inputs; padding can change them."""
        indices = fill_batches(self.examples)[0]
        from_inputs = replace(self, start=FillStart())
        return torch.equal(self._compute(indices)[0], from_inputs._compute(indices)[0])

    def _compute(self, indices: list[int]) -> tuple[Tensor, list[int], tuple[float, int]]:
        """Return the activations of these examples, the positions of each, and the loss.

        Returns:
            The activations (positions, features), the number of positions of each example, and, if the loss was
            computed, the summed loss in nats and the target count; otherwise zeros.
        """
        learner, count = self.learner, len(indices)
        if self.padding_side:  # next to the longest example, each row has as much padding as it can ever have
            longest = max(range(len(self.examples)), key=lambda index: self.examples.lengths[index])
            indices = [*indices, longest]
        batch = learner.settings.to_device(self.examples.padded(indices), learner.device)
        paths = self.narrowed_paths if self.cut.first_of is not None else ()
        with (
            torch.no_grad(),
            learner.settings.autocast(learner.device),
            self._started(indices, batch),
            narrowed(learner.model, paths),
        ):
            activations, loss = self._run_model(batch)
        positions, counts = split_rows(activations, self.cut, batch, with_padding=bool(self.padding_side))
        return positions[: sum(counts[:count])], counts[:count], loss

    def _started(self, indices: list[int], batch: Batch) -> contextlib.AbstractContextManager[None]:
        """Return a context in which the model starts at `start`."""
        cut, rows = self.start.cut, self.start.rows
        if cut is None or rows is None:
            return contextlib.nullcontext()
        value = join_rows(rows, cut, indices, batch).to(self.learner.device)
        return patched(self.learner.model, cut, *rows_and_time(batch), replace_activations(cut, value))

    def _run_model(self, batch: Batch) -> tuple[Tensor, tuple[float, int]]:
        """Return the activations at the cut; for the validation split, run to the end and return the loss too.

        Users wait for this loss: it is the first number that a run shows.
        """
        model = self.learner.model
        run = functools.partial(self.learner.task.nats, model, batch)
        if self.split != "validation" or self.padding_side:
            return activations_at_cut(model, self.cut, run), (0.0, 0)
        with capture_at_cut(model, self.cut) as found:
            nats, targets = run()
        return found[0], (nats.item(), targets)


def fill_batches(examples: Examples) -> list[list[int]]:
    """Return the batches that are computed together. They have similar lengths and depend on the lengths alone."""
    is_text = "input_ids" in examples.padded([0])
    found: list[list[int]] = [[]]
    tokens = 0
    for index in sorted(range(len(examples)), key=lambda index: (examples.lengths[index], index)):
        rows, length = len(found[-1]), examples.lengths[index]
        if rows and (_is_full(rows, tokens, length) if is_text else rows >= MAX_IMAGES):
            found.append([])
            tokens = 0
        found[-1].append(index)
        tokens += length
    return found


def _is_full(rows: int, tokens: int, length: int) -> bool:
    """Whether a batch of so many texts and tokens should not take another text of at least their length."""
    padded, real = (rows + 1) * length, tokens + length
    return rows >= MAX_TEXTS or padded > MAX_TOKENS or (tokens >= FULL_TOKENS and padded > (1 + MAX_PADDING) * real)


def cached_rows(stored: StoredActivations, examples: Examples, padding_side: str) -> CachedRows:
    """Return the activations that a Fill of these examples has stored, by the index of the example."""
    order = torch.tensor([index for indices in fill_batches(examples) for index in indices])
    starts, counts = torch.empty_like(order), torch.empty_like(order)
    starts[order], counts[order] = stored.starts, stored.counts
    return CachedRows(examples, stored, starts, counts, padding_side)

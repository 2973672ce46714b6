"""Builds the cached rows of a split: finds stored activations, or computes, stores and checks them."""

import contextlib
import time
from collections.abc import Generator, Mapping
from dataclasses import dataclass, replace

import xxhash

from workbench.events import CacheProgressed, CacheReady
from workbench.speed.prefix_cache import budget, key, store
from workbench.speed.prefix_cache.check import check
from workbench.speed.prefix_cache.cut import Cut, UncuttableError
from workbench.speed.prefix_cache.fill import Fill, FillStart, cached_rows
from workbench.speed.prefix_cache.probe import cut_below, spread
from workbench.speed.prefix_cache.rows import CachedSplits, labelled_padding_side
from workbench.speed.prefix_cache.store import StoredActivations
from workbench.speed.prefix_cache.writer import MemoryWriter, NoRoomError, Writer
from workbench.tasks.examples import Examples
from workbench.training.learner import Learner


@dataclass(frozen=True)
class _Entry:
    """The entry of the store that holds the activations of some examples.

    Attributes:
        key: Hash of everything that the activations depend on.
        about: The part of the description that is the same at every cut.
        below: Name -> hash of each tensor and module in the blocks below the cut.
    """

    key: str
    about: Mapping[str, str]
    below: Mapping[str, str]

    @property
    def padding_side(self) -> str:
        """The side, "left" or "right", on which padding is cached too; "" if padding is not cached."""
        return self.about["padding"]


class Builder:
    """Builds the cached rows of a learner's splits.

    Args:
        learner: The learner; its model is in eval mode.
        narrowed_paths: Paths of the modules that compute only the first position (narrowing.py).
        before: The splits that are already cached; left out: none, and the cut is found.

    Raises:
        UncuttableError: The model can't be cut below its lowest trainable block.
    """

    def __init__(self, learner: Learner, narrowed_paths: tuple[str, ...], before: CachedSplits | None = None) -> None:
        self.learner, self.narrowed_paths, self.first = learner, narrowed_paths, lowest_trainable(learner)
        self.cut = before.cut if before else cut_below(learner, self.first)
        self.cached = CachedSplits(self.cut, list(before.rows) if before else [])
        self.limit = budget.budget(learner.plan.transfer.cache_memory_mb)

    def add(self, split: str, examples: Examples) -> Generator[CacheProgressed, None, CacheReady]:
        """Add the cached rows of a split to `cached`; report progress if they have to be computed.

        Raises:
            UncuttableError: The activations of a row depend on its batch.
            NoRoomError: Neither the disk nor the memory budget has room.
        """
        began, entry = time.perf_counter(), self._entry(examples)
        in_use = sum(rows.stored.size_bytes for rows in self.cached.rows if rows.stored.place == "memory")
        stored, fill = store.find(entry.key, limit=self.limit, in_use=in_use), None
        if stored is None:
            fill = self._fill(split, examples, entry)
            stored = yield from self._run(fill, entry, in_use)
        self.cached.rows.append(cached_rows(stored, examples, entry.padding_side))
        try:
            check(self.learner, self.cached, examples)
        except Exception:
            store.remove(entry.key)
            raise
        return CacheReady(
            step=self.learner.step,
            split=split,
            boundary=self.cut.boundary,
            rows=len(examples),
            size_bytes=stored.size_bytes,
            budget_bytes=self.limit,
            place=stored.place,
            seconds=time.perf_counter() - began,
            reused=fill is None,
            advanced_from=fill.start.cut.boundary if fill and fill.start.cut else "",
        )

    def _entry(self, examples: Examples) -> _Entry:
        padding = labelled_padding_side(examples.padded(spread(examples)))
        about = {"base": key.base(self.learner, examples, self.narrowed_paths), "padding": padding}
        below = key.below(self.learner, self.first)
        everything = repr((sorted(about.items()), self.cut.entry, _form(self.cut), sorted(below.items())))
        return _Entry(xxhash.xxh3_128(everything.encode()).hexdigest(), about, below)

    def _fill(self, split: str, examples: Examples, entry: _Entry) -> Fill:
        """Return the Fill that computes the activations, from a lower cut if that gives the same bits."""
        if self.learner.changed_frozen_tensors():
            raise UncuttableError("a frozen tensor has changed")
        start = self._nearest(examples, entry)
        fill = Fill(self.learner, self.cut, split, examples, start, entry.padding_side, self.narrowed_paths)
        return fill if start.cut is None or fill.is_exact() else replace(fill, start=FillStart())

    def _run(self, fill: Fill, entry: _Entry, in_use: int) -> Generator[CacheProgressed, None, StoredActivations]:
        """Compute the activations and store them on disk, or else in memory for this run only."""
        about = {**entry.about, "first": self.first, "below": entry.below, "form": _form(self.cut)}
        try:
            return (yield from fill.run(Writer(entry.key, about, limit=self.limit, in_use=in_use)))
        except NoRoomError:
            return (yield from fill.run(MemoryWriter(limit=self.limit - in_use)))

    def _nearest(self, examples: Examples, entry: _Entry) -> FillStart:
        """Return the highest lower cut with stored activations of the same rows and the same blocks; or the inputs."""
        found = [
            (about["first"], stored_key, about["form"])
            for stored_key, about in store.search(entry.about)
            if about["first"] < self.first and about["below"].items() <= entry.below.items()
        ]
        for first, stored_key, form in sorted(found, reverse=True):
            with contextlib.suppress(UncuttableError):
                cut = cut_below(self.learner, first)
                if cut.first_of is not None or form != _form(cut):
                    continue
                if (stored := store.find(stored_key, limit=0)) is not None:  # not held in memory: it is read only once
                    return FillStart(cut, cached_rows(stored, examples, entry.padding_side))
        return FillStart()


def lowest_trainable(learner: Learner) -> int:
    """Return the index of the lowest trainable block."""
    return next(index for index, block in enumerate(learner.backbone.blocks) if block.name in learner.trainable)


def _form(cut: Cut) -> str:
    """Return the format of the rows. It can differ for the same examples: probe batches may come from either split."""
    return repr((cut.shape, cut.first_of))

"""Computes what the frozen lowest blocks give once, for all epochs, evaluations, runs, sweeps and forks.

It looks for a cut below what learns, finds or fills what crosses it for every training and validation example,
and compares it with what crosses in other batches before anything is trained on it. Where that can't hold, the run
goes on uncached and says why. Whether rows are kept hangs on the plan, the data and the frozen weights, and each row
is computed in a batch that is a function of the data alone, so that a run that is taken up again, forked or looked
back at comes to the same bits, whoever computed them and when. Only where neither disk nor memory has room does it
hang on the machine; a run that is taken up elsewhere then says that its last digits differ.

Left out: caches of what random augmentation gives, which would have to be another one each time.
"""

import contextlib
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
import xxhash

from workbench.events import CacheProgressed, CacheReady, CacheRefused
from workbench.speed.first_token import FirstToken
from workbench.speed.prefix_cache import budget, find_cut, store
from workbench.speed.prefix_cache import key as cache_key
from workbench.speed.prefix_cache.check import by_length, check, spread
from workbench.speed.prefix_cache.cut import Cut, UncuttableError
from workbench.speed.prefix_cache.fill import Filling, Source, by_example
from workbench.speed.prefix_cache.prove_cut import ProbeBatch
from workbench.speed.prefix_cache.rows import KEPT, Reuse, extent, labels_padding
from workbench.speed.prefix_cache.writer import MemoryWriter, NoRoomError, Writer
from workbench.tasks.examples import Batch, Examples
from workbench.training.learner import Learner
from workbench.training.shortcut import Shortcut

SPLITS = ("validation", "train")
Told = CacheProgressed | CacheReady | CacheRefused


class PrefixCache(Shortcut):
    """Keeps the activations of the frozen lowest blocks, if it pays and can be done.

    Attributes:
        first_token: The other shortcut, which may narrow the last block while the cache is filled.
        reuse: The cut and what was kept; None where nothing is.
    """

    def __init__(self, first_token: FirstToken) -> None:
        self.first_token = first_token
        self.reuse: Reuse | None = None
        self._reuse_of: tuple[Any, ...] | None = None

    def invalidate(self) -> None:
        """Forget the cut: which blocks are frozen has changed."""
        self.reuse = self._reuse_of = None

    def batch(self, learner: Learner, examples: Examples, indices: Sequence[int]) -> Batch | None:
        """Return these examples as a batch with what was kept of them, if anything was."""
        return self.reuse.batch(learner, examples, indices) if self.reuse else None

    def running(self, learner: Learner, batch: Batch) -> contextlib.AbstractContextManager[Batch]:
        """Let the model begin at the cut where the batch was made by `batch`."""
        if self.reuse is None or KEPT not in batch:
            return contextlib.nullcontext(batch)
        return self.reuse.standing_in(learner.model, batch)

    def prepare(self, learner: Learner, splits: Sequence[str] = SPLITS) -> Iterator[Told]:
        """Find or compute what the frozen blocks give for the examples of these splits, and report progress.

        It returns at once where everything is as it was the last time.
        """
        wanted, known = _wanted(learner), self.reuse
        is_new = self._reuse_of != wanted
        missing = [
            (name, rows) for name, rows in _splits(learner) if name in splits and (is_new or _lacks(known, rows))
        ]
        if not (is_new or (known is not None and missing)):
            return
        self.invalidate()
        try:
            _check_worth(learner)
            learner.model.eval()
            work = _Work(learner, self.first_token, None if is_new or known is None else known.cut)
            reuse, facts = Reuse(work.cut, {} if is_new or known is None else dict(known.rows)), []
            for split, examples in missing:
                facts.append((yield from work.keep(split, examples, reuse)))
            self.reuse = reuse
            yield from facts
        except UncuttableError as error:
            if str(error):
                yield CacheRefused(step=learner.step, what=str(error))
        except NoRoomError as error:
            what = f"what the frozen blocks give could not be kept: {error.strerror or error}"
            yield CacheRefused(step=learner.step, what=what)
        except Exception as error:  # a stranger's model may do anything when it is looked at, and can train as usual
            what = f"they could not be looked into: {type(error).__name__}: {error}"
            yield CacheRefused(step=learner.step, what=what)
        self._reuse_of = wanted


def _lacks(reuse: Reuse | None, examples: Examples) -> bool:
    return reuse is not None and reuse.of(examples) is None


def _wanted(learner: Learner) -> tuple[Any, ...]:
    """Return what the cut and the worth of it depend on; where this is as before, there is nothing to prepare."""
    choice = learner.plan.transfer
    return (learner.trainable, choice.prefix_cache, learner.precision, learner.steps >= learner.steps_per_epoch)


def _first(learner: Learner) -> int:
    """Return the index of the lowest block that learns."""
    return next(i for i, block in enumerate(learner.backbone.blocks) if block.name in learner.trainable)


def _check_worth(learner: Learner) -> None:
    """Raise UncuttableError where nothing would be gained; without a word where nobody would expect it to."""
    blocks, first = learner.backbone.blocks, _first(learner)
    if first == 0 or learner.plan.transfer.prefix_cache == "off":
        raise UncuttableError
    if not any(block.kind == "block" for block in blocks[:first]):
        raise UncuttableError(f"all that is frozen is the {blocks[0].name}, which costs next to nothing to run")


def _splits(learner: Learner) -> Iterator[tuple[str, Examples]]:
    """Yield what is worth keeping: what is measured on, and training examples if each is used at least once."""
    yield "validation", learner.validation
    if learner.steps >= learner.steps_per_epoch:
        yield "train", learner.train


@dataclass(frozen=True)
class _Entry:
    """Under what the rows of some examples are kept.

    Attributes:
        key: A hash of all that they are computed from.
        about: What they share with what was kept at other boundaries.
        below: Name -> hash of all in the blocks below the cut.
    """

    key: str
    about: Mapping[str, str]
    below: Mapping[str, str]

    @property
    def padding(self) -> str:
        """Side of padding that is kept as well; "" where it is not."""
        return self.about["padding"]


class _Work:
    """One cut of a learner, and what has to be done for it."""

    def __init__(self, learner: Learner, first_token: FirstToken, cut: Cut | None = None) -> None:
        self.learner, self.first_token, self.first = learner, first_token, _first(learner)
        self.cut = cut or _cut(learner, self.first)
        self.limit = budget.budget(learner.plan.transfer.cache_memory_mb)

    def keep(self, split: str, examples: Examples, reuse: Reuse) -> Generator[CacheProgressed, None, CacheReady]:
        """Find what was kept of the examples, or compute it; put it into `reuse` and return that fact."""
        began, entry = time.perf_counter(), self._entry(examples)
        in_use = sum(rows.kept.size_bytes for rows in reuse.rows.values() if rows.kept.place == "memory")
        kept, filling = store.find(entry.key, limit=self.limit, in_use=in_use), None
        if kept is None:
            filling = self._filling(split, examples, entry)
            kept = yield from self._filled(filling, entry, in_use)
        reuse.rows[id(examples)] = by_example(kept, examples, entry.padding)
        try:
            check(self.learner, self.cut, examples, reuse)
        except Exception:
            store.remove(entry.key)
            raise
        return CacheReady(
            step=self.learner.step,
            split=split,
            boundary=self.cut.boundary,
            rows=len(examples),
            size_bytes=kept.size_bytes,
            budget_bytes=self.limit,
            place=kept.place,
            seconds=time.perf_counter() - began,
            reused=filling is None,
            advanced_from=filling.source.cut.boundary if filling and filling.source.cut else "",
        )

    def _entry(self, examples: Examples) -> _Entry:
        padding = labels_padding(examples.padded(spread(examples)))
        narrowed = self.first_token.narrowing.paths if self.first_token.narrowing else ()
        about = {"base": cache_key.base(self.learner, examples, narrowed), "padding": padding}
        below = cache_key.below(self.learner, self.first)
        found = repr((sorted(about.items()), self.cut.entry, _form(self.cut), sorted(below.items())))
        return _Entry(xxhash.xxh3_128(found.encode()).hexdigest(), about, below)

    def _filling(self, split: str, examples: Examples, entry: _Entry) -> Filling:
        """Return how to compute it: from a lower boundary at which rows were kept, if that gives the inputs' bits."""
        if self.learner.moved_though_frozen():
            raise UncuttableError("something frozen is not what it was")
        source = self._nearest(examples, entry)
        filling = Filling(self.learner, self.cut, split, examples, source, entry.padding, self.first_token)
        return filling if source.cut is None or filling.is_exact() else replace(filling, source=Source())

    def _filled(
        self, filling: Filling, entry: _Entry, in_use: int
    ) -> Generator[CacheProgressed, None, store.StoredActivations]:
        """Compute it and keep it on disk; where that fails, for this run alone, if memory is enough."""
        about = {**entry.about, "first": self.first, "below": entry.below, "form": _form(self.cut)}
        try:
            writer = Writer(entry.key, about, limit=self.limit, in_use=in_use)
            return (yield from filling.carried_out(writer))
        except NoRoomError:
            return (yield from filling.carried_out(MemoryWriter(limit=self.limit - in_use)))

    def _nearest(self, examples: Examples, entry: _Entry) -> Source:
        """Return the highest lower boundary at which the same rows were kept, with the same blocks beneath."""
        found = [
            (said["first"], key, said["form"])
            for key, said in store.search(entry.about)
            if said["first"] < self.first and said["below"].items() <= entry.below.items()
        ]
        for first, key, form in sorted(found, reverse=True):
            with contextlib.suppress(UncuttableError):
                cut = _cut(self.learner, first)
                is_alike = cut.first_of is None and form == _form(cut)
                if is_alike and (kept := store.find(key, limit=0)) is not None:  # only passed through
                    return Source(cut, by_example(kept, examples, entry.padding))
        return Source()


def _form(cut: Cut) -> str:
    """Return in what form rows are kept: whether they have places hangs on the lengths of all that was looked at."""
    return repr((cut.shape, cut.first_of))


def _cut(learner: Learner, first: int) -> Cut:
    """Return the cut below block `first`, tried on the shortest examples and one that is longer, if any is."""
    order = by_length(learner.train)
    few = [order[0], order[min(1, len(order) - 1)]]
    small = _trial(learner, learner.train, few)
    large = _trial(learner, *_longer(learner, few))
    if (small.time, large.time) == (2, 3):  # or rows and places could not be told apart
        examples, indices = _longer(learner, few)
        large = _trial(learner, examples, [*indices, indices[-1]])
    return find_cut.find(learner.model, learner.backbone.blocks, first, (small, large))


def _longer(learner: Learner, few: list[int]) -> tuple[Examples, list[int]]:
    """Return three examples, from wherever there are any, of which the longest differs from these in length."""
    time = learner.train.lengths[few[-1]]
    for examples in (learner.train, learner.validation):
        order = by_length(examples)
        for index in order:
            if examples.lengths[index] > time or (examples is not learner.train and examples.lengths[index] != time):
                return examples, [order[0], order[0], index]
    return learner.train, [*few, few[-1]]


def _trial(learner: Learner, examples: Examples, indices: list[int]) -> ProbeBatch:
    batch = learner.settings.moved(examples.padded(indices), learner.device)
    again = examples.padded(indices)
    if any(not torch.equal(value.cpu(), again[name]) for name, value in batch.items()):
        raise UncuttableError("the same rows give other inputs each time (random augmentation)")
    return ProbeBatch(lambda: learner.task.score(learner.model, batch)[0], *extent(batch))

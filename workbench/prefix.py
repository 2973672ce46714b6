"""Computes what the frozen lowest blocks give once, for all epochs, evaluations, runs, sweeps and forks.

`prepare` looks for a cut below what learns, finds or fills what crosses it for every training and validation example,
and compares it with what crosses in other batches before anything is trained on it. Where that can't hold, the run
goes on uncached and says why. Whether rows are kept hangs on the plan, the data and the frozen weights, and each row
is computed in a batch that is a function of the data alone, so that a run that is taken up again, forked or looked
back at comes to the same bits, whoever computed them and when. Only where neither disk nor memory has room does it
hang on the machine; a run that is taken up elsewhere then says that its last digits differ.

Left out: caches of what random augmentation gives, which would have to be another one each time.
"""

import contextlib
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from typing import Any

import torch
import xxhash
from torch import Tensor

from workbench import provenance
from workbench.events import CacheProgressed, CacheReady, CacheRefused
from workbench.filling import Filling, Source, by_example
from workbench.learner import Learner, counted_nats, score
from workbench.tasks.examples import Batch, Examples
from workbench.transfer import cutting, shelf
from workbench.transfer.cuts import Cut, UncuttableError
from workbench.transfer.patching import watched
from workbench.transfer.reuse import Reuse, crossing, extent, labels_padding, taken

TOLERANCE = {"fp32": 1e-4, "bf16": 0.1}  # of the largest number that crosses, between two batches that a row is in
WIDE = {"fp32": 1e-3, "bf16": 0.5}  # of the largest logit: answers hang on what learns, so only what is plainly wrong

SPLITS = ("validation", "train")
Told = CacheProgressed | CacheReady | CacheRefused


def prepare(learner: Learner, *, splits: Sequence[str] = SPLITS) -> Iterator[Told]:
    """Have at hand what the frozen blocks give, if it pays and can be done; the learner then goes on from there.

    Tells how far it is; does nothing where everything is as it was the last time.

    Args:
        learner: What learns.
        splits: Whose examples are needed now.
    """
    wanted, known = _wanted(learner), learner.reuse
    is_new = learner.reuse_of != wanted
    missing = [(name, rows) for name, rows in _splits(learner) if name in splits and (is_new or _lacks(known, rows))]
    if not (is_new or (known is not None and missing)):
        return
    learner.reuse = learner.reuse_of = None
    try:
        _check_worth(learner)
        learner.model.eval()
        work = _Work(learner, None if is_new or known is None else known.cut)
        reuse, facts = Reuse(work.cut, {} if is_new or known is None else dict(known.rows)), []
        for split, examples in missing:
            facts.append((yield from work.keep(split, examples, reuse)))
        learner.reuse = reuse
        yield from facts
    except UncuttableError as error:
        if str(error):
            yield CacheRefused(step=learner.step, what=str(error))
    except OSError as error:
        what = f"what the frozen blocks give could not be kept: {error.strerror or error}"
        yield CacheRefused(step=learner.step, what=what)
    except Exception as error:  # whatever a stranger's model does when it is looked at, it can train as usual
        what = f"they could not be looked into: {type(error).__name__}: {error}"
        yield CacheRefused(step=learner.step, what=what)
    learner.reuse_of = wanted


def _lacks(reuse: Reuse | None, examples: Examples) -> bool:
    return reuse is not None and reuse.of(examples) is None


def prepared(learner: Learner) -> Learner:
    """Return the learner, prepared without a word."""
    for _ in prepare(learner):
        pass
    return learner


def _wanted(learner: Learner) -> tuple[Any, ...]:
    """Return what the cut and the worth of it hang on; where this is as before, there is nothing to prepare."""
    choice = learner.plan.transfer
    return (learner.trainable, choice.prefix_cache, learner.precision, learner.steps >= learner.windows_per_epoch)


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
    if learner.steps >= learner.windows_per_epoch:
        yield "train", learner.train


class _Work:
    """One cut of a learner, and what has to be done for it."""

    def __init__(self, learner: Learner, cut: Cut | None = None) -> None:
        self.learner, self.first = learner, _first(learner)
        self.cut = cut or _cut(learner, self.first)
        self.limit = shelf.budget(learner.plan.transfer.cache_memory_mb)

    def keep(self, split: str, examples: Examples, reuse: Reuse) -> Generator[CacheProgressed, None, CacheReady]:
        """Find what was kept of the examples, or compute it; put it into `reuse` and return that fact."""
        began = time.perf_counter()
        padding = labels_padding(examples.padded(_spread(examples)))
        about: dict[str, Any] = {"base": provenance.base(self.learner, examples), "padding": padding}
        below = provenance.below(self.learner, self.first)
        found = repr((sorted(about.items()), self.cut.entry, self.cut.first_of, sorted(below.items())))
        key = xxhash.xxh3_128(found.encode()).hexdigest()
        kept, source = shelf.find(key, limit=self.limit), Source()
        is_reused = kept is not None
        if kept is None:
            if self.learner.moved_though_frozen():
                raise UncuttableError("something frozen is not what it was")
            source = self._nearest(examples, about, below)
            filling = Filling(self.learner, self.cut, split, examples, source, padding)
            if source.cut and not filling.is_exact():
                source = Source()
                filling = Filling(self.learner, self.cut, split, examples, source, padding)
            about |= {"first": self.first, "below": below}
            try:
                kept = yield from filling.carried_out(shelf.Writer(key, about, limit=self.limit))
            except OSError:  # the disk can't be written: for this run alone, then, if memory is enough
                kept = yield from filling.carried_out(shelf.Loose(limit=self.limit))
        reuse.rows[id(examples)] = by_example(kept, examples, padding)
        try:
            self.check(examples, reuse)
        except UncuttableError:
            shelf.remove(key)
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
            reused=is_reused,
            advanced_from=source.cut.boundary if source.cut else "",
        )

    def _nearest(self, examples: Examples, about: Mapping[str, Any], below: Mapping[str, str]) -> Source:
        """Return the highest lower boundary at which the same rows were kept, with the same blocks beneath."""
        found = [
            (said["first"], key)
            for key, said in shelf.others(about)
            if said["first"] < self.first and said["below"].items() <= below.items()
        ]
        for first, key in sorted(found, reverse=True):
            with contextlib.suppress(UncuttableError):
                cut, kept = _cut(self.learner, first), shelf.find(key, limit=self.limit)
                if cut.first_of is None and kept is not None:
                    return Source(cut, by_example(kept, examples, about["padding"]))
        return Source()

    def check(self, examples: Examples, reuse: Reuse) -> None:
        """Compare what was kept with what crosses the cut in other batches. Raises UncuttableError.

        One is a short example alone and one has a long one beside it, so that a row that hangs on its neighbours, or
        on where padding puts it, is found out. It is what crosses that is compared, which nothing that learns changes.
        """
        spread = _spread(examples)
        for indices in (spread[:1], [spread[0], spread[-1]]):
            crosses, answers = self._apart(examples, indices, reuse)
            if not crosses <= TOLERANCE[self.learner.precision]:
                raise UncuttableError(
                    f"what a row gives hangs on the batch it is in: it differs by {crosses:.1g} of it"
                )
            if not answers <= WIDE[self.learner.precision]:
                raise UncuttableError("from what was kept, the model answers otherwise than from its inputs")

    def _apart(self, examples: Examples, indices: list[int], reuse: Reuse) -> tuple[float, float]:
        """Return how far what crosses is from what was kept, and the answers from those there, each of the largest."""
        learner, rows, found = self.learner, reuse.rows[id(examples)], list[Tensor]()
        batch = learner.settings.moved(examples.padded(indices), learner.device)
        with torch.no_grad():
            whole = self._whole_answer(batch, found.append)
            learner.reuse = reuse
            try:
                from_cut = self._answer(learner.batch(examples, indices))
            finally:
                learner.reuse = None  # a cut that fails here is refused, and nothing may start from it
        now, _ = taken(found[0], self.cut, batch, with_padding=rows.with_padding)
        kept, _ = taken(crossing(rows, self.cut, indices, batch), self.cut, batch, with_padding=rows.with_padding)
        crosses = float((now.cpu().float() - kept.float()).abs().max()) / max(1e-6, float(now.abs().max()))
        answers = float((from_cut - whole).abs().max()) / max(0.1, float(whole.abs().max())) if whole.numel() else 0.0
        return crosses, answers

    def _whole_answer(self, batch: Batch, take: Callable[[Tensor], None]) -> Tensor:
        """Return the answer from the inputs, all of it computed, and have what crosses the cut taken."""
        learner = self.learner
        narrowing, learner.narrowing = learner.narrowing, None
        try:
            with watched(learner.model, self.cut, take):
                return self._answer(batch)
        finally:
            learner.narrowing = narrowing

    def _answer(self, batch: Batch) -> Tensor:
        """Return logits, or a loss where logits take hundreds of megabytes."""
        if self.learner.task.names_classes:
            return score(self.learner, batch)[0].float()
        nats, targets = counted_nats(self.learner, batch)
        return nats / max(1, targets)


def _cut(learner: Learner, first: int) -> Cut:
    """Return the cut below block `first`, tried on the shortest examples and one that is longer, if any is."""
    order = _sorted(learner.train)
    few = [order[0], order[min(1, len(order) - 1)]]
    small = _trial(learner, learner.train, few)
    large = _trial(learner, *_longer(learner, few))
    if (small.time, large.time) == (2, 3):  # or rows and places could not be told apart
        examples, indices = _longer(learner, few)
        large = _trial(learner, examples, [*indices, indices[-1]])
    return cutting.find(learner.model, learner.backbone.blocks, first, (small, large))


def _longer(learner: Learner, few: list[int]) -> tuple[Examples, list[int]]:
    """Return three examples, from wherever there are any, of which the longest differs from these in length."""
    time = learner.train.lengths[few[-1]]
    for examples in (learner.train, learner.validation):
        order = _sorted(examples)
        for index in order:
            if examples.lengths[index] > time or (examples is not learner.train and examples.lengths[index] != time):
                return examples, [order[0], order[0], index]
    return learner.train, [*few, few[-1]]


def _sorted(examples: Examples) -> list[int]:
    return sorted(range(len(examples)), key=lambda index: (examples.lengths[index], index))


def _trial(learner: Learner, examples: Examples, indices: list[int]) -> cutting.Trial:
    batch = learner.settings.moved(examples.padded(indices), learner.device)
    again = examples.padded(indices)
    if any(not torch.equal(value.cpu(), again[name]) for name, value in batch.items()):
        raise UncuttableError("the same rows give other inputs each time (random augmentation)")
    return cutting.Trial(lambda: learner.task.score(learner.model, batch)[0], *extent(batch))


def _spread(examples: Examples) -> list[int]:
    """Return some examples from the shortest to the longest, both included."""
    order = _sorted(examples)
    return list(dict.fromkeys(order[(len(order) - 1) * place // 3] for place in range(4)))

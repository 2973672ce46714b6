"""Computes the activations of the frozen lowest blocks once, for all epochs, evaluations, runs, sweeps and forks.

The cache finds a cut below the trainable blocks, finds or computes the activations of every training and validation
example there, and compares them with other batches before anything is trained on them. If a model can't be cached, the
run goes on without the cache and reports why.

Whether rows are cached depends on the plan, the data and the frozen weights, and the batches in which they are computed
depend on the data alone. So a run that is resumed, forked or repeated gets the same bits, whichever process computed
them. There is one exception: rows are not cached if neither disk nor memory has room. A run that is resumed on another
machine then reports that its last digits differ.

Left out: caching inputs with random augmentation, which differ each time.
"""

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

from workbench.events import CacheProgressed, CacheReady, CacheRefused
from workbench.speed.first_token import FirstToken
from workbench.speed.prefix_cache.builder import Builder, lowest_trainable
from workbench.speed.prefix_cache.cut import UncuttableError
from workbench.speed.prefix_cache.rows import ACTIVATIONS, CachedSplits
from workbench.speed.prefix_cache.writer import NoRoomError
from workbench.tasks.examples import Batch, Examples
from workbench.training.learner import Learner
from workbench.training.shortcut import Shortcut

Report = CacheProgressed | CacheReady | CacheRefused


class PrefixCache(Shortcut):
    """Caches the activations of the frozen lowest blocks, if this is possible and saves time.

    Attributes:
        first_token: The shortcut that may narrow the last block. The cached activations include its effect.
        cached: The cut and the cached rows; None if nothing is cached.
    """

    def __init__(self, first_token: FirstToken) -> None:
        self.first_token = first_token
        self.cached: CachedSplits | None = None
        self._prepared_for: tuple[Any, ...] | None = None  # conditions for which `cached` was prepared

    def invalidate(self) -> None:
        """Discard the cut and the cached rows."""
        self.cached = self._prepared_for = None

    def batch(self, learner: Learner, examples: Examples, indices: Sequence[int]) -> Batch | None:
        """Return a batch with the cached activations of these examples; None if they are not cached."""
        return self.cached.batch(learner, examples, indices) if self.cached else None

    def running(self, learner: Learner, batch: Batch) -> contextlib.AbstractContextManager[Batch]:
        """Let the model start at the cut if the batch has cached activations."""
        if self.cached is None or ACTIVATIONS not in batch:
            return contextlib.nullcontext(batch)
        return self.cached.running(learner.model, batch)

    def prepare(self, learner: Learner, splits: Sequence[str]) -> Iterator[Report]:
        """Find or compute the activations of these splits, and report progress or why it is not possible.

        It returns at once if these splits are cached, or were refused, under the same conditions.
        """
        conditions = _conditions(learner)
        if conditions != self._prepared_for:
            self.invalidate()
        elif self.cached is None:
            return
        before = self.cached
        worth = ((split, examples) for split, examples in _worth_caching(learner) if split in splits)
        missing = [(split, examples) for split, examples in worth if before is None or before.of(examples) is None]
        if not missing:
            return
        self.invalidate()
        try:
            yield from self._add(learner, before, missing)
        except UncuttableError as error:
            if str(error):
                yield CacheRefused(step=learner.step, what=str(error))
        except NoRoomError as error:
            what = f"the activations could not be stored: {error.strerror or error}"
            yield CacheRefused(step=learner.step, what=what)
        except Exception as error:  # a user's model may raise anything here, and can be trained without a cache
            what = f"caching failed with {type(error).__name__}: {error}"
            yield CacheRefused(step=learner.step, what=what)
        self._prepared_for = conditions

    def _add(
        self, learner: Learner, before: CachedSplits | None, missing: Sequence[tuple[str, Examples]]
    ) -> Iterator[Report]:
        _check_worth(learner)
        learner.model.eval()
        builder, ready = Builder(learner, self.first_token.paths, before), []
        for split, examples in missing:
            ready.append((yield from builder.add(split, examples)))
        self.cached = builder.cached
        yield from ready


def _conditions(learner: Learner) -> tuple[Any, ...]:
    """Return everything that can change during a run and that decides where the model is cut, and whether it is."""
    choice = learner.plan.transfer
    return (learner.trainable, choice.prefix_cache, learner.precision, _is_long(learner))


def _is_long(learner: Learner) -> bool:
    """Whether an epoch or more is trained before other blocks become trainable, as far as that is known."""
    return learner.steps_per_stage >= learner.steps_per_epoch


def _check_worth(learner: Learner) -> None:
    """Raise UncuttableError if caching saves no time; the error has no message if users do not expect a cache."""
    blocks, first = learner.backbone.blocks, lowest_trainable(learner)
    if first == 0 or learner.plan.transfer.prefix_cache == "off":
        raise UncuttableError
    if not any(block.kind == "block" for block in blocks[:first]):
        raise UncuttableError(f"the only frozen block, {blocks[0].name}, takes almost no time to compute")


def _worth_caching(learner: Learner) -> Iterator[tuple[str, Examples]]:
    """Yield the validation split, and the training split if each of its examples is used at least once."""
    yield "validation", learner.validation
    if _is_long(learner):
        yield "train", learner.train

"""Shortcut: makes steps cheaper and changes results by rounding only. The implementations are in `speed/`."""

import contextlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from workbench.events import Event
from workbench.tasks.examples import Batch, Examples

if TYPE_CHECKING:
    from workbench.training.learner import Learner


class Shortcut:
    """Base class of the shortcuts; its methods do nothing. The engine and the learner know only this interface."""

    def prepare(self, learner: "Learner", splits: Sequence[str]) -> Iterator[Event]:
        """Get ready for the next step ("train" in `splits`) or evaluation ("validation"), and yield progress events.

        It is called before every step and evaluation, so it must return at once if nothing has changed.
        """
        yield from ()

    def batch(self, learner: "Learner", examples: Examples, indices: Sequence[int]) -> Batch | None:
        """Return these examples as a batch on the learner's device, or None if this shortcut has nothing for them."""
        return None

    def running(self, learner: "Learner", batch: Batch) -> contextlib.AbstractContextManager[Batch]:
        """Return the context in which the model runs on this batch; it yields the inputs of the model."""
        return contextlib.nullcontext(batch)

    def invalidate(self) -> None:
        """Discard what was derived from the set of trainable blocks, because that has changed."""

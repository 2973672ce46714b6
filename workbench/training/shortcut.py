"""Shortcut: what makes a step cheaper and changes no number but for rounding. `speed/` has the real ones."""

import contextlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from workbench.events import Event
from workbench.tasks.examples import Batch, Examples

if TYPE_CHECKING:
    from workbench.training.learner import Learner


class Shortcut:
    """Base of the shortcuts; each method does nothing here. The engine and the learner know no more of them."""

    def prepare(self, learner: "Learner", splits: Sequence[str]) -> Iterator[Event]:
        """Get ready for the next step ("train") or evaluation ("validation"), and report how far that is.

        It is called before every one of them, so it must return at once where nothing has changed.
        """
        yield from ()

    def batch(self, learner: "Learner", examples: Examples, indices: Sequence[int]) -> Batch | None:
        """Return these examples as a batch on the learner's device, if this shortcut has something ready for them."""
        return None

    def running(self, learner: "Learner", batch: Batch) -> contextlib.AbstractContextManager[Batch]:
        """Return the context in which the model runs this batch; it yields the inputs that the model is given."""
        return contextlib.nullcontext(batch)

    def invalidate(self) -> None:
        """Forget what depends on which blocks are trainable: they have changed."""

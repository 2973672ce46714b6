"""The base class of shortcuts, which make steps cheaper and change numbers by no more than rounding (`speed/`)."""

import contextlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from workbench.events import Event
from workbench.tasks.examples import Batch, Examples

if TYPE_CHECKING:
    from workbench.training.learner import Learner


class Shortcut:
    """Base of the shortcuts. The engine and the learner call only these methods, which do nothing here."""

    def prepare(self, learner: "Learner", splits: Sequence[str]) -> Iterator[Event]:
        """Prepare for the next step or evaluation, and yield events that report progress.

        It is called before each of them, so it must return at once if nothing has changed.

        Args:
            learner: The learner.
            splits: The splits whose examples are needed: "train", "validation".
        """
        yield from ()

    def batch(self, learner: "Learner", examples: Examples, indices: Sequence[int]) -> Batch | None:
        """Return these examples as a batch on the learner's device; None if the shortcut does not provide it."""
        return None

    def running(self, learner: "Learner", batch: Batch) -> contextlib.AbstractContextManager[Batch]:
        """Return the context in which the model runs this batch; it yields the inputs of the model."""
        return contextlib.nullcontext(batch)

    def invalidate(self) -> None:
        """Discard everything that depends on which blocks are trainable; other blocks are trainable now."""

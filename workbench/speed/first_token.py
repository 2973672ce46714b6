"""Computes only the first position in the last block if the model reads no other position of its output.

A classifier that reads the [CLS] token needs the keys and values of every position of the last block, but the attention
output, the feed-forward layers and everything after them only at the first position. This saves three quarters of the
block and changes no number by more than rounding.

Dropout then draws random numbers for the first position only. They are other numbers than without this shortcut, from
the same distribution, and they do not depend on the prefix cache.

Left out: finding the modules (narrowing.py).
"""

import contextlib
from collections.abc import Iterator

from workbench.speed import narrowing
from workbench.speed.prefix_cache.rows import ACTIVATIONS
from workbench.tasks.examples import Batch
from workbench.training.learner import Learner
from workbench.training.shortcut import Shortcut


class FirstToken(Shortcut):
    """Computes only the first position in the last block if the model reads no other.

    Attributes:
        paths: Paths of the modules that get only the first position; () if there are none.

    Args:
        learner: A learner with its pretrained weights. So a run that is resumed from trained weights finds the same
            modules, and its dropout draws the same numbers.
    """

    def __init__(self, learner: Learner) -> None:
        self.paths = _find_in(learner)

    @contextlib.contextmanager
    def running(self, learner: Learner, batch: Batch) -> Iterator[Batch]:
        """Narrow the last block while the model runs, unless it does not run: a cached head needs no inputs."""
        is_needed = self.paths and batch.keys() - {"labels", ACTIVATIONS}
        with narrowing.narrowed(learner.model, self.paths) if is_needed else contextlib.nullcontext():
            yield batch


def _find_in(learner: Learner) -> tuple[str, ...]:
    """Return the modules that can be narrowed in the learner's model, tried on batches with and without padding."""
    if not learner.task.predicts_classes:
        return ()
    model, train = learner.model.eval(), learner.train
    lengths = train.lengths
    short = min(range(len(train)), key=lengths.__getitem__)
    longer = min(range(len(train)), key=lambda index: (lengths[index] == lengths[short], lengths[index]))
    batches = [
        learner.settings.to_device(train.padded(indices), learner.device) for indices in ([short, longer], [longer])
    ]
    try:
        runs = [lambda batch=batch: learner.task.score(model, batch)[0] for batch in batches]
        return narrowing.find(model, learner.backbone.blocks, runs)
    except Exception:  # a user's model may raise anything here, and can be trained without this shortcut
        return ()

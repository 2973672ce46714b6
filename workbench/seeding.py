"""Random numbers that depend on what they are for, not on what happened before.

The torch generators of a process are shared by every thread of it. What draws from them here (dropout, a new head,
adapters) does so with a seed of its own, one at a time, and leaves them as the notebook had them.

What can't be kept apart: a cell that draws from torch's own generator at the very moment of a training step, in another
thread, shares that step's stream. A generator of the cell's own (`torch.Generator`) never does.
"""

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch

_ONE_AT_A_TIME = threading.RLock()  # a backbone that loads beside a training step must not disturb its dropout


@contextmanager
def seeded(seed: int, device: torch.device | None = None) -> Iterator[None]:
    """Draw from a fresh generator of this seed within the block; afterwards the generators are as they were."""
    with _ONE_AT_A_TIME:
        generators = _generators(device)
        before = [generator.get_state() for generator in generators]
        try:
            for generator in generators:
                generator.manual_seed(seed)
            yield
        finally:
            for generator, state in zip(generators, before, strict=True):
                generator.set_state(state)


def _generators(device: torch.device | None) -> list[torch.Generator]:
    """Return the generators that something on this device draws from; `fork_rng` takes ten times as long to."""
    if device is None or device.type != "cuda":
        return [torch.default_generator]
    index = torch.cuda.current_device() if device.index is None else device.index
    return [torch.default_generator, torch.cuda.default_generators[index]]


def mixed(seed: int, index: int, *, stream: str) -> int:
    """Return a seed of its own for each (seed, stream, index).

    Hashed, because torch's CPU generator looks at the lowest 32 bits of a seed only.
    """
    return int.from_bytes(hashlib.blake2b(f"{seed} {stream} {index}".encode(), digest_size=4).digest())

"""Random numbers that depend on their purpose (a seed, a stream, an index), not on what was drawn before.

All threads of a process share torch's generators. Whatever draws from them here (dropout, a new head, adapters) uses
its own seed, holds a lock meanwhile, and restores the state of the generators afterwards.

Limit: if a cell draws from torch's default generator in another thread exactly during a training step, the two share
one stream. A `torch.Generator` of the cell's own avoids that.
"""

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch

_generator_lock = threading.RLock()  # a backbone that loads during a training step must not disturb its dropout


@contextmanager
def seeded(seed: int, device: torch.device | None = None) -> Iterator[None]:
    """Seed torch's generators within the block, and restore their state afterwards."""
    with _generator_lock:
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
    """Return the generators that code on this device draws from (`torch.random.fork_rng` takes ten times as long)."""
    if device is None or device.type != "cuda":
        return [torch.default_generator]
    index = torch.cuda.current_device() if device.index is None else device.index
    return [torch.default_generator, torch.cuda.default_generators[index]]


def mixed(seed: int, index: int, *, stream: str) -> int:
    """Return a different seed of 32 bits for each (seed, stream, index).

    It is a hash, because torch's CPU generator uses only the lowest 32 bits of a seed.
    """
    return int.from_bytes(hashlib.blake2b(f"{seed} {stream} {index}".encode(), digest_size=4).digest())

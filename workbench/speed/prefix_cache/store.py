"""Stores the activations of frozen blocks, under a key that is a hash of everything they depend on (key.py).

    <cache folder>/activations/<key>/values.bin      the activations of all rows, one row after the other
                                     counts.bin      number of positions of each row, int32
                                     about.json      dtype, width, hash, and a description; written last

A folder is written under a temporary name and then renamed, so other processes see it complete or not at all. All
runs, sweeps, forks and workers on this machine share it. Activations within the memory budget are also held in memory
by this process. Larger ones are memory-mapped, so that the system reads what a step needs. The least recently used
entries are removed first, in memory and on disk. Deleting the folder is safe: the activations are computed again.

Left out: writing (writer.py), and the location and the size limits of the folder (budget.py).
"""

import contextlib
import json
import os
import shutil
import threading
import weakref
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xxhash
from torch import Tensor

from workbench.speed.prefix_cache.budget import folder
from workbench.untrusted import read_text


@dataclass(frozen=True)
class StoredActivations:
    """Stored activations of some rows.

    Attributes:
        values: All activations.  # (positions of all rows, features)
        counts: Number of positions of each row.  # (rows,)
        starts: Index in `values` at which each row begins.  # (rows,)
        place: "memory" or "disk".
    """

    values: Tensor
    counts: Tensor
    starts: Tensor
    place: str

    @property
    def size_bytes(self) -> int:
        """Size of `values` in bytes, in memory or on disk."""
        return self.values.numel() * self.values.element_size()


class _Memory:
    """The activations that this process holds in memory, the least recently used first."""

    def __init__(self) -> None:
        self.held: OrderedDict[str, StoredActivations] = OrderedDict()
        self.mapped: weakref.WeakValueDictionary[str, StoredActivations] = weakref.WeakValueDictionary()  # in use
        self.lock = threading.RLock()

    def get(self, key: str) -> StoredActivations | None:
        with self.lock:
            if key in self.held:
                self.held.move_to_end(key)
            return self.held.get(key) or self.mapped.get(key)

    def hold(self, key: str, mapped: StoredActivations, limit: int, in_use: int) -> StoredActivations:
        if mapped.size_bytes + in_use > limit:
            self.mapped[key] = mapped  # so that the next call does not hash it again
            return mapped
        copy = replace(mapped, values=mapped.values.clone(), place="memory")
        with self.lock:
            self.held[key] = copy
            while sum(stored.size_bytes for stored in self.held.values()) > limit:
                self.held.popitem(last=False)
        return copy

    def remove(self, key: str) -> None:
        with self.lock:
            self.held.pop(key, None)
            self.mapped.pop(key, None)

    def clear(self) -> None:
        with self.lock:
            self.held.clear()
            self.mapped.clear()


_MEMORY = _Memory()


def clear() -> None:
    """Delete everything, in memory and on disk; running runs keep the activations that they use."""
    _MEMORY.clear()
    shutil.rmtree(folder(), ignore_errors=True)


def remove(key: str) -> None:
    """Delete the entry of a key."""
    _MEMORY.remove(key)
    shutil.rmtree(folder() / key, ignore_errors=True)


def find(key: str, *, limit: int, in_use: int = 0) -> StoredActivations | None:
    """Return the activations with this key; None if there are none.

    A folder whose content does not match its hash is deleted.

    Args:
        key: Key of the activations.
        limit: Memory budget in bytes; activations beyond it are mapped from disk.
        in_use: Bytes of the budget that the same run uses already.
    """
    if (held := _MEMORY.get(key)) is not None and (held.place == "disk" or held.size_bytes + in_use <= limit):
        return held
    home = folder() / key
    if not (home / "about.json").is_file():
        return None
    try:
        mapped = mapped_from(home)
    except (OSError, ValueError, TypeError, LookupError, AttributeError, RuntimeError):
        shutil.rmtree(home, ignore_errors=True)
        return None
    with contextlib.suppress(OSError):
        os.utime(home)  # marks the time of the last use
    return hold(key, mapped, limit=limit, in_use=in_use)


def hold(key: str, mapped: StoredActivations, *, limit: int, in_use: int = 0) -> StoredActivations:
    """Return a copy in memory of mapped activations if the memory budget allows it, or else the mapped ones."""
    return _MEMORY.hold(key, mapped, limit, in_use)


def mapped_from(home: Path) -> StoredActivations:
    """Return the activations in a folder, memory-mapped, after checking their size and hash.

    Raises:
        ValueError: The size or the hash is not the one that was written.
    """
    about = json.loads(read_text(home / "about.json"))
    counts = torch.from_numpy(np.fromfile(home / "counts.bin", dtype=np.int32)).long()
    dtype, features = getattr(torch, about["dtype"]), int(about["features"])
    total = int(counts.sum())
    file = home / "values.bin"
    if file.stat().st_size != total * features * dtype.itemsize:
        raise ValueError("the size of values.bin is not the one that was written")
    flat = torch.from_file(str(file), shared=False, size=total * features, dtype=dtype)
    if xxhash.xxh3_128(raw_bytes(flat)).hexdigest() != about["hash"]:
        raise ValueError("the hash of values.bin is not the one that was written")
    starts = counts.cumsum(0) - counts
    return StoredActivations(flat.view(total, features), counts, starts, "disk")


def raw_bytes(tensor: Tensor) -> memoryview:
    """Return the bytes of a tensor in memory; nothing is copied if it is contiguous."""
    array: np.ndarray[Any, Any] = tensor.contiguous().view(-1).view(torch.uint8).numpy()
    return array.data


def search(about: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield key and description of each entry on disk whose description includes `about`."""
    for file in sorted(folder().glob("[!.]*/about.json")):
        try:
            found = json.loads(read_text(file))["about"]
            if all(found.get(name) == value for name, value in about.items()):
                yield file.parent.name, found
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            continue

"""Stores the activations of frozen blocks, under a key that is a hash of everything they depend on (key.py).

    <cache folder>/activations/<key>/values.bin      the activations of all rows, one row after the other
                                     counts.bin      number of positions of each row, int32
                                     about.json      dtype, width, hash, and a description; written last

A folder is written under a temporary name and then renamed, so other processes see it complete or not at all. All
runs, sweeps, forks and workers on this machine share it. Activations within the memory budget are also held in memory
by this process. Larger ones are memory-mapped, so that the system reads what a step needs. The least recently used
entries are removed first, in memory and on disk. Deleting the folder is safe: the activations are computed again.

Left out: the location and the size limits of the folder (budget.py).
"""

import contextlib
import errno
import json
import os
import shutil
import tempfile
import threading
import weakref
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
import xxhash
from torch import Tensor

from workbench.speed.prefix_cache.budget import PARTIAL, fits, folder, tidy
from workbench.untrusted import read_text


@dataclass(frozen=True)
class Kept:
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
        self.held: OrderedDict[str, Kept] = OrderedDict()
        self.mapped: weakref.WeakValueDictionary[str, Kept] = weakref.WeakValueDictionary()  # in use by runs
        self.lock = threading.RLock()

    def get(self, key: str) -> Kept | None:
        with self.lock:
            if key in self.held:
                self.held.move_to_end(key)
            return self.held.get(key) or self.mapped.get(key)

    def put(self, key: str, kept: Kept, limit: int, beside: int) -> bool:
        """Hold it in memory if it fits, and remove others to make room; return whether it fits."""
        with self.lock:
            if kept.size_bytes + beside > limit:
                return False
            self.held[key] = kept
            while sum(other.size_bytes for other in self.held.values()) > limit:
                self.held.popitem(last=False)
            return True

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
    with _MEMORY.lock:
        _MEMORY.held.pop(key, None)
        _MEMORY.mapped.pop(key, None)
    shutil.rmtree(folder() / key, ignore_errors=True)


def find(key: str, *, limit: int, beside: int = 0) -> Kept | None:
    """Return the activations with this key; None if there are none.

    A folder whose content does not match its hash is deleted.

    Args:
        key: Key of the activations.
        limit: Memory budget in bytes; activations beyond it are mapped from disk.
        beside: Bytes of the budget that the same run uses already.
    """
    if (held := _MEMORY.get(key)) is not None and (held.place == "disk" or held.size_bytes + beside <= limit):
        return held
    home = folder() / key
    if not (home / "about.json").is_file():
        return None
    try:
        mapped = _map(home)
    except (OSError, ValueError, TypeError, LookupError, AttributeError, RuntimeError):
        shutil.rmtree(home, ignore_errors=True)
        return None
    with contextlib.suppress(OSError):
        os.utime(home)  # marks the time of the last use
    return _hold(key, mapped, limit, beside)


def _hold(key: str, mapped: Kept, limit: int, beside: int) -> Kept:
    if mapped.size_bytes + beside <= limit:
        kept = replace(mapped, values=mapped.values.clone(), place="memory")
        if _MEMORY.put(key, kept, limit, beside):
            return kept
    _MEMORY.mapped[key] = mapped  # so that the next call does not hash it again
    return mapped


def _map(home: Path) -> Kept:
    about = json.loads(read_text(home / "about.json"))
    counts = torch.from_numpy(np.fromfile(home / "counts.bin", dtype=np.int32)).long()
    dtype, features = getattr(torch, about["dtype"]), int(about["features"])
    total = int(counts.sum())
    file = home / "values.bin"
    if file.stat().st_size != total * features * dtype.itemsize:
        raise ValueError("the size of values.bin is not the one that was written")
    flat = torch.from_file(str(file), shared=False, size=total * features, dtype=dtype)
    if _hash(flat) != about["hash"]:
        raise ValueError("the hash of values.bin is not the one that was written")
    starts = counts.cumsum(0) - counts
    return Kept(flat.view(total, features), counts, starts, "disk")


def _hash(flat: Tensor) -> str:
    return xxhash.xxh3_128(_bytes(flat)).hexdigest()


def _bytes(tensor: Tensor) -> memoryview:
    array: np.ndarray[Any, Any] = tensor.contiguous().view(-1).view(torch.uint8).numpy()
    return array.data


def others(about: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield key and description of each entry on disk whose description includes `about`."""
    for home in sorted(folder().glob("[!.]*/about.json")):
        try:
            found = json.loads(read_text(home))["about"]
            if all(found.get(name) == value for name, value in about.items()):
                yield home.parent.name, found
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            continue


class NoRoomError(OSError):
    """Activations can't be stored: the disk is full or can't be written, or they exceed the memory budget."""


@contextlib.contextmanager
def _disk_errors() -> Iterator[None]:
    """Raise NoRoomError for an OSError of the store, to distinguish it from one of other code that reads files."""
    try:
        yield
    except OSError as error:
        raise NoRoomError(error.errno, error.strerror) from error


class Writer:
    """Writes activations row by row and stores them under a key.

    It is a context manager, which removes the temporary folder if `finish` was not reached.

    Args:
        key: Key of the activations.
        about: Description of the activations, as plain JSON.
        limit: Memory budget in bytes.
        beside: Bytes of the budget that the same run uses already.

    Raises:
        NoRoomError: From any method, if the disk is full or can't be written.
    """

    def __init__(self, key: str, about: Mapping[str, Any], *, limit: int, beside: int = 0) -> None:
        self._key, self._about, self._limit, self._beside = key, about, limit, beside
        self._home = folder() / key
        self._partial = folder()
        self._hash = xxhash.xxh3_128()
        self._file: IO[bytes] | None = None
        self._form: tuple[str, int] | None = None  # dtype and features

    @_disk_errors()
    def __enter__(self) -> "Writer":
        tidy()
        folder().mkdir(parents=True, exist_ok=True, mode=0o700)
        self._partial = Path(tempfile.mkdtemp(prefix=f"{PARTIAL}{self._key}-", dir=folder()))
        self._file = (self._partial / "values.bin").open("wb", buffering=0)
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()
            shutil.rmtree(self._partial, ignore_errors=True)

    @_disk_errors()
    def add(self, values: Tensor) -> None:
        """Write the activations (positions, features) of further rows."""
        assert self._file is not None
        view = _bytes(values.cpu())
        if not fits(len(view)):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self._form = (str(values.dtype).removeprefix("torch."), values.shape[1])
        self._hash.update(view)
        while len(view):
            view = view[self._file.write(view) :]

    @_disk_errors()
    def finish(self, counts: Sequence[int]) -> Kept:
        """Move the folder to its final name and return the activations.

        Args:
            counts: Number of positions of each row, in the order in which they were added.
        """
        assert self._file is not None
        assert self._form is not None
        self._file.close()
        dtype, features = self._form
        header = {"dtype": dtype, "features": features, "hash": self._hash.hexdigest()}
        text = json.dumps({**header, "about": self._about})
        np.asarray(counts, dtype=np.int32).tofile(self._partial / "counts.bin")
        (self._partial / "about.json").write_text(text, encoding="utf-8")
        kept = _map(self._partial)
        with contextlib.suppress(OSError):  # another process has already stored the same activations
            self._partial.rename(self._home)
        return _hold(self._key, kept, self._limit, self._beside)


class Loose:
    """Replaces a Writer if the disk can't be written: it holds the activations in memory, for one run only.

    Args:
        limit: Memory budget in bytes.
    """

    def __init__(self, *, limit: int) -> None:
        self._limit, self._rows = limit, list[Tensor]()

    def __enter__(self) -> "Loose":
        return self

    def __exit__(self, *_: object) -> None:
        self._rows = []

    def add(self, values: Tensor) -> None:
        """Add the activations (positions, features) of further rows.

        Raises:
            NoRoomError: They exceed the memory budget.
        """
        self._rows.append(values.cpu())
        if sum(rows.numel() * rows.element_size() for rows in self._rows) > self._limit:
            raise NoRoomError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def finish(self, counts: Sequence[int]) -> Kept:
        """Return the activations; `counts` has the number of positions of each row."""
        positions = torch.tensor(counts)
        return Kept(torch.cat(self._rows), positions, positions.cumsum(0) - positions, "memory")

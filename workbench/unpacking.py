"""Safe unpacking of zip and tar archives: nothing is ever written outside the target folder.

An archive that holds an absolute path, a '..', a link, a device or a name twice, or that grows beyond the size it was
announced with, is refused as a whole; ownership, permissions and times in it are ignored. Left out: every archive
format but zip (and so wheels) and tar in its usual compressions.
"""

import gzip
import lzma
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO, cast

from workbench.errors import PackError

_CHUNK_BYTES = 1 << 20
_BROKEN = (zipfile.BadZipFile, tarfile.TarError, gzip.BadGzipFile, zlib.error, lzma.LZMAError, EOFError)
_DAMAGED = (*_BROKEN, FileExistsError, NotImplementedError, RuntimeError)  # a name twice, unknown methods, passwords


@dataclass(frozen=True)
class _Member:
    name: str  # as the archive says it
    is_plain: bool  # an ordinary file; not a link, not a device
    open: Callable[[], IO[bytes]]


def unpack(archive: Path, folder: Path, *, keep: Mapping[str, str], limit_bytes: int) -> None:
    """Unpack what `keep` names into `folder`, which is created where it is missing.

    Args:
        archive: A zip file, a wheel, or a tar file in any compression that Python reads.
        folder: The target; nothing is written outside it.
        keep: Path inside the archive -> path inside `folder`. A path that ends with "/" means everything below it.
        limit_bytes: The most that may be written in all, whatever sizes the archive announces.

    Raises:
        PackError: Not an archive, a damaged one, one with a member that may not be unpacked, one that holds nothing
            of an entry of `keep`, or one larger than `limit_bytes`.
    """
    try:
        with _opened(archive) as opened:
            _unpack(list(_members(opened)), folder, keep, limit_bytes)
    except _DAMAGED as error:
        raise PackError(f"{archive.name} can't be unpacked: {error}") from None


def _opened(archive: Path) -> zipfile.ZipFile | tarfile.TarFile:
    return zipfile.ZipFile(archive) if zipfile.is_zipfile(archive) else tarfile.open(archive)


def _members(opened: zipfile.ZipFile | tarfile.TarFile) -> Iterator[_Member]:
    """Yield every member but the folders, each checked: a refusal comes before the first byte is written."""
    if isinstance(opened, zipfile.ZipFile):
        for info in opened.infolist():
            mode = stat.S_IFMT(info.external_attr >> 16)  # Unix mode; 0 where the archive was made elsewhere
            if not info.is_dir():
                yield _checked(_Member(info.filename, mode in (0, stat.S_IFREG), partial(opened.open, info)))
    else:
        for entry in opened.getmembers():
            if not entry.isdir():
                yield _checked(_Member(entry.name, entry.isreg(), partial(_extracted, opened, entry)))


def _extracted(opened: tarfile.TarFile, entry: tarfile.TarInfo) -> IO[bytes]:
    return cast(IO[bytes], opened.extractfile(entry))  # None for folders only


def _checked(member: _Member) -> _Member:
    path = PurePosixPath(member.name)
    if path.is_absolute() or ".." in path.parts or not path.parts or any(sign in member.name for sign in "\\:\0"):
        raise PackError(f"the archive holds {member.name!r}, which would be unpacked outside its folder")
    if not member.is_plain:
        raise PackError(f"the archive holds {member.name!r}, which is a link or a device, not a file")
    return member


def _unpack(members: list[_Member], folder: Path, keep: Mapping[str, str], limit_bytes: int) -> None:
    found, left_bytes = set(), limit_bytes
    for member in members:
        entry = next((e for e in keep if member.name == e or (e.endswith("/") and member.name.startswith(e))), None)
        if entry is None:
            continue
        found.add(entry)
        target = folder / (keep[entry] + member.name.removeprefix(entry))
        target.parent.mkdir(parents=True, exist_ok=True)
        with member.open() as source:
            left_bytes -= _copied(source, target, left_bytes)
    if missing := [entry for entry in keep if entry not in found]:
        raise PackError(f"the archive holds no {missing[0]!r}")


def _copied(source: IO[bytes], target: Path, limit_bytes: int) -> int:
    """Copy a member into a file that must be new, and return its size; sizes in headers are not trusted."""
    with target.open("xb") as file:
        while chunk := source.read(min(_CHUNK_BYTES, limit_bytes + 1)):
            if file.tell() + len(chunk) > limit_bytes:
                raise PackError("the archive grows beyond the size it should have; it was not unpacked any further")
            file.write(chunk)
        return file.tell()

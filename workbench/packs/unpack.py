"""Safe unpacking of zip and tar archives: nothing is ever written outside the target folder.

An archive that holds an absolute path, a '..', a link, a device or a name twice, or that grows beyond the size it was
announced with, is refused as a whole; ownership, permissions and times in it are ignored. Names are read as paths, so
that `a//etc/passwd` is no way out either, and each target is looked at once more where it really lies. Left out: every
archive format but zip (and so wheels) and tar in its usual compressions.
"""

import gzip
import lzma
import stat
import struct
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
_LONGEST_NAME = 255  # bytes of one part of a path
_BROKEN = (zipfile.BadZipFile, tarfile.TarError, gzip.BadGzipFile, zlib.error, lzma.LZMAError, struct.error, EOFError)
_CLASHES = (FileExistsError, NotADirectoryError, IsADirectoryError)  # a name twice, or as a file and as a folder
_ODD = (NotImplementedError, RuntimeError, ValueError, OverflowError, LookupError)  # methods, passwords, numbers
_DAMAGED = (*_BROKEN, *_CLASHES, *_ODD)


@dataclass(frozen=True)
class _Member:
    name: str  # as a plain path: no "//", no "./"
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
        reason = str(error) or type(error).__name__
        raise PackError(f"{archive.name} can't be unpacked: {reason}", hint="fetch it again") from None


def _opened(archive: Path) -> zipfile.ZipFile | tarfile.TarFile:
    return zipfile.ZipFile(archive) if zipfile.is_zipfile(archive) else tarfile.open(archive)


def _members(opened: zipfile.ZipFile | tarfile.TarFile) -> Iterator[_Member]:
    """Yield every member but the folders, each checked: a refusal comes before the first byte is written."""
    if isinstance(opened, zipfile.ZipFile):
        for info in opened.infolist():
            mode = stat.S_IFMT(info.external_attr >> 16)  # Unix mode; 0 where the archive was made elsewhere
            if not info.is_dir():
                yield _checked(info.filename, mode in (0, stat.S_IFREG), partial(opened.open, info))
    else:
        for entry in opened.getmembers():
            if not entry.isdir():
                yield _checked(entry.name, entry.isreg(), partial(_extracted, opened, entry))


def _extracted(opened: tarfile.TarFile, entry: tarfile.TarInfo) -> IO[bytes]:
    return cast(IO[bytes], opened.extractfile(entry))  # None for folders only


def _checked(name: str, is_plain: bool, open_it: Callable[[], IO[bytes]]) -> _Member:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or not path.parts or any(sign in name for sign in "\\:\0"):
        raise PackError(f"the archive holds {name!r}, which would be unpacked outside its folder")
    if any(len(part.encode(errors="replace")) > _LONGEST_NAME for part in path.parts):
        raise PackError(f"the archive holds a name that no disk takes, {name[:40]!r} …", hint="fetch it again")
    if not is_plain:
        raise PackError(f"the archive holds {name!r}, which is a link or a device, not a file")
    return _Member(path.as_posix(), open_it)


def _unpack(members: list[_Member], folder: Path, keep: Mapping[str, str], limit_bytes: int) -> None:
    found, left_bytes = set(), limit_bytes
    for member in members:
        entry = next((e for e in keep if member.name == e or (e.endswith("/") and member.name.startswith(e))), None)
        if entry is None:
            continue
        found.add(entry)
        target = _inside(folder, keep[entry] + member.name.removeprefix(entry))
        target.parent.mkdir(parents=True, exist_ok=True)
        with member.open() as source:
            left_bytes -= _copied(source, target, left_bytes)
    if missing := [entry for entry in keep if entry not in found]:
        raise PackError(f"the archive holds no {missing[0]!r}")


def _inside(folder: Path, name: str) -> Path:
    """Return where `name` goes, which no link on the way may lead out of the folder."""
    target = folder / name
    if not target.parent.resolve().is_relative_to(folder.resolve()):
        raise PackError(f"the archive holds {name!r}, which would be unpacked outside its folder")
    return target


def _copied(source: IO[bytes], target: Path, limit_bytes: int) -> int:
    """Copy a member into a file that must be new, and return its size; sizes in headers are not trusted."""
    with target.open("xb") as file:
        while chunk := source.read(min(_CHUNK_BYTES, limit_bytes + 1)):
            if file.tell() + len(chunk) > limit_bytes:
                raise PackError("the archive grows beyond the size it should have; it was not unpacked any further")
            file.write(chunk)
        return file.tell()

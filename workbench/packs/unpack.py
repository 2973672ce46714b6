"""Unpacks zip and tar archives safely: nothing is ever written outside the target folder.

An archive is refused if it contains an absolute path, a '..', a link, a device or the same name twice, or if it unpacks
to more bytes than its limit. Ownership, permissions and times in it are ignored. Names are normalised as paths first
(`a//etc/passwd`), and each target is checked again after links are resolved. Supported are zip, and so wheels, and tar
in the compressions that Python reads.
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
_LONGEST_NAME = 255  # bytes in one part of a path
_BROKEN = (zipfile.BadZipFile, tarfile.TarError, gzip.BadGzipFile, zlib.error, lzma.LZMAError, struct.error, EOFError)
_CLASHES = (FileExistsError, NotADirectoryError, IsADirectoryError)  # a name occurs twice, or as a file and as a folder
_UNSUPPORTED = (  # unknown compression methods, passwords, impossible numbers
    NotImplementedError,
    RuntimeError,
    ValueError,
    OverflowError,
    LookupError,
)
_UNPACK_ERRORS = (*_BROKEN, *_CLASHES, *_UNSUPPORTED)


@dataclass(frozen=True)
class _Member:
    name: str  # a normalised path, without "//" and "./"
    open: Callable[[], IO[bytes]]


def unpack(archive: Path, folder: Path, *, keep: Mapping[str, str], limit_bytes: int) -> None:
    """Unpack the entries of `keep` into `folder`, which is created if it is missing.

    Args:
        archive: A zip file, a wheel, or a tar file in any compression that Python reads.
        folder: The target; nothing is written outside it.
        keep: Path inside the archive -> path inside `folder`. A path that ends with "/" means everything below it.
        limit_bytes: The largest number of bytes to write, whatever sizes the archive states.

    Raises:
        PackError: The file is not an archive or is damaged, it has a member that must not be unpacked, it lacks an
            entry of `keep`, or it unpacks to more than `limit_bytes`.
    """
    try:
        with zipfile.ZipFile(archive) if zipfile.is_zipfile(archive) else tarfile.open(archive) as opened:
            _unpack(list(_members(opened)), folder, keep, limit_bytes)
    except _UNPACK_ERRORS as error:
        reason = str(error) or type(error).__name__
        raise PackError(f"{archive.name} can't be unpacked: {reason}", hint="fetch it again") from None


def _members(opened: zipfile.ZipFile | tarfile.TarFile) -> Iterator[_Member]:
    """Yield every member except folders, after checking it; `unpack` checks all before it writes the first byte."""
    if isinstance(opened, zipfile.ZipFile):
        for info in opened.infolist():
            mode = stat.S_IFMT(info.external_attr >> 16)  # Unix mode; 0 if the archive was made on another system
            if not info.is_dir():
                yield _check(info.filename, mode in (0, stat.S_IFREG), partial(opened.open, info))
    else:
        for entry in opened.getmembers():
            if not entry.isdir():
                yield _check(entry.name, entry.isreg(), partial(_extract, opened, entry))


def _extract(opened: tarfile.TarFile, entry: tarfile.TarInfo) -> IO[bytes]:
    return cast(IO[bytes], opened.extractfile(entry))  # it is None only for folders


def _check(name: str, is_plain: bool, open_it: Callable[[], IO[bytes]]) -> _Member:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or not path.parts or any(sign in name for sign in "\\:\0"):
        raise PackError(f"the archive contains {name!r}, which would be unpacked outside its folder")
    if any(len(part.encode(errors="replace")) > _LONGEST_NAME for part in path.parts):
        raise PackError(f"the archive contains a name that is too long: {name[:40]!r} …", hint="fetch it again")
    if not is_plain:
        raise PackError(f"the archive contains {name!r}, which is a link or a device, not a file")
    return _Member(path.as_posix(), open_it)


def _unpack(members: list[_Member], folder: Path, keep: Mapping[str, str], limit_bytes: int) -> None:
    found, left_bytes = set(), limit_bytes
    for member in members:
        entry = next((e for e in keep if member.name == e or (e.endswith("/") and member.name.startswith(e))), None)
        if entry is None:
            continue
        found.add(entry)
        target = _target_in(folder, keep[entry] + member.name.removeprefix(entry))
        target.parent.mkdir(parents=True, exist_ok=True)
        with member.open() as source:
            left_bytes -= _copy(source, target, left_bytes)
    if missing := [entry for entry in keep if entry not in found]:
        raise PackError(f"the archive does not contain {missing[0]!r}")


def _target_in(folder: Path, name: str) -> Path:
    """Return the target path of `name`. Raises PackError if links would lead it out of the folder."""
    target = folder / name
    if not target.parent.resolve().is_relative_to(folder.resolve()):
        raise PackError(f"the archive contains {name!r}, which would be unpacked outside its folder")
    return target


def _copy(source: IO[bytes], target: Path, limit_bytes: int) -> int:
    """Copy a member into a new file and return its size in bytes; the sizes in headers are not trusted."""
    with target.open("xb") as file:
        while chunk := source.read(min(_CHUNK_BYTES, limit_bytes + 1)):
            if file.tell() + len(chunk) > limit_bytes:
                raise PackError("the archive is larger than expected; unpacking was stopped")
            file.write(chunk)
        return file.tell()

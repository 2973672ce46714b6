"""Reads small files that anybody may have written: ordinary files of a bounded size, never a pipe that waits for ever.

Left out: logs and tables, which may be as long as they like.
"""

from pathlib import Path

_LARGEST = 4 << 20  # bytes; a plan has 2,000


def check_ordinary(path: Path) -> None:
    """Check that `path` is an ordinary file, or a link to one.

    Raises:
        OSError: It is not there, or a folder, a pipe or a device.
    """
    if not path.is_file():
        path.stat()  # says so if there is nothing
        raise OSError(0, "it is not an ordinary file", str(path))


def read_text(path: Path) -> str:
    """Return the text of a small file.

    Raises:
        OSError: It is not there, can't be read, is no ordinary file, or is larger than any file of its kind.
        ValueError: It is not UTF-8.
    """
    check_ordinary(path)
    if path.stat().st_size > _LARGEST:
        raise OSError(0, f"it is larger than {_LARGEST >> 20} MB", str(path))
    return path.read_text(encoding="utf-8")

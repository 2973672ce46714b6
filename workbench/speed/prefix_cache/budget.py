"""Limits how much memory and disk space cached activations may use, and deletes old ones on disk."""

import contextlib
import os
import shutil
import time
from pathlib import Path

from workbench.packs import cache_folder

PARTIAL = ".partial-"
DISK_SHARE = 0.25  # share of the free disk space that all folders together may use
MEMORY_SHARE = 0.25  # share of the free memory that is used if the plan sets no limit
SPARE = 10**9  # bytes that always stay free on the disk
_DAY = 86_400  # age in seconds at which an unfinished folder is deleted


def folder() -> Path:
    """Return the folder of all cached activations; the variable FINETUNE_WORKBENCH_ACTIVATIONS overrides it."""
    chosen = os.environ.get("FINETUNE_WORKBENCH_ACTIVATIONS")
    return Path(chosen) if chosen else cache_folder() / "activations"


def budget(asked_mb: int | None) -> int:
    """Return the memory budget in bytes: the given limit, or a quarter of the free memory if it is None."""
    if asked_mb is not None:
        return asked_mb * 10**6
    return int(MEMORY_SHARE * _free_memory())


def _free_memory() -> int:
    found = [room for look in (_free_here, _free_in_container) if (room := look()) is not None]
    return min(found, default=4 * 10**9)


def _free_here() -> int | None:
    with contextlib.suppress(OSError, ValueError, StopIteration):
        lines = Path("/proc/meminfo").read_text().splitlines()
        return 1024 * int(next(line for line in lines if line.startswith("MemAvailable:")).split()[1])
    with contextlib.suppress(AttributeError, OSError, ValueError):  # not Linux: assume that half of the memory is free
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    return None


def _free_in_container(root: Path = Path("/sys/fs/cgroup")) -> int | None:
    """Return the free memory of this process's control group in bytes; None if it has no limit."""
    with contextlib.suppress(OSError, ValueError):
        return max(0, int((root / "memory.max").read_text()) - int((root / "memory.current").read_text()))
    return None


def fits(size: int) -> bool:
    """Whether so many more bytes may be written; SPARE bytes stay free for logs and checkpoints."""
    return shutil.disk_usage(folder()).free - size >= SPARE


def tidy() -> None:
    """Delete unfinished folders, and the least recently used folders if all together are too large."""
    root = folder()
    with contextlib.suppress(FileNotFoundError):  # the folder does not exist yet, or another process deletes files too
        for partial in root.glob(f"{PARTIAL}*"):
            if time.time() - max(path.stat().st_mtime for path in (partial, *partial.iterdir())) > _DAY:
                shutil.rmtree(partial, ignore_errors=True)
        sizes = {home: _size(home) for home in root.iterdir() if not home.name.startswith(".")}
        limit = DISK_SHARE * (shutil.disk_usage(root).free + sum(sizes.values()))
        for home in sorted(sizes, key=lambda home: home.stat().st_mtime):
            if sum(sizes.values()) > limit:
                shutil.rmtree(home, ignore_errors=True)
                del sizes[home]


def _size(home: Path) -> int:
    return sum(file.stat().st_size for file in home.glob("*"))

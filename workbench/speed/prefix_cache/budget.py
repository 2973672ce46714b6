"""Limits how much memory and disk space cached activations may use, and deletes old ones on disk."""

import contextlib
import os
import shutil
import time
from pathlib import Path

import psutil

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
    free, in_container = psutil.virtual_memory().available, _free_in_container()
    return int(MEMORY_SHARE * (free if in_container is None else min(free, in_container)))


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

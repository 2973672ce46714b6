"""How much room there is for what frozen blocks gave, in memory and on disk, and what gives way where it runs out."""

import contextlib
import os
import shutil
import time
from pathlib import Path

from workbench.packs import cache_folder

PARTIAL = ".partial-"
DISK_SHARE = 0.25  # of what the disk has free, that all folders together may take
MEMORY_SHARE = 0.25  # of the memory that is free, where the plan says nothing
SPARE = 10**9  # bytes that are always left free on the disk
_DAY = 86_400  # seconds after which a folder that nobody finished is taken away


def folder() -> Path:
    """Return where the folders are; FINETUNE_WORKBENCH_ACTIVATIONS changes that."""
    chosen = os.environ.get("FINETUNE_WORKBENCH_ACTIVATIONS")
    return Path(chosen) if chosen else cache_folder() / "activations"


def budget(asked_mb: int | None) -> int:
    """Return how many bytes may be held in memory: as asked, or a quarter of what is free."""
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
    with contextlib.suppress(AttributeError, OSError, ValueError):  # not Linux: half of what there is
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    return None


def _free_in_container(root: Path = Path("/sys/fs/cgroup")) -> int | None:
    """Return what the control group of this process may still take; None where there is no limit."""
    with contextlib.suppress(OSError, ValueError):
        return max(0, int((root / "memory.max").read_text()) - int((root / "memory.current").read_text()))
    return None


def fits(size: int) -> bool:
    """Whether so many bytes more may be written; some are left for logs and checkpoints."""
    return shutil.disk_usage(folder()).free - size >= SPARE


def tidy() -> None:
    """Take away what nobody finished, and what was used least recently where all together take too much."""
    root = folder()
    with contextlib.suppress(FileNotFoundError):  # there is nothing yet, or another process tidies up as well
        for left in root.glob(f"{PARTIAL}*"):
            if time.time() - max(path.stat().st_mtime for path in (left, *left.iterdir())) > _DAY:
                shutil.rmtree(left, ignore_errors=True)
        sizes = {home: _size(home) for home in root.iterdir() if not home.name.startswith(".")}
        limit = DISK_SHARE * (shutil.disk_usage(root).free + sum(sizes.values()))
        for home in sorted(sizes, key=lambda home: home.stat().st_mtime):
            if sum(sizes.values()) > limit:
                shutil.rmtree(home, ignore_errors=True)
                del sizes[home]


def _size(home: Path) -> int:
    return sum(file.stat().st_size for file in home.glob("*"))

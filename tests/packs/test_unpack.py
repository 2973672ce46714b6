"""Nothing leaves the target folder, whatever an archive says; what is refused is refused before anything is written."""

import io
import stat
import tarfile
import zipfile

import pytest

from workbench.errors import PackError
from workbench.packs.unpack import unpack

LIMIT_BYTES = 10_000


def zipped(path, *entries):
    """Write a zip of (name, content) pairs, or of ZipInfo objects with their content."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries:
            archive.writestr(name, content)
    return path


def tarred(path, *entries):
    """Write a tar of (name or TarInfo, content) pairs."""
    with tarfile.open(path, "w:gz") as archive:
        for name, content in entries:
            info = tarfile.TarInfo(name) if isinstance(name, str) else name
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def tar_special(name, kind, target=""):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def zip_link(name):
    info = zipfile.ZipInfo(name)
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    return info


@pytest.fixture
def place(tmp_path):
    """A folder to unpack into, deep enough that '../..' would still be under tmp_path."""
    (tmp_path / "in").mkdir()
    return tmp_path / "in" / "a" / "b"


def files(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir())


@pytest.mark.parametrize("write", [zipped, tarred])
def test_only_what_is_wanted_is_unpacked_and_to_its_new_place(write, tmp_path, place):
    archive = write(tmp_path / "x", ("top/data/one.txt", b"1"), ("top/data/sub/two.txt", b"2"), ("top/code.py", b"3"),
                    ("top/LICENSE", b"4"))  # fmt: skip
    unpack(archive, place, keep={"top/data/": "texts/", "top/LICENSE": "licence.txt"}, limit_bytes=LIMIT_BYTES)
    assert files(place) == ["licence.txt", "texts/one.txt", "texts/sub/two.txt"]
    assert (place / "texts/sub/two.txt").read_bytes() == b"2"


ESCAPES = ["../out.txt", "top/../../out.txt", "/tmp/out-of-workbench.txt", "top/..", "..\\out.txt", "C:/out.txt"]


@pytest.mark.parametrize("name", ESCAPES)
@pytest.mark.parametrize("write", [zipped, tarred])
@pytest.mark.parametrize("keep", [{"top/": ""}, {"": ""}], ids=["unwanted too", "wanted"])
def test_a_path_that_leaves_the_folder_is_refused_before_anything_is_written(name, write, keep, tmp_path, place):
    archive = write(tmp_path / "x", ("top/first.txt", b"1"), (name, b"evil"))
    with pytest.raises(PackError, match="outside its folder"):
        unpack(archive, place, keep=keep, limit_bytes=LIMIT_BYTES)
    assert files(tmp_path) == ["x"]


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE])
def test_links_and_devices_in_a_tar_are_refused(kind, tmp_path, place):
    archive = tarred(tmp_path / "x", (tar_special("top/link", kind, "/etc/passwd"), b""), ("top/link/file", b"evil"))
    with pytest.raises(PackError, match="a link or a device"):
        unpack(archive, place, keep={"top/": ""}, limit_bytes=LIMIT_BYTES)
    assert files(tmp_path) == ["x"]


def test_links_in_a_zip_are_refused(tmp_path, place):
    archive = zipped(tmp_path / "x", (zip_link("top/link"), "/etc"), ("top/link/file", b"evil"))
    with pytest.raises(PackError, match="a link or a device"):
        unpack(archive, place, keep={"top/": ""}, limit_bytes=LIMIT_BYTES)
    assert files(tmp_path) == ["x"]


def test_a_link_that_lies_in_the_target_is_not_followed(tmp_path, place):
    outside = tmp_path / "outside.txt"
    outside.write_text("untouched")
    place.mkdir(parents=True)
    (place / "file.txt").symlink_to(outside)
    with pytest.raises(PackError, match="can't be unpacked"):
        unpack(zipped(tmp_path / "x", ("file.txt", b"evil")), place, keep={"file.txt": "file.txt"}, limit_bytes=99)
    assert outside.read_text() == "untouched"


@pytest.mark.parametrize("write", [zipped, tarred])
def test_an_archive_that_grows_beyond_its_bound_is_stopped(write, tmp_path, place):
    archive = write(tmp_path / "x", ("top/small", b"1"), ("top/bomb", bytes(50_000_000)))
    assert archive.stat().st_size < 60_000
    with pytest.raises(PackError, match="larger than expected"):
        unpack(archive, place, keep={"top/": ""}, limit_bytes=LIMIT_BYTES)
    assert sum(path.stat().st_size for path in place.rglob("*") if path.is_file()) <= LIMIT_BYTES


def test_the_bound_is_on_all_files_together(tmp_path, place):
    archive = zipped(tmp_path / "x", *[(f"top/{number}", bytes(3000)) for number in range(4)])
    unpack(archive, place, keep={"top/": ""}, limit_bytes=12_000)
    with pytest.raises(PackError, match="larger than expected"):
        unpack(archive, place.with_name("again"), keep={"top/": ""}, limit_bytes=11_999)


def test_permissions_in_an_archive_are_ignored(tmp_path, place):
    info = tarfile.TarInfo("top/run")
    info.mode = 0o6777
    unpack(tarred(tmp_path / "x", (info, b"#!")), place, keep={"top/": ""}, limit_bytes=99)
    assert not (place / "run").stat().st_mode & 0o6111


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_name_that_comes_twice_is_refused(tmp_path, place):
    with pytest.raises(PackError, match="can't be unpacked"):
        unpack(zipped(tmp_path / "x", ("a", b"1"), ("a", b"2")), place, keep={"a": "a"}, limit_bytes=99)


def test_what_is_missing_is_named(tmp_path, place):
    with pytest.raises(PackError, match="does not contain 'top/LICENSE'"):
        unpack(zipped(tmp_path / "x", ("top/a", b"1")), place, keep={"top/a": "a", "top/LICENSE": ""}, limit_bytes=99)


@pytest.mark.parametrize("write", [zipped, tarred])
@pytest.mark.parametrize("damage", ["cut off", "one byte"])
def test_a_damaged_archive_is_said_to_be_one(write, damage, tmp_path, place):
    archive = write(tmp_path / "x", ("a", bytes(range(256)) * 20))
    content = bytearray(archive.read_bytes())
    content[60] ^= 0xFF
    archive.write_bytes(content if damage == "one byte" else content[: len(content) // 2])
    with pytest.raises(PackError, match=r"x can't be unpacked"):
        unpack(archive, place, keep={"a": "a"}, limit_bytes=LIMIT_BYTES)


def test_what_is_no_archive_is_said_to_be_none(tmp_path, place):
    (tmp_path / "x").write_text("<html>log in first</html>")
    with pytest.raises(PackError, match="can't be unpacked"):
        unpack(tmp_path / "x", place, keep={"a": "a"}, limit_bytes=99)

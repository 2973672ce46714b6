"""Any folder of images: it becomes a Split whose images can be decoded, or a DataError that names the file."""

import io
import os
import struct
import zlib

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fuzzing import contents, damaged, outcome, said
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from workbench import data
from workbench.data import Split
from workbench.plan import choices

pytestmark = pytest.mark.slow

FORMATS = {"png": "PNG", "jpg": "JPEG", "webp": "WEBP", "bmp": "BMP", "gif": "GIF", "tif": "TIFF"}
PIXELS = np.random.default_rng(0).integers(0, 255, (8, 8, 3), dtype=np.uint8)


def encoded(form, image=None, **options):
    sink = io.BytesIO()
    (image or Image.fromarray(PIXELS)).save(sink, format=form, **options)
    return sink.getvalue()


SOUND = {suffix: encoded(form) for suffix, form in FORMATS.items()}


def bomb(side=30_000):
    """Return a PNG of a few hundred bytes that says it is 30,000 pixels a side."""

    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    head = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(bytes(9_999))) + chunk(b"IEND", b"")
    )


@pytest.fixture
def folder(tmp_path):
    """Two classes of four images each."""
    for place in ("cat", "dog"):
        (tmp_path / "pets" / place).mkdir(parents=True)
        for number in range(4):
            image = Image.fromarray(np.roll(PIXELS, number + 4 * (place == "dog"), axis=0))
            (tmp_path / "pets" / place / f"{number}.png").write_bytes(encoded("PNG", image))
    return tmp_path / "pets"


def load(folder):
    return data.load(choices.Data(source=str(folder)))


def works_or_says_why(folder):
    """Load the folder; every image that is taken can be decoded, and nothing in the folder changes."""
    before = contents(folder.parent)
    found = outcome(lambda: load(folder))
    assert contents(folder.parent) == before
    if isinstance(found, Split):
        for row in found.train:
            with row["image"] as image:
                image.convert("RGB")
        "".join(found.notes).encode()
    return found


@given(st.data(), st.sampled_from(sorted(FORMATS)), st.sampled_from(sorted(FORMATS)))
def test_a_damaged_image_in_any_format_under_any_ending(folder, drawn, form, suffix):
    path = folder / "cat" / f"odd.{suffix}"
    path.write_bytes(drawn.draw(damaged(SOUND[form]) | st.binary(max_size=40)))
    works_or_says_why(folder)
    path.unlink()


MODES = {
    "png": ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"],
    "jpg": ["1", "L", "RGB", "CMYK", "YCbCr"],
    "gif": ["1", "L", "LA", "P", "RGB", "RGBA"],
    "tif": ["1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr", "LAB", "I", "F", "I;16"],
}


@pytest.mark.parametrize(("suffix", "mode"), [(suffix, mode) for suffix, modes in MODES.items() for mode in modes])
def test_any_mode_of_colour(folder, mode, suffix):
    (folder / "cat" / f"odd.{suffix}").write_bytes(encoded(FORMATS[suffix], Image.new(mode, (8, 8))))
    found = works_or_says_why(folder)
    assert isinstance(found, Split) == (mode not in ("I", "F", "I;16"))


def test_an_image_of_16_bits_is_refused_since_it_would_become_white(folder):
    deep = Image.fromarray(np.full((8, 8), 40_000, dtype=np.uint16))
    (folder / "cat" / "deep.png").write_bytes(encoded("PNG", deep))
    assert "cat/deep.png: the image can't be read: it has more than 8 bits" in said(lambda: load(folder))


def test_a_moving_image_is_its_first_frame(folder):
    frames = [Image.new("RGB", (8, 8), (40 * number, 0, 0)) for number in range(5)]
    (folder / "cat" / "odd.gif").write_bytes(encoded("GIF", frames[0], save_all=True, append_images=frames[1:]))
    assert works_or_says_why(folder).rows == 9


ODD = {
    "nothing in it": (b"", "not an image"),
    "a bomb": (bomb(), "exceeds limit"),
    "a web page": (b"<html>", "not an image"),
    "PostScript, which Pillow hands to a program": (
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\n(/tmp/x) (w) file\n%%EOF\n",
        "not an image of a known format",
    ),
    "half an image": (SOUND["png"][:-40], "can't be read"),
}


@pytest.mark.parametrize("what", ODD)
def test_a_file_that_is_no_image_is_named(folder, what):
    content, words = ODD[what]
    (folder / "cat" / "odd.png").write_bytes(content)
    told = said(lambda: load(folder))
    assert "cat/odd.png" in told
    assert words in told


def test_pipes_devices_and_links_that_lead_nowhere_are_left_out(folder):
    os.mkfifo(folder / "cat" / "pipe.png")
    (folder / "cat" / "endless.png").symlink_to("/dev/zero")
    (folder / "cat" / "nowhere.png").symlink_to(folder / "gone.png")
    (folder / "cat" / "loop.png").symlink_to(folder / "cat" / "loop.png")
    (folder / "cat" / "up").symlink_to(folder)
    (folder / "bird").symlink_to(folder / "cat")
    (folder / "fish").mkdir()
    split = works_or_says_why(folder)
    assert split.rows == 8
    assert set(split.labels) == {"cat", "dog"}
    assert "4 files left out: neither an image nor .txt" in split.notes
    assert any(note.startswith("nothing was found in bird, fish: ") for note in split.notes)


def test_a_link_to_a_file_elsewhere_is_followed_and_what_is_there_stays(folder, tmp_path):
    (tmp_path / "elsewhere.png").write_bytes(SOUND["png"])
    (folder / "cat" / "link.png").symlink_to(tmp_path / "elsewhere.png")
    assert works_or_says_why(folder).rows == 9


NAMES = ["a b", "ä€😀", "<img src=x>", "new\nline", "-rf", "a" * 200, "%s{0}"]


@pytest.mark.parametrize("name", NAMES)
def test_odd_names_of_classes_and_files(folder, name):
    (folder / "cat").rename(folder / name)
    (folder / name / f"{name}.png").write_bytes(SOUND["png"])
    split = works_or_says_why(folder)
    assert isinstance(split, Split)
    assert name in split.labels


def test_names_that_are_no_text_are_said_in_letters(folder):
    os.rename(os.fsencode(folder / "cat"), os.fsencode(folder) + b"/\xffcat")
    assert "half a character" in said(lambda: load(folder))
    os.rename(os.fsencode(folder) + b"/\xffcat", os.fsencode(folder / "cat"))
    with open(os.fsencode(folder / "cat") + b"/\xff.png", "wb") as file:
        file.write(b"broken")
    assert "cat/\\udcff.png: the image can't be read" in said(lambda: load(folder))


def test_a_folder_that_cant_be_listed_is_said(folder, monkeypatch):
    real = os.scandir

    def scandir(path):
        if str(path).endswith("cat"):
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    assert "Permission denied" in said(lambda: load(folder))


def test_nothing_but_empty_classes(tmp_path):
    (tmp_path / "pets" / "cat").mkdir(parents=True)
    assert "no images" in said(lambda: load(tmp_path / "pets"))


@pytest.mark.parametrize(
    "path", ["/dev/zero", "/proc/self/mem", "pipe", "https://example.org/x.png", "/nowhere.png", "."]
)
def test_a_table_that_names_files_opens_no_device_and_no_address(tmp_path, monkeypatch, path):
    monkeypatch.chdir(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    monkeypatch.setattr(datasets.download.DownloadManager, "download", lambda *_: pytest.fail("went to the network"))
    rows = [{"image": {"bytes": None, "path": path}, "label": number % 2} for number in range(8)]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "rows.parquet")
    assert "row 0: the image can't be read" in said(lambda: load(tmp_path / "rows.parquet"))

"""The sample of Fashion-MNIST that ships with the workbench."""

import hashlib

import numpy as np
import pytest
from PIL import Image

from workbench import data
from workbench.data import fashion_mnist
from workbench.data.fashion_mnist import build
from workbench.errors import DataError
from workbench.plan import choices


def test_the_sheet_is_the_one_that_was_built():
    with Image.open(fashion_mnist.FOLDER / fashion_mnist.SHEET) as sheet:
        pixels = np.asarray(sheet)
    assert hashlib.sha256(pixels.tobytes()).hexdigest() == build.PIXELS_SHA256
    assert hashlib.sha256((fashion_mnist.FOLDER / "sheet.png").read_bytes()).hexdigest() in readme()
    assert (fashion_mnist.FOLDER / "sheet.png").stat().st_size < 1_500_000


def readme():
    return (fashion_mnist.FOLDER / "README.md").read_text()


def test_source_and_licence_ship_with_it():
    assert "Zalando" in (fashion_mnist.FOLDER / "LICENSE").read_text()
    assert build.PIXELS_SHA256 in readme()


def test_images_are_cut_out_in_order():
    table = fashion_mnist.read(fashion_mnist.FOLDER)
    with Image.open(fashion_mnist.FOLDER / fashion_mnist.SHEET) as sheet:
        pixels = np.asarray(sheet)
    for number in (0, 49, 50, 1999):
        top, left = 28 * (number // 50), 28 * (number % 50)
        content = table.values("image")[number]["bytes"]
        assert content.endswith(pixels[top : top + 28, left : left + 28].tobytes())
    assert table.values("label")[::200] == list(range(10))


def test_it_loads_as_a_balanced_split():
    split = data.load(choices.Data(source="fashion-mnist"))
    assert split.task == "image-classification"
    assert split.labels == fashion_mnist.LABELS
    assert {count for counts in split.counts().values() for count in counts.values()} == {140, 30}
    image = split.train[0]["image"]
    assert (image.size, image.mode) == ((28, 28), "L")


def test_a_damaged_sheet_is_said(tmp_path):
    (tmp_path / "sheet.png").write_bytes(b"nothing")
    with pytest.raises(DataError, match="sheet"):
        fashion_mnist.read(tmp_path)


def test_building_refuses_other_files(tmp_path):
    (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(b"other")
    with pytest.raises(ValueError, match="sha256 differs"):
        build.build(tmp_path, tmp_path / "sheet.png")

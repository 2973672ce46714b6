"""Makes sheet.png from the training set of Fashion-MNIST, as it is in Debian's package dataset-fashion-mnist.

    apt-get install dataset-fashion-mnist
    python -m workbench.data.fashion_mnist.build /usr/share/datasets/fashion-mnist

Only training images are used, so that the official test set stays unseen. The legacy RandomState is used on purpose:
NumPy guarantees that its random numbers never change.
"""

import gzip
import hashlib
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from workbench.data.fashion_mnist import ACROSS, FOLDER, LABELS, PER_CLASS, SHEET, SIDE

SHA256 = {  # the files that sheet.png was made from
    "train-images-idx3-ubyte.gz": "b0564c3eedabfbf835052cff8503ea422014ce006caf5b757f851416ee8300c7",
    "train-labels-idx1-ubyte.gz": "0ae29f65d86684f32d1b9c85147786c547b9c6aebcaf235f0400a0cce308b056",
}
# The sha256 of the pixels of the sheet, row by row, which does not depend on the PNG encoder.
PIXELS_SHA256 = "4244b3211ddec8bc23e9dd53bd93e1a093bdce8caaabc848719ae45e61cdc345"

Bytes = NDArray[np.uint8]


def build(source: Path, target: Path) -> str:
    """Write the sheet to `target` and return the sha256 of its pixels.

    Raises:
        ValueError: A source file is not the file that the sheet was made from.
    """
    images = _read(source / "train-images-idx3-ubyte.gz", header=16).reshape(-1, SIDE, SIDE)  # (image, height, width)
    labels = _read(source / "train-labels-idx1-ubyte.gz", header=8)  # (image,)
    rows = images[_chosen(labels)].reshape(-1, ACROSS, SIDE, SIDE)  # ACROSS images in each row of the sheet
    pixels = rows.swapaxes(1, 2).reshape(-1, ACROSS * SIDE)
    Image.fromarray(pixels).save(target, optimize=True)
    return hashlib.sha256(pixels.tobytes()).hexdigest()


def _read(path: Path, *, header: int) -> Bytes:
    packed = path.read_bytes()
    if hashlib.sha256(packed).hexdigest() != SHA256[path.name]:
        raise ValueError(f"{path.name} is not the file that the sheet was made from: its sha256 differs")
    return np.frombuffer(gzip.decompress(packed), dtype=np.uint8, offset=header)


def _chosen(labels: Bytes) -> NDArray[np.int64]:
    """Return the indices of PER_CLASS randomly chosen images of each class (fixed seed), class by class."""
    order = np.random.RandomState(0).permutation(len(labels))
    return np.concatenate([order[labels[order] == label][:PER_CLASS] for label in range(len(LABELS))])


if __name__ == "__main__":
    found = build(Path(sys.argv[1]), FOLDER / SHEET)
    sys.exit(None if found == PIXELS_SHA256 else f"the pixels have sha256 {found}, expected {PIXELS_SHA256}")

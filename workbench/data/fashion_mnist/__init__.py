"""A sample of Fashion-MNIST that ships with the workbench: 2,000 grey images of 28 × 28 pixels, 200 per class.

All images are in one picture, sheet.png: 50 images per row and four rows per class, in the order of LABELS. `build.py`
makes it; README.md gives the source.
"""

from pathlib import Path

from workbench.data.table import Table
from workbench.errors import DataError

FOLDER = Path(__file__).parent
SHEET = "sheet.png"
SIDE = 28  # pixels
ACROSS = 50  # images in a row of the sheet
PER_CLASS = 200
LABELS = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")


def read(folder: Path) -> Table:
    """Cut the sheet into its images.

    Each image becomes a PGM file in memory, because its bytes, unlike those of a PNG, don't depend on the encoder.

    Raises:
        DataError: The sheet is missing or damaged.
    """
    import numpy as np
    from PIL import Image

    try:
        with Image.open(folder / SHEET) as sheet:
            pixels = np.asarray(sheet)  # (height, width)
    except OSError as error:
        raise DataError(f"the sheet of Fashion-MNIST can't be read: {error}", hint="reinstall the workbench") from None
    tiles = pixels.reshape(-1, SIDE, ACROSS, SIDE).swapaxes(1, 2).reshape(-1, SIDE, SIDE)  # (image, height, width)
    header = f"P5 {SIDE} {SIDE} 255\n".encode()
    images = [{"bytes": header + tile.tobytes(), "path": None} for tile in tiles]
    labels = [i // PER_CLASS for i in range(len(tiles))]
    return Table(
        "Fashion-MNIST",
        {"image": images, "label": labels},
        class_names={"label": LABELS},
        roles={"image": "image", "label": "label"},
    )

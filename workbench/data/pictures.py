"""PictureFrame: a pandas frame that shows its images as pictures in a notebook. All other values are shown as text."""

import base64
import io
import secrets
from typing import Any

import pandas as pd

SIDE = 72  # maximum pixels per side


class PictureFrame(pd.DataFrame):
    """A frame with PIL images in some cells."""

    @property
    def _constructor(self) -> Any:
        return PictureFrame

    def _repr_html_(self) -> str:
        """Return the table as HTML, in which texts from data are escaped and images are small PNGs."""
        pictures: dict[str, str] = {}  # what stands for a picture while texts are escaped -> its tag

        def words(value: Any) -> str:
            if not hasattr(value, "thumbnail"):
                return str(value)
            pictures[mark := secrets.token_hex(16)] = f'<img alt="" src="{picture(value)}">'
            return mark

        has_pictures = [name for name in self.columns if any(hasattr(value, "thumbnail") for value in self[name])]
        most, least = pd.get_option("display.max_rows"), pd.get_option("display.min_rows")
        formatters: Any = dict.fromkeys(has_pictures, words)
        limit = least or most if most and len(self) > most else most  # as pandas shows a long frame
        html: str = self.to_html(max_rows=limit, formatters=formatters, show_dimensions=True)
        for mark, tag in pictures.items():
            html = html.replace(mark, tag)
        return html


def picture(image: Any, side: int = SIDE) -> str:
    """Return a PIL image as a small PNG in a data URL."""
    small = image.convert("RGB")
    small.thumbnail((side, side))
    memory = io.BytesIO()
    small.save(memory, format="PNG")
    return "data:image/png;base64," + base64.b64encode(memory.getvalue()).decode()

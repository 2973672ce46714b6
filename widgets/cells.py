"""Converts values of rows for the page: everything to plain text, and images to small PNGs."""

import base64
import io
from typing import Any

SHOWN_LETTERS = 600  # maximum length of a text
THUMBNAIL = 56  # maximum pixels per side


def cell(value: Any) -> dict[str, str]:
    """Return a value as {"image": data URL} or {"text": text}."""
    if hasattr(value, "thumbnail"):
        return {"image": thumbnail(value)}
    return {"text": text(f"{value:.4g}" if isinstance(value, float) else str(value))}


def text(words: str) -> str:
    """Return a text, cut if it is long."""
    return words if len(words) <= SHOWN_LETTERS else words[:SHOWN_LETTERS] + " …"


def thumbnail(image: Any) -> str:
    """Return a PIL image as a small PNG in a data URL."""
    small = image.convert("RGB")
    small.thumbnail((THUMBNAIL, THUMBNAIL))
    memory = io.BytesIO()
    small.save(memory, format="PNG")
    return "data:image/png;base64," + base64.b64encode(memory.getvalue()).decode()

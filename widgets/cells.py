"""Values from rows as a page can show them: plain text, whatever it looks like, and images as small pictures."""

import base64
import io
from typing import Any

SHOWN_LETTERS = 600  # of a text
THUMBNAIL = 56  # pixels a side, at most


def cell(value: Any) -> dict[str, str]:
    """Return a value as {"image": address} or {"text": words}."""
    if hasattr(value, "thumbnail"):
        return {"image": thumbnail(value)}
    return {"text": text(f"{value:.4g}" if isinstance(value, float) else str(value))}


def text(words: str) -> str:
    """Return a text, cut where it is long."""
    return words if len(words) <= SHOWN_LETTERS else words[:SHOWN_LETTERS] + " …"


def thumbnail(image: Any) -> str:
    """Return a PIL image as a small PNG in a data address."""
    small = image.convert("RGB")
    small.thumbnail((THUMBNAIL, THUMBNAIL))
    memory = io.BytesIO()
    small.save(memory, format="PNG")
    return "data:image/png;base64," + base64.b64encode(memory.getvalue()).decode()

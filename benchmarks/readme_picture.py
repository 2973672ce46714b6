"""Makes the picture of the README: a screenshot of the panel in JupyterLab, fine-tuning MiniLM on film reviews.

    python benchmarks/readme_picture.py [docs/panel.png]

It needs Chromium, playwright, and the packs minilm-l6 and sentiment.
"""

import sys
import tempfile
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tests" / "browser"))

from lab import Lab, Notebook, chromium, page_of  # noqa: E402 (helpers of the browser tests)

from workbench import packs  # noqa: E402

CELL = """from workbench import Plan
from widgets import Workbench
plan = Plan().change(trainable="head", unfreeze_to="last 4", learning_rate=3e-4, stop_patience=3)
panel = Workbench(plan=plan.change(max_rows=3000, max_length=64, epochs=1))
panel"""
PROGRESS = "() => parseInt(document.querySelector('.fw-run-percent').textContent) >= 60"
LIMIT_KB = 300


def main(target: Path) -> None:
    """Start a run in the panel, and take a screenshot when 70 % of it is done."""
    cache = packs.get("minilm-l6").parent
    packs.get("sentiment")
    with tempfile.TemporaryDirectory() as folder, chromium() as browser:
        lab = Lab(Path(folder) / "lab", environment={"FINETUNE_WORKBENCH_CACHE": str(cache)})
        try:
            lab.write("picture.ipynb", CELL)
            page = page_of(browser, width=1280, height=900, scale=1.5)
            notebook = Notebook(lab, page, "picture.ipynb")
            notebook.run(0)
            page.wait_for_selector(".fw-freeze .fw-block", timeout=60_000)
            page.get_by_role("button", name="Start", exact=True).click()
            page.wait_for_function(PROGRESS, timeout=480_000)
            page.locator(".fw-workbench").screenshot(path=target)
        finally:
            lab.close()
    shrink(target)


def shrink(path: Path) -> None:
    """Reduce the picture to a palette of 128 colours, which is enough for text and lines."""
    with Image.open(path) as picture:
        small = picture.convert("RGB").quantize(128, dither=Image.Dither.NONE)
    small.save(path, optimize=True)
    size_kb = path.stat().st_size / 1000
    if size_kb > LIMIT_KB:
        raise SystemExit(f"{path} has {size_kb:.0f} kB; expected at most {LIMIT_KB} kB")
    print(f"{path}: {small.width} × {small.height}, {size_kb:.0f} kB")


if __name__ == "__main__":
    place = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "docs" / "panel.png"
    place.parent.mkdir(parents=True, exist_ok=True)
    main(place)

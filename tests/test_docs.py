import re
import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = runpy.run_path(str(ROOT / "docs" / "pages.py"))["PAGES"]
NAMED = re.compile(r"`((?:tests|benchmarks|workbench|widgets|docs)/[\w./]+|[a-z_]+/[\w/]+\.py)`")


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", "docs/decisions.md"])
def test_every_path_that_a_page_names_exists(page):
    paths = NAMED.findall((ROOT / page).read_text(encoding="utf-8"))
    assert paths
    assert not [path for path in paths if not ((ROOT / path).exists() or (ROOT / "workbench" / path).exists())]


@pytest.mark.parametrize("name", PAGES)
def test_a_page_that_is_made_from_the_code_is_up_to_date(name):
    page = (ROOT / "docs" / name).read_text(encoding="utf-8")
    assert page == PAGES[name](), "run python docs/pages.py"

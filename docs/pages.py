"""Writes the pages that are made from the code: `python docs/pages.py`."""

from pathlib import Path

from workbench import glossary
from workbench.plan import reference
from workbench.plan.plan import Plan

PAGES = {"glossary.md": glossary.page, "plan.md": lambda: reference.page(Plan)}

if __name__ == "__main__":
    for name, content in PAGES.items():
        Path(__file__).with_name(name).write_text(content(), encoding="utf-8")

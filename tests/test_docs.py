import ast
import asyncio
import contextlib
import dataclasses
import inspect
import re
import runpy
from pathlib import Path

import ipywidgets as ipw
import pytest

import workbench as wb
import workbench.__main__

ROOT = Path(__file__).parent.parent
PAGES = runpy.run_path(str(ROOT / "docs" / "pages.py"))["PAGES"]
NAMED = re.compile(r"`((?:tests|benchmarks|workbench|widgets|docs)/[\w./]+|[a-z_]+/[\w/]+\.py)`")


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", "docs/decisions.md"])
def test_every_path_that_a_page_names_exists(page):
    paths = NAMED.findall((ROOT / page).read_text(encoding="utf-8"))
    assert paths
    assert not [path for path in paths if not ((ROOT / path).exists() or (ROOT / "workbench" / path).exists())]


def blocks_of(page, language):
    """Return the blocks of code of a page in this language, in order."""
    text = (ROOT / page).read_text(encoding="utf-8")
    return [code for kind, code in re.findall(r"^```(\w*)\n(.*?)^```", text, re.M | re.S) if kind == language]


def pasted(code, names):
    """Run a block as a notebook does, with top-level await."""
    made = eval(compile(code, "block", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT), names)
    if inspect.iscoroutine(made):
        asyncio.run(made)


@pytest.mark.slow
@pytest.mark.parametrize(
    "page", [p for p in ("README.md", "CONTRIBUTING.md", "docs/decisions.md") if blocks_of(p, "python")]
)
def test_every_block_of_python_runs_as_it_is_in_order(page, tmp_path, monkeypatch):
    """The plan has as many rows and steps as the one that the page names; only a step costs less."""
    names = {}
    monkeypatch.chdir(tmp_path)
    transfer = wb.practices["transfer"]
    cheap = transfer.plan.change(image_size=32, trainable="head", precision="fp32")
    monkeypatch.setitem(wb.practices, "transfer", dataclasses.replace(transfer, plan=cheap))
    try:
        for code in blocks_of(page, "python"):
            pasted(code, names)
    finally:
        for run in [thing for thing in names.values() if isinstance(thing, wb.Run)]:
            with contextlib.suppress(wb.WorkbenchError):
                run.stop().wait(60)
        ipw.Widget.close_all()  # the panels, which nobody closes in a notebook either


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md"])
def test_every_command_that_a_page_names_exists(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    code = "\n".join([*blocks_of(page, ""), *re.findall(r"`([^`\n]+)`", text)])
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M)
    assert {*re.findall(r"\bmake ([a-z-]+)", code)} <= {*targets}
    for name in re.findall(r"python -m workbench ([a-z]+)", code):
        assert f"{name}(" in inspect.getsource(workbench.__main__)
    for path in re.findall(r"python (benchmarks/\w+\.py|docs/\w+\.py)", code) + re.findall(r"-[cf] ([\w.]+)", code):
        assert (ROOT / path).exists(), path


@pytest.mark.parametrize("name", PAGES)
def test_a_page_that_is_made_from_the_code_is_up_to_date(name):
    page = (ROOT / "docs" / name).read_text(encoding="utf-8")
    assert page == PAGES[name](), "run python docs/pages.py"

"""Panels know nothing of each other: only the whole panel imports several of them."""

import ast
from pathlib import Path

import pytest

import widgets

FOLDER = Path(widgets.__file__).parent
PANELS = sorted(path.stem for path in FOLDER.glob("*_panel.py"))


@pytest.mark.parametrize("name", [name for name in PANELS if name != "workbench_panel"])
def test_a_panel_imports_no_other_panel(name):
    tree = ast.parse((FOLDER / f"{name}.py").read_text(encoding="utf-8"))
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]
    found = {word for node in imports for word in ast.unparse(node).replace(".", " ").replace(",", " ").split()}
    assert not found & {*PANELS} - {name}


def test_each_panel_has_a_public_name():
    assert {home.removeprefix("widgets.") for home in widgets._HOME.values()} == {*PANELS}
    assert all(issubclass(getattr(widgets, name), object) for name in widgets.__all__)

"""What an import costs and brings along, and that the product works where there is no Jupyter."""

import os
import statistics
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow  # the whole file takes some seconds


TESTS = Path(__file__).parent
JUPYTER = {"IPython", "anywidget", "comm", "ipykernel", "ipywidgets", "jupyter_client", "jupyterlab", "traitlets"}
HEAVY = {"torch", "transformers", "datasets", "peft", "pandas", "numpy", "matplotlib"}
ALL = "import pkgutil, importlib, workbench\nfor m in pkgutil.walk_packages(workbench.__path__, 'workbench.'):\n    "
ALL += "m.name.endswith('__main__') or importlib.import_module(m.name)\n"


def python(code):
    environment = {**os.environ, "PYTHONPATH": str(TESTS), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    return done.stdout


def brought_in(statement):
    return set(python(f"import sys\n{statement}\nprint(*{{name.partition('.')[0] for name in sys.modules}})").split())


def test_importing_the_product_takes_less_than_three_tenths_of_a_second():
    code = "import time; start = time.perf_counter(); import workbench; print(time.perf_counter() - start)"
    assert statistics.median(float(python(code)) for _ in range(5)) < 0.3  # seconds


LIGHT = [
    "workbench",
    *(f"workbench.{name}" for name in ("__main__", "choices", "events", "packs", "practices", "store")),
]


@pytest.mark.parametrize("module", LIGHT)
def test_light_modules_bring_in_neither_torch_nor_jupyter(module):
    assert not brought_in(f"import {module}") & (HEAVY | JUPYTER)


def test_public_names_are_found_without_loading_them():
    assert not brought_in("import workbench; assert {'Plan', 'Session', 'run'} <= set(dir(workbench))") & (
        HEAVY | JUPYTER
    )


@pytest.mark.slow
def test_every_module_of_the_product_can_be_imported_without_jupyter():
    python(f"import no_jupyter\n{ALL}")


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_core_tests_pass_without_jupyter():
    left_out = [f"--ignore={TESTS / name}" for name in ("widgets", "browser", "test_imports.py", "test_notebooks.py")]
    options = ["-q", "-p", "no_jupyter", "-p", "no:cacheprovider", "-m"]
    command = [sys.executable, "-m", "pytest", *options, "not slow", *left_out]
    environment = {**os.environ, "PYTHONPATH": str(TESTS)}
    done = subprocess.run(command, cwd=TESTS.parent, env=environment, capture_output=True, text=True, timeout=850)
    assert done.returncode == 0, done.stdout[-3000:]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "value"), [("GOMP_SPINCOUNT", "1000"), ("THP_MEM_ALLOC_ENABLE", "1")])
@pytest.mark.parametrize("said", [None, "0"])
def test_threads_that_spin_less_and_large_pages_are_asked_for_before_torch_is_imported(name, value, said):
    told = f"import os, workbench, torch; print(os.environ[{name!r}])"
    environment = {key: before for key, before in os.environ.items() if key != name}
    environment |= {name: said} if said else {}
    answer = subprocess.run([sys.executable, "-c", told], capture_output=True, text=True, check=True, env=environment)
    assert answer.stdout.strip() == (said or value)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("before", "environment", "count", "is_late"),
    [
        ("", {}, "1000", False),
        ("torch, ", {}, "1000", True),
        ("torch, ", {"GOMP_SPINCOUNT": "7"}, "7", False),
        ("", {"OMP_WAIT_POLICY": "active"}, "None", False),
    ],
)
def test_torch_that_was_imported_too_early_is_noticed(before, environment, count, is_late):
    told = f"import os, {before}workbench; print(os.environ.get('GOMP_SPINCOUNT'), workbench.spins_idly)"
    kept = {name: value for name, value in os.environ.items() if name not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    command = [sys.executable, "-c", told]
    answer = subprocess.run(command, capture_output=True, text=True, check=True, env={**kept, **environment})
    assert answer.stdout.split() == [count, str(is_late)]

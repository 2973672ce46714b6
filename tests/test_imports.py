"""What an import costs and brings along, and that the product works where there is no Jupyter."""

import os
import statistics
import subprocess
import sys
from pathlib import Path

import pytest
from importlinter.cli import lint_imports

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


LIGHT = ["__main__", "events", "packs", "plan", "practices", "runs.disk.run_folder"]


@pytest.mark.parametrize("module", LIGHT)
def test_light_modules_bring_in_neither_torch_nor_jupyter(module):
    assert not brought_in(f"import workbench.{module}") & (HEAVY | JUPYTER)


def test_a_session_and_its_panels_are_there_before_torch_is_imported():
    code = "import workbench, widgets; panel = widgets.Workbench; session = workbench.Session()"
    assert not brought_in(code) & {"torch", "transformers", "datasets", "evaluate", "pandas", "matplotlib"}


def test_public_names_are_found_without_loading_them():
    assert not brought_in("import workbench; assert {'Plan', 'Session', 'run'} <= set(dir(workbench))") & (
        HEAVY | JUPYTER
    )


def test_every_module_of_the_product_can_be_imported_without_jupyter():
    python(f"import no_jupyter\n{ALL}")


def test_the_contracts_of_imports_hold():
    assert lint_imports(config_filename=str(TESTS.parent / "pyproject.toml"), no_cache=True) == 0


def printed(code, **environment):
    """Run code in a process that no such variable has reached; return the words it prints."""
    ours = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY", "THP_MEM_ALLOC_ENABLE")
    kept = {name: value for name, value in os.environ.items() if name not in ours}
    command, environment = [sys.executable, "-c", code], {**kept, **environment}
    return subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout.split()


@pytest.mark.parametrize(("name", "value"), [("GOMP_SPINCOUNT", "1000"), ("THP_MEM_ALLOC_ENABLE", "1")])
def test_threads_that_spin_less_and_large_pages_are_asked_for_before_torch_is_imported(name, value):
    code = f"import os, sys, workbench; print(os.environ[{name!r}], 'torch' in sys.modules)"
    assert printed(code) == [value, "False"]
    assert printed(code, **{name: "0"}) == ["0", "False"]


TORCH = "import sys; sys.modules['torch'] = None; "  # as good as imported


@pytest.mark.parametrize(
    ("before", "environment", "count", "is_late"),
    [
        ("", {}, "1000", "False"),
        (TORCH, {}, "1000", "True"),
        (TORCH, {"GOMP_SPINCOUNT": "7"}, "7", "False"),
        ("", {"OMP_WAIT_POLICY": "active"}, "None", "False"),
    ],
)
def test_torch_that_was_imported_too_early_is_noticed(before, environment, count, is_late):
    code = f"{before}import os, workbench; print(os.environ.get('GOMP_SPINCOUNT'), workbench.spins_idly)"
    assert printed(code, **environment) == [count, is_late]

"""What every test starts from: no network, no display, fixed seeds, and an environment that no test leaves changed."""

import os
import random
import shutil
import tempfile

# Before anything imports a hub client, matplotlib or torch.
os.environ["HF_HUB_OFFLINE"] = os.environ["HF_DATASETS_OFFLINE"] = "1"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["MPLBACKEND"] = "Agg"
os.environ.setdefault("GOMP_SPINCOUNT", "1000")
if "PYTEST_XDIST_WORKER_COUNT" in os.environ:  # several processes share the processors
    os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["FINETUNE_WORKBENCH_MEMORY"] = tempfile.mkdtemp(prefix="workbench-tests-")  # of what was measured
os.environ["FINETUNE_WORKBENCH_ACTIVATIONS"] = os.environ["FINETUNE_WORKBENCH_MEMORY"] + "/activations"

import sys
from pathlib import Path

import deep
import pytest
from hypothesis import HealthCheck, settings

pytest_plugins = ["timed_last", "tinypack"]


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add `--deep SEED`."""
    parser.addoption("--deep", type=int, metavar="SEED", help="many random cases, drawn from SEED, and the long tests")


@pytest.hookimpl(tryfirst=True)  # before hypothesis looks at its options, and before tests are imported
def pytest_configure(config: pytest.Config) -> None:
    """Let everything random go as far as was asked for; how fast a case is made is no matter of right or wrong."""
    deep.SEED = config.getoption("--deep")
    if deep.SEED is not None:
        config.option.hypothesis_seed, config.option.timeout = deep.SEED, 3600  # seconds a test
    settings.register_profile(
        "tier",
        derandomize=deep.SEED is None,
        max_examples=deep.cases(40, 2_000),
        deadline=None,
        database=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
    )
    settings.load_profile("tier")


def pytest_report_header() -> str:
    """Return what repeats the run."""
    return "" if deep.SEED is None else f"deep: repeat with make test-deep SEED={deep.SEED}"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave the tests marked `deep` out of the first tier."""
    if deep.SEED is None:
        left_out = {item for item in items if item.get_closest_marker("deep")}
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


def pytest_unconfigure() -> None:
    """Remove what was measured and kept for the tests."""
    shutil.rmtree(os.environ["FINETUNE_WORKBENCH_MEMORY"], ignore_errors=True)


@pytest.fixture(autouse=True)
def seeded() -> None:
    """The generators that are loaded start each test from the same seed."""
    random.seed(0)
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed(0)
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(0)


@pytest.fixture(autouse=True)
def environment_kept():
    """A test that changes os.environ changes it for itself only."""
    before = dict(os.environ)
    yield
    for name in os.environ.keys() - before.keys() - {"PYTEST_CURRENT_TEST"}:
        del os.environ[name]
    os.environ.update({name: value for name, value in before.items() if name != "PYTEST_CURRENT_TEST"})


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of packs for one test."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("FINETUNE_WORKBENCH_CACHE", str(folder))
    return folder

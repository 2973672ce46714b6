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
os.environ["FINETUNE_WORKBENCH_MEMORY"] = tempfile.mkdtemp(prefix="workbench-tests-")  # of what was measured
os.environ["FINETUNE_WORKBENCH_ACTIVATIONS"] = os.environ["FINETUNE_WORKBENCH_MEMORY"] + "/activations"

import sys
from pathlib import Path

import pytest

pytest_plugins = ["tinypack"]  # its fixtures


@pytest.fixture(scope="session", autouse=True)
def nothing_left_behind():
    """What was measured and kept for the tests goes with them."""
    yield
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

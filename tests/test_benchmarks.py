import json
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent.parent / "benchmarks"


@pytest.mark.slow
def test_a_benchmark_ends_with_one_object_of_the_form_that_all_have():
    command = [sys.executable, str(FOLDER / "small_steps.py"), "--quick", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, check=True)
    found = json.loads(done.stdout.splitlines()[-1])
    assert set(found) == {"benchmark", "device", "rows"}
    (row,) = found["rows"]
    assert (row["case"], row["peer"], row["repetitions"]) == ("step", "accelerate", 3)
    assert row["ratio"] == pytest.approx(row["peer_seconds"] / row["ours_seconds"])
    assert row["loss_difference"] < 1e-5

import json
import os
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


@pytest.mark.slow
def test_every_interrupted_run_is_taken_up_again(tmp_path):
    command = [sys.executable, str(FOLDER / "checkpoints.py"), "--trials", "3", "--json"]
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    done = subprocess.run(command, capture_output=True, text=True, timeout=280, check=True, env=environment)
    rows = json.loads(done.stdout.splitlines()[-1])["rows"]
    assert [row["case"] for row in rows][:4] == ["kill", "kill any time", "truncated", "flipped"]
    assert rows[4]["case"] in ("full disk", "file size limit")
    for row in rows:
        assert (row["of"], row["repetitions"], row["peer"]) == (3, 3, "trainer")
        assert (row["ours"], row["ours_lost"]) == (3, 0), done.stdout
        assert row["ratio"] == 3 / max(row["trainer"], 1)
        assert row["trainer"] <= 3
    assert not list(tmp_path.glob("checkpoints-*"))
    assert str(tmp_path) not in Path("/proc/mounts").read_text()

"""The files that set the project up agree with each other, and the Makefile keeps its promises."""

import os
import re
import shutil
import stat
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
CONDA_NAMES = {"pytorch": "torch", "python-xxhash": "xxhash"}  # conda-forge -> package index


def bounds(requirements):
    parsed = [Requirement(line) for line in requirements]
    return {canonicalize_name(CONDA_NAMES.get(entry.name, entry.name)): entry.specifier for entry in parsed}


def test_environment_yml_says_what_pyproject_says():
    conda = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    *plain, pip = conda["dependencies"]
    listed = bounds(plain)
    assert conda["channels"] == ["conda-forge"]
    assert listed.pop("python") == PROJECT["requires-python"]
    assert listed.pop("pip") == ""
    assert listed == bounds(PROJECT["dependencies"])
    assert pip == {"pip": ["--editable ."]}


def pins():
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    return dict(line.split("==") for line in lines if not line.startswith("#"))


def test_everything_is_pinned_within_its_bounds():
    pinned = {canonicalize_name(name): version for name, version in pins().items()}
    wanted = bounds(PROJECT["dependencies"] + PROJECT["optional-dependencies"]["test"])
    assert wanted.keys() <= pinned.keys()
    for name, bound in wanted.items():
        assert bound.contains(pinned[name], prereleases=True), name


def test_pins_name_no_address_and_no_local_build():
    for name, version in pins().items():
        assert re.fullmatch(r"[\w.-]+", name)
        assert re.fullmatch(r"[\w.]+", version), name


@pytest.mark.parametrize("name", ["Makefile", "constraints.txt", "environment.yml", ".ci/run", "pyproject.toml"])
def test_no_index_is_prescribed(name):
    text = (ROOT / name).read_text(encoding="utf-8")
    assert not re.search(r"index-url|find-links|trusted-host|https?://(?!github\.com)", text)


def test_the_build_server_runs_make_test():
    script = ROOT / ".ci" / "run"
    assert script.stat().st_mode & stat.S_IXUSR
    assert "exec make --no-print-directory test" in script.read_text(encoding="utf-8")


# --- the Makefile, with a stand-in for Python that writes down what it is asked ---

STAND_IN = """#!/bin/sh
echo "$*" >> log
case "$*" in
  *version_info*) exit {too_old} ;;
  --version) echo Python 3.8.18 ;;
  "-m venv --clear .venv") mkdir -p .venv/bin && cp "$0" .venv/bin/python ;;
  "-m pip install"*) test ! -e broken-network ;;
esac
"""


@pytest.fixture
def clone(tmp_path):
    """A folder with what `make` needs, and a stand-in for Python in it."""
    if not shutil.which("make"):
        pytest.skip("there is no make")
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)
    stand_in(tmp_path)
    return tmp_path


def stand_in(folder, too_old=0):
    (folder / "python").write_text(STAND_IN.format(too_old=too_old))
    (folder / "python").chmod(0o755)


def make(folder, *arguments):
    """Run make and return its exit code, its words on stderr, and what Python was asked."""
    (folder / "log").write_text("")
    environment = {key: value for key, value in os.environ.items() if key not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")}
    command = ["make", "PYTHON=./python", *arguments]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=60)
    asked = [line for line in (folder / "log").read_text().splitlines() if "version_info" not in line]
    return done.returncode, done.stderr, asked


VENV = "-m venv --clear .venv"
INSTALL = "-m pip install --constraint constraints.txt --editable ."
LAB = "-m workbench lab --no-browser --port 8899"


def test_the_second_make_lab_installs_nothing(clone):
    arguments = ["lab", "LAB_ARGS=--no-browser --port 8899"]
    assert make(clone, *arguments) == (0, "", [VENV, INSTALL, LAB])
    assert make(clone, *arguments) == (0, "", [LAB])


def test_a_changed_pin_is_installed(clone):
    make(clone, "lab")
    os.utime(clone / "constraints.txt")
    os.utime(clone / ".venv" / ".installed", (0, 0))
    assert make(clone, "lab")[2][0] == INSTALL


def test_an_installation_that_broke_off_is_taken_up_again(clone):
    (clone / "broken-network").touch()
    assert make(clone, "lab")[0] != 0
    (clone / "broken-network").unlink()
    assert make(clone, "lab")[2] == [INSTALL, "-m workbench lab"]


def test_a_venv_that_does_not_run_is_made_anew(clone):
    make(clone, "lab")
    (clone / ".venv" / "bin" / "python").unlink()
    assert make(clone, "lab")[2] == [VENV, INSTALL, "-m workbench lab"]


def test_a_clone_that_was_moved_is_installed_again(clone, tmp_path_factory):
    make(clone, "lab")
    moved = clone.rename(tmp_path_factory.mktemp("elsewhere") / "clone")
    assert make(moved, "lab")[2] == [INSTALL, "-m workbench lab"]


def test_make_test_adds_what_tests_need(clone):
    code, _, asked = make(clone, "test", "TEST_ARGS=-k packs")
    assert code == 0
    assert asked[:-1] == [VENV, INSTALL, INSTALL + "[test]", "-m workbench fetch"]
    assert asked[-1] == "-m pytest -n 2 --durations 20 -k packs"


def test_make_test_deep_takes_a_seed_or_the_time(clone):
    make(clone, "lab")
    seeds = [make(clone, "test-deep", *seed)[2][-1].split()[3] for seed in ((), ("SEED=7",))]
    assert int(seeds[0]) > 10**9
    assert seeds[1] == "7"


def test_a_python_that_is_too_old_is_named(clone):
    stand_in(clone, too_old=1)
    code, words, asked = make(clone, "lab")
    assert code != 0
    assert "needs Python 3.11 or newer with venv; ./python is: Python 3.8.18" in words
    assert "Try: make PYTHON=python3.12 lab" in words
    assert asked == ["--version"]


def test_without_any_python_that_is_said(clone):
    (clone / "python").unlink()
    code, words, _ = make(clone, "lab")
    assert code != 0
    assert "Finetune Workbench needs Python 3.11" in words

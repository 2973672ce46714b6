"""The command line: each command does what its notebook twin does, and a mistake is one message and exit code 2."""

import os
import signal
import sys

import pytest
import tiny
from tiny_runs import PLAN, a_tiny_backbone_by_that_name  # noqa: F401

from workbench import __main__ as cli
from workbench import data, list_runs, packs, run
from workbench.errors import PackError
from workbench.runs.disk import run_list
from workbench.runs.disk.run_folder import RunFolder


@pytest.fixture(autouse=True)
def default_interrupt_handler():
    """A shell ignores SIGINT in what it runs in the background, and Python then installs no handler."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def plan_file(tmp_path, monkeypatch):
    """A plan that trains the tiny backbone on the tiny table for a few steps."""
    monkeypatch.chdir(tmp_path)
    load = data.load
    monkeypatch.setattr(data, "load", lambda choice, *, table=None: load(choice, table=tiny.frame()))
    (tmp_path / "plan.json").write_text(PLAN.to_json())
    return "plan.json"


def test_run_gives_the_same_run_as_the_function(plan_file, tmp_path, capsys):
    assert cli.main(["run", plan_file, "--runs", "here"]) == 0
    (summary,) = run_list.summaries(tmp_path / "here")
    assert (summary.state, summary.step) == ("completed", 6)
    list(run(PLAN, runs=tmp_path / "there"))
    (twin,) = run_list.summaries(tmp_path / "there")
    assert summary.best_loss == twin.best_loss
    printed = capsys.readouterr().out
    assert "step 6/6 · validation loss" in printed
    assert printed.splitlines()[-1] == str(summary.path.relative_to(tmp_path))


def test_a_plan_that_can_not_be_loaded_leaves_no_run_folder(tmp_path, monkeypatch, capsys):
    (tmp_path / "broken.json").write_text(PLAN.change(source="no/such/file.csv").to_json())
    monkeypatch.chdir(tmp_path)
    assert cli.main(["run", "broken.json"]) == 2
    assert "there is no file" in capsys.readouterr().err
    assert list((tmp_path / "runs").iterdir()) == []


def test_the_first_interrupt_stops_the_run_and_keeps_its_model(plan_file, tmp_path, monkeypatch, capsys):
    def show(self, event):
        if event.kind == "StepEnded" and event.step == 2:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(cli.RunLine, "show", show)
    assert cli.main(["run", plan_file]) == 130
    (summary,) = run_list.summaries(tmp_path / "runs")
    assert summary.state == "stopped"
    assert list((summary.path / "checkpoints").glob("*/manifest.json"))
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_the_second_interrupt_breaks_it_off(plan_file, monkeypatch, capsys):
    def show(self, event):
        if event.kind == "StepEnded":
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(cli.RunLine, "show", show)
    assert cli.main(["run", plan_file]) == 130
    assert capsys.readouterr().err == "interrupted\n"


def test_runs_lists_them(plan_file, capsys):
    assert cli.main(["runs"]) == 0
    assert capsys.readouterr().out == "no runs in runs yet\n"
    cli.main(["run", plan_file])
    capsys.readouterr()
    assert cli.main(["runs", "runs"]) == 0
    heading, line = capsys.readouterr().out.splitlines()
    assert heading.split()[:3] == ["run", "started", "state"]
    assert "completed" in line
    assert "6/6" in line
    assert "tiny, " in line
    (row,) = list_runs("runs").itertuples()
    assert f" {row.metric} {row.score:.3g} " in line  # the same score as everywhere


def test_a_run_that_was_stopped_is_taken_up_again_and_one_that_died_is_listed_so(plan_file, monkeypatch, capsys):
    def show(self, event):
        if event.kind == "StepEnded" and event.step == 2:
            signal.raise_signal(signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(cli.RunLine, "show", show)
        cli.main(["run", plan_file, "--runs", "here"])
    assert cli.main(["resume", "last", "--runs", "here"]) == 0
    (summary,) = run_list.summaries("here")
    assert (summary.state, summary.step) == ("completed", 6)
    assert cli.main(["resume", summary.name, "--runs", "here"]) == 2
    assert "has ended (completed), so there is nothing to resume" in capsys.readouterr().err
    log = summary.path / "events.jsonl"
    log.write_text("".join(log.read_text().splitlines(keepends=True)[:-1]))  # its end was never written
    cli.main(["runs", "here"])
    assert " died " in capsys.readouterr().out


def test_a_run_whose_rows_were_given_as_an_object_can_not_be_taken_up_from_here(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    folder = RunFolder.create(PLAN.change(source="table"), "runs")
    assert cli.main(["resume", "last"]) == 2
    assert "wb.attach(run.folder, table=frame)" in capsys.readouterr().err
    assert list(folder.events()) == []


MISTAKES = {
    "missing.json": (None, "there is no file 'missing.json'\nTry: "),
    "broken.json": ("{", "the plan is not JSON"),
    "wrong.json": ('{"tuning": {"learning_rat": 1}}', "Did you mean 'learning_rate'?"),
    "range.json": ('{"tuning": {"batch_size": 0}}', "batch_size is 0; it must be between 1 and"),
    "latin.json": (b"\xff\xfe", "it is not UTF-8 text"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_plan_that_can_not_be_is_one_message(name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    content, words = MISTAKES[name]
    if content is not None:
        (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    assert cli.main(["run", name]) == 2
    printed = capsys.readouterr()
    assert words in printed.err
    assert "Traceback" not in printed.err
    assert not list(tmp_path.glob("runs/*"))


def test_fetch_takes_names_and_tells_what_happens(tiny_pack, capsys):
    assert cli.main(["fetch", "tiny"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "tiny: ready"
    assert cli.main(["fetch", "--verify"]) == 0
    assert tiny_pack.downloads == 1
    assert cli.main(["fetch", "tinny"]) == 2
    assert capsys.readouterr().err == "there is no pack 'tinny'\nDid you mean 'tiny'?\n"


@pytest.mark.parametrize("arguments", [[], ["frob"], ["runs", "--frob"], ["run"]])
def test_a_wrong_command_line_shows_the_usage(arguments, capsys):
    with pytest.raises(SystemExit, match="2"):
        cli.main(arguments)
    assert "usage: python -m workbench" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments", [["--help"], ["fetch", "--help"], ["lab", "--help"], ["run", "--help"], ["--version"]]
)
def test_help(arguments, capsys):
    with pytest.raises(SystemExit, match="0"):
        cli.main(arguments)
    assert len(capsys.readouterr().out) > 10


@pytest.fixture
def executed(monkeypatch, tmp_path):
    """What `lab` would become, kept instead of done; the project is a folder with a quickstart."""
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "notebooks" / "0_quickstart.ipynb").write_text("{}")
    calls = []
    monkeypatch.setattr(cli, "_project", lambda: tmp_path)

    def execv(program, command):
        calls.append(command)
        raise SystemExit(0)  # this process is another one now

    monkeypatch.setattr(os, "execv", execv)
    return calls


def test_lab_becomes_jupyterlab_on_localhost_and_passes_arguments_on(executed, tiny_pack, tmp_path, monkeypatch):
    with pytest.raises(SystemExit, match="0"):
        cli.main(["lab", "--no-browser", "--port", "8899"])
    (command,) = executed
    assert command[:4] == [sys.executable, "-m", "jupyterlab", "--ip=127.0.0.1"]
    assert f"--ServerApp.root_dir={tmp_path}" in command
    assert "--LabApp.default_url=/lab/tree/notebooks/0_quickstart.ipynb" in command
    assert command[-3:] == ["--no-browser", "--port", "8899"]
    assert "token" not in " ".join(command)
    assert tiny_pack.downloads == 1
    with pytest.raises(SystemExit, match="0"):
        cli.main(["lab"])
    assert tiny_pack.downloads == 1


def test_lab_does_not_open_without_its_packs(executed, monkeypatch, capsys):
    def fetch(*_, **__):
        raise PackError("the pack 'x' is not in the cache", hint="connect")

    monkeypatch.setattr(packs, "fetch", fetch)
    assert cli.main(["lab"]) == 2
    assert not executed


def test_lab_away_from_the_notebooks_says_so(monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(cli, "__file__", str(tmp_path / "site-packages" / "workbench" / "__main__.py"))
    assert cli.main(["lab"]) == 2
    assert "0_quickstart.ipynb is neither next to" in capsys.readouterr().err

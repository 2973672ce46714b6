"""The list of runs: newest first, in words, and with what can be done with each."""

import dataclasses
import time

import fakes
import pytest
from fakes import FakeSession, until

from widgets import RunsPanel
from workbench.errors import RunError
from workbench.events import RunEnded, RunFailed, RunForked, StageStarted
from workbench.plan.plan import Plan
from workbench.runs.disk import run_list
from workbench.runs.disk.run_folder import RunFolder

LOG = fakes.log(60)
STOPPED = RunEnded(step=60, reason="stopped by the user", best_step=40, best_loss=0.3)


@pytest.fixture
def write(tmp_path):
    """Write a run folder with this log, a minute after the one before; return its name."""
    written = []

    def run(*events, plan=None):
        folder = RunFolder.create(plan or Plan(), tmp_path)
        for event in events:
            folder.append(dataclasses.replace(event, time=1e9 + 60 * len(written)))
        folder.close()
        written.append(folder.name)
        return folder.name

    return run


@pytest.fixture
def session(tmp_path):
    return FakeSession(folder=tmp_path)


def rows(panel):
    return {row["name"]: row for row in panel.state["rows"]}


def begun(panel, name):
    """What the form of a fork of this run begins with."""
    fork = rows(panel)[name]["fork"]
    return {"step": fork["step"], **{field["name"]: field["value"] for field in fork["fields"]}}


def test_an_empty_folder_says_where_runs_will_be(opened, session, tmp_path):
    panel = opened(RunsPanel, session)
    assert until(lambda: panel.state["is_read"])
    assert (panel.state["rows"], panel.state["folder"]) == ([], str(tmp_path))


def test_all_runs_are_listed_newest_first_in_words(opened, session, write):
    done = write(*LOG)
    stopped = write(*LOG[:-1], STOPPED)
    failed = write(
        StageStarted(stage="reading the data"), RunFailed(step=0, what="no file"), plan=Plan().change(source="x.csv")
    )
    panel = opened(RunsPanel, session)
    assert until(lambda: panel.state["is_read"])
    assert [row["name"] for row in panel.state["rows"]] == [failed, stopped, done]
    found = rows(panel)
    assert found[done]["title"] == "sentiment: movies · MiniLM-L6 · head only"
    assert [found[name]["state"] for name in (done, stopped, failed)] == [
        "completed, 60 steps",
        "stopped at step 60 of 60",
        "failed before the first step",
    ]
    assert found[done]["score"].startswith("accuracy 0.8")
    assert found[done]["age"].endswith("days ago")
    assert [found[name]["can_resume"] for name in (done, stopped, failed)] == [False, True, False]
    assert [found[name]["fork"] is None for name in (done, stopped, failed)] == [False, False, True]


def test_a_run_that_can_not_be_read_is_listed_and_hides_no_other(opened, session, write, tmp_path):
    done, broken = write(*LOG), write(*LOG)
    (tmp_path / broken / "events.jsonl").write_text("nonsense\n")
    panel = opened(RunsPanel, session)
    assert until(lambda: len(panel.state["rows"]) == 2)
    assert rows(panel)[broken]["state"] == "its plan or log can't be read"
    assert not rows(panel)[broken]["can_open"]
    assert rows(panel)[done]["can_open"]


def test_a_run_is_opened_and_then_marked_as_shown(opened, press, session, write):
    done, other = write(*LOG), write(*LOG)
    panel = opened(RunsPanel, session)
    assert until(lambda: len(panel.state["rows"]) == 2)
    press(panel, "open", name=done)
    assert until(lambda: session.run is not None and session.run.name == done)
    assert until(lambda: rows(panel)[done]["is_shown"])
    assert [rows(panel)[name]["can_open"] for name in (done, other)] == [False, True]
    assert until(lambda: rows(panel)[done]["keep"] == "it is the one that is shown: open another run first")


def test_what_takes_long_is_told_and_nothing_else_is_done_meanwhile(opened, press, session, write):
    done = write(*LOG)
    attach = session.attach

    def slow(name):
        time.sleep(0.5)
        return attach(name)

    session.attach = slow
    panel = opened(RunsPanel, session)
    assert until(lambda: panel.state["rows"])
    assert press(panel, "open", name=done)["doing"] == "opening …"
    press(panel, "delete", name=done)
    assert until(lambda: panel.state["doing"] == "")
    assert rows(panel)[done]["is_shown"]


def test_a_run_is_resumed_and_forked_from_a_step(opened, press, session, write):
    stopped = write(*LOG[:-1], STOPPED)
    panel = opened(RunsPanel, session)
    assert until(lambda: panel.state["rows"])
    assert begun(panel, stopped) == {"step": 40, "learning_rate": 0.001, "epochs": 3}
    press(panel, "resume", name=stopped)
    assert until(lambda: ("resume", {}) in session.calls)
    assert until(lambda: panel.state["doing"] == "")
    press(panel, "fork", name=stopped, step=50, learning_rate=1e-4, epochs=Plan().tuning.epochs)
    assert until(lambda: ("fork", {"step": 50, "learning_rate": 1e-4}) in session.calls)
    assert "learning_rate" in press(panel, "fork", name=stopped, step=50, learning_rate=-1)["problem"]["what"]


def test_a_fork_of_a_completed_run_trains_on_for_as_long_again(opened, press, session, write):
    by_epochs, by_steps = write(*LOG), write(*LOG, plan=Plan().change(max_steps=60, epochs=500))
    panel = opened(RunsPanel, session)
    assert until(lambda: panel.state["rows"])
    assert begun(panel, by_epochs) == {"step": 60, "learning_rate": 0.001, "epochs": 2 * Plan().tuning.epochs}
    assert begun(panel, by_steps) == {"step": 60, "learning_rate": 0.001, "max_steps": 120}
    press(panel, "fork", name=by_epochs, **begun(panel, by_epochs))
    assert until(lambda: ("fork", {"step": 60, "epochs": 2 * Plan().tuning.epochs}) in session.calls)


@pytest.mark.parametrize("action", ["resume", "fork"])
def test_a_click_that_fails_leaves_the_run_that_is_shown(opened, press, session, write, action):
    name = write(*LOG[:-1], STOPPED)
    run = session.shown(*LOG)

    def refuse(*_, **__):
        raise RunError("its rows have changed")

    made = session.handle

    def handle(name):
        broken = made(name)
        broken.resume = broken.fork = refuse
        return broken

    session.handle = handle
    panel = opened(RunsPanel, session)
    assert until(lambda: panel.state["rows"])
    press(panel, action, name=name, **({"step": 60} if action == "fork" else {}))
    assert until(lambda: panel.state["problem"] is not None)
    assert session.run is run
    assert panel.state["problem"]["what"] == "its rows have changed"


def test_a_run_whose_kernel_was_restarted_was_interrupted_and_did_not_fail(opened, session, write):
    told = write(*LOG[:30], RunFailed(step=22, what="the notebook disappeared", is_interruption=True))
    panel = opened(RunsPanel, session)
    assert until(lambda: panel.state["rows"])
    row = rows(panel)[told]
    assert (row["state"], row["tone"], row["can_resume"]) == ("interrupted at step 22 of 60", "stopped", True)


def test_a_deleted_run_is_gone_at_once_and_can_be_brought_back(opened, press, session, write, tmp_path):
    done, other = write(*LOG), write(*LOG)
    panel = opened(RunsPanel, session)
    assert until(lambda: len(panel.state["rows"]) == 2)
    press(panel, "delete", name=done)
    assert until(lambda: list(rows(panel)) == [other], seconds=2)
    assert panel.state["deleted"]["name"] == done
    assert panel.state["deleted"]["title"].startswith("sentiment: movies · MiniLM-L6 · head only · 2001-")
    press(panel, "restore", name=done)
    assert until(lambda: set(rows(panel)) == {done, other}, seconds=2)
    assert panel.state["deleted"]["count"] == 0
    assert (tmp_path / done / "events.jsonl").is_file()


def test_a_live_run_is_not_deleted_and_the_tab_says_that_one_goes_on(opened, press, session, write, tmp_path):
    live = write(*LOG[:30])
    with RunFolder(tmp_path / live).locked():  # another process executes it
        panel = opened(RunsPanel, session)
        assert until(lambda: panel.state["rows"])
        assert rows(panel)[live]["state"] == "training, step 22 of 60, elsewhere"
        assert rows(panel)[live]["keep"] == "it is in progress: stop it first"
        assert until(lambda: panel.attention == "a run goes on elsewhere")
        press(panel, "delete", name=live)
        assert until(lambda: panel.state["problem"] is not None)
        assert "in progress" in panel.state["problem"]["what"]


def test_a_run_of_another_notebook_appears_by_itself(opened, session, write):
    panel = opened(RunsPanel, session)
    assert until(lambda: panel.state["is_read"])
    done = write(*LOG)
    assert until(lambda: done in rows(panel), seconds=6)


def test_a_run_is_drawn_over_the_shown_one_until_it_is_no_longer_wanted(opened, press, session, write):
    names = [write(*LOG) for _ in range(5)]
    panel = opened(RunsPanel, session)
    assert until(lambda: len(panel.state["rows"]) == 5)
    for name in names[:4]:
        press(panel, "overlay", name=name)
    assert session.overlaid == tuple(names[1:4])  # three at most
    press(panel, "overlay", name=names[2])
    assert session.overlaid == (names[1], names[3])
    assert [name for name in names if rows(panel)[name]["is_overlaid"]] == [names[1], names[3]]


def test_runs_on_other_data_are_not_compared_and_the_row_says_why(opened, press, session, write):
    same, other = write(*LOG), write(*LOG, plan=Plan().change(source="sentiment:books"))
    other_task = write(*LOG, plan=Plan().change(task="language-modeling"))
    session.plan = Plan().change(task="text-classification")
    session.shown(*LOG)
    panel = opened(RunsPanel, session)
    assert until(lambda: len(panel.state["rows"]) == 3)
    said = {name: row["incomparable"] for name, row in rows(panel).items()}
    assert said == {same: "", other: "it learns from other data", other_task: "it has another task"}
    assert "it learns from other data" in press(panel, "overlay", name=other)["problem"]["what"]
    assert session.overlaid == ()


def test_a_fork_says_which_run_it_comes_from_and_from_which_step(opened, session, write):
    parent = write(*LOG)
    fork = write(RunForked(parent=parent, step=40, changes={"learning_rate": 1e-4}), *LOG[:3])
    orphan = write(RunForked(parent="gone", step=7, changes={}), *LOG[:3])
    panel = opened(RunsPanel, session)
    assert until(lambda: len(panel.state["rows"]) == 3)
    found = rows(panel)
    assert found[parent]["origin"] == ""
    assert found[fork]["origin"] == f"fork of the run of {found[parent]['when']} from step 40"
    assert found[orphan]["origin"] == "fork of a deleted run from step 7"


def test_reading_many_runs_keeps_nobody_waiting(opened, session, monkeypatch):
    def slow(root):
        time.sleep(0.5)
        return []

    monkeypatch.setattr(run_list, "summaries", slow)
    begun = time.perf_counter()
    panel = opened(RunsPanel, session)
    assert time.perf_counter() - begun < 0.3  # seconds
    assert not panel.state["is_read"]
    assert until(lambda: panel.state["is_read"])

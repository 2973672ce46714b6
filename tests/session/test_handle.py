import contextlib
import re
import time

import pytest
import tiny
import torch
from tiny_runs import PLAN, a_tiny_backbone_by_that_name  # noqa: F401
from waiting import until

import workbench
from workbench.errors import DataError, PlanError, RunError, WorkbenchError
from workbench.events import PlanAdjusted, RunChosen, RunEnded, RunPaused, RunResumed, StepEnded
from workbench.runs.disk import control
from workbench.session.session import Session

pytestmark = pytest.mark.slow

LONG = PLAN.change(max_steps=400, epochs=1000, evaluate_every=200)
SHORT = PLAN.change(max_steps=12, epochs=100, evaluate_every=4, dropout=0.3)


@pytest.fixture
def session(tmp_path):
    made = Session(LONG, table=tiny.frame(), runs=tmp_path)
    yield made
    for run in made.runs:
        with contextlib.suppress(WorkbenchError):
            run.stop().wait(10)


def weights(run, which="last"):
    return run.model(which).state_dict()


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def facts(run):
    return [event for event in run.events if isinstance(event, StepEnded)]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"batch_size": 4}, "batch_size can't change"),
        ({"learning_rate": -1}, "learning_rate is -1"),
        ({"lerning_rate": 1e-4}, "no field 'lerning_rate'"),
        ({"trainable": ("hed",)}, "hed"),
    ],
)
def test_a_change_that_can_not_be_is_refused_at_once(session, changes, words):
    session.prepare()
    run = session.start()
    until(lambda: run.step >= 1 and session.backbone is not None)
    before = run.plan
    with pytest.raises(PlanError, match=words):
        run.change(**changes)
    assert run.plan == before


def test_a_change_holds_from_the_next_step_on_and_is_in_the_plan_and_the_log(session):
    run = session.start()
    until(lambda: run.step >= 2)
    assert run.change(learning_rate=1e-5, evaluate_every=7) is run
    until(lambda: run.plan.tuning.learning_rate == 1e-5)
    run.stop().wait(20)
    (adjusted,) = [event for event in run.events if isinstance(event, PlanAdjusted)]
    assert adjusted.after == {"learning_rate": 1e-5, "evaluate_every": 7}
    rates = {step.step: step.learning_rate for step in facts(run)}
    assert rates[adjusted.step] > 1e-3 > 1.1e-5 > rates[adjusted.step + 1]
    assert session.plan.tuning.learning_rate == 0.01
    with pytest.raises(PlanError, match="is stopped"):
        run.change(learning_rate=1e-4)


def test_a_run_in_this_kernel_can_be_steered_through_its_folder(session):
    run = session.start()
    until(lambda: run.step >= 2)
    control.request(run.folder, "pause")
    until(lambda: run.state == "paused")
    control.request(run.folder, "change", learning_rate=1e-5)
    control.request(run.folder, "resume")
    until(lambda: run.plan.tuning.learning_rate == 1e-5)
    control.request(run.folder, "stop")
    until(lambda: run.state == "stopped")
    assert [type(event) for event in run.events if isinstance(event, (RunPaused, RunResumed))] == [
        RunPaused,
        RunResumed,
    ]


def test_a_stopped_run_goes_on_to_the_same_weights(tmp_path):
    undisturbed = Session(SHORT, table=tiny.frame(), runs=tmp_path / "one").start().wait(60)
    session = Session(SHORT, table=tiny.frame(), runs=tmp_path / "two")

    def stop(event):
        if isinstance(event, StepEnded) and event.step == 6:
            session.run.stop()

    unsubscribe = session.subscribe(stop)
    run = session.start().wait(60)
    unsubscribe()
    assert (run.state, run.step, run.is_alive) == ("stopped", 6, False)
    heard = []
    session.subscribe(heard.append)
    assert run.resume() is run
    assert not run.is_over
    assert run.wait(60).state == "completed"
    assert facts(run) == facts(undisturbed)
    assert same(weights(run), weights(undisturbed))
    assert isinstance(heard[0], RunResumed)
    assert session.run is run


def test_a_run_that_is_complete_does_not_go_on_and_says_what_does(session):
    session.change(max_steps=2)
    run = session.start().wait(30)
    with pytest.raises(RunError, match="completed") as caught:
        run.resume()
    assert "fork" in caught.value.hint


def test_a_failed_run_goes_on_once_its_cause_is_gone(session, monkeypatch):
    from workbench.training import engine

    take_step = engine.take_step

    def broken(learner):
        if learner.step == 1:
            raise DataError("no step today")
        return take_step(learner)

    monkeypatch.setattr(engine, "take_step", broken)
    session.change(max_steps=2)
    run = session.start()
    with pytest.raises(DataError):
        run.wait(30)
    monkeypatch.setattr(engine, "take_step", take_step)
    assert run.resume().wait(30).state == "completed"
    assert run.error is None


def test_a_run_whose_rows_are_others_now_does_not_go_on(tmp_path):
    rows = tiny.frame()
    session = Session(LONG, table=rows, runs=tmp_path)
    run = session.start()
    until(lambda: run.step >= 2)
    run.stop().wait(20)
    other = Session(LONG, runs=tmp_path).attach(run.name, table=rows.iloc[:30])
    with pytest.raises(RunError, match="differ from those"):
        other.resume().wait(20)
    again = Session(LONG, runs=tmp_path).attach(run.name)
    with pytest.raises(RunError, match="given as a table") as caught:
        again.resume()
    assert "table=" in caught.value.hint


def test_the_message_says_how_to_give_all_objects_again(tmp_path):
    given = tiny.backbone("bert")
    objects = {"table": tiny.frame(), "model": given.model, "preprocessor": given.preprocessor}
    name = Session(PLAN, runs=tmp_path, **objects).start().wait(30).name
    run = Session(PLAN, runs=tmp_path).attach(name)
    names = {
        "wb": workbench,
        "run": run,
        "frame": objects["table"],
        "model": given.model,
        "tokenizer": given.preprocessor,
    }
    for ask in (lambda: run.at(2).model(), lambda: run.measure("train"), lambda: run.fork(3)):
        with pytest.raises(RunError, match="given as a table and the model of this run was given as an obj") as caught:
            ask()
    line = re.search(r"wb\.attach\(.*?\)", caught.value.hint).group()
    again = eval(line, names)
    assert again.at(2).model() is not None
    assert "accuracy" in again.measure("train")
    assert again.fork(3, max_steps=8).wait(30).step == 8


def test_what_a_run_took_and_left_behind_is_told(session):
    session.change(max_steps=4, evaluate_every=2)
    run = session.start()
    assert run.is_alive
    assert run.load_line is None
    run.wait(30)
    assert not run.is_alive
    assert 0 <= run.seconds_silent < 30
    assert run.disk_bytes == sum(path.stat().st_size for path in run.folder.rglob("*") if path.is_file())
    loaded = {}
    exec(run.load_line, loaded)
    assert same(loaded["model"].state_dict(), weights(run, "best"))


def test_a_handle_of_a_run_of_long_ago_has_been_silent_for_long(session):
    session.change(max_steps=2)
    run = session.start().wait(30)
    time.sleep(0.3)
    assert run.seconds_silent > 0.25


def test_a_fork_knows_its_parent_and_what_differs(session):
    session.change(max_steps=6, evaluate_every=2)
    heard = []
    parent = session.start().wait(30)
    assert (parent.parent, parent.differences) == (None, {})
    session.subscribe(heard.append)
    fork = parent.fork(4, learning_rate=0.002)
    assert session.run is fork.wait(30)
    assert heard[0] == RunChosen(name=fork.name)
    assert fork.parent == parent.name
    assert repr(fork).endswith(f", step 6 of 6, forked from {parent.name} at step 4>")
    assert fork.differences == {"learning_rate": (0.01, 0.002)}
    assert fork.at(5).step == 5
    assert [event.name for event in heard if isinstance(event, RunChosen)] == [fork.name]


def test_what_a_run_says_that_is_not_shown_any_more_stays_with_its_handle(session):
    first = session.start()
    until(lambda: first.step >= 2)
    heard = []
    second = first.fork(1, max_steps=3)
    session.subscribe(heard.append)
    step = first.step
    until(lambda: first.step > step + 5)
    second.wait(30)
    first.stop().wait(30)
    assert {event.step for event in heard if isinstance(event, StepEnded)} <= {2, 3}
    assert [event.reason for event in heard if isinstance(event, RunEnded)] == ["completed"]

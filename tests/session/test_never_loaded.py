"""No run folder is left by a run whose data or backbone could not be loaded; a run that has begun is never removed."""

import pytest
import tiny

import workbench as wb
from workbench.errors import BackboneError, DataError, PlanError, RunError, WorkbenchError
from workbench.events import RunFailed
from workbench.events.run_state import RunState
from workbench.runs.disk.run_folder import RunFolder

TINY = wb.Plan().change(max_steps=2, batch_size=8, precision="fp32", max_rows=40)
BROKEN = {
    "no such file": ({"source": "no/such/file.csv"}, DataError),
    "no such column": ({"label_column": "lable"}, DataError),
    "no such backbone": ({"backbone": "/no/such/model"}, BackboneError),
    "images, and a model for text": ({"source": "fashion-mnist", "backbone": "minilm-l6"}, BackboneError),
    "no such block": ({"trainable": ["block 99"]}, PlanError),
    "no such metric": ({"stop_metric": "acuracy", "stop_mode": "max"}, PlanError),
}


@pytest.mark.parametrize("broken", BROKEN)
def test_in_the_kernel(tmp_path, broken):
    changes, error = BROKEN[broken]
    given = tiny.backbone("bert")
    objects = {"table": tiny.frame(), "model": given.model, "preprocessor": given.preprocessor}
    if {"source", "backbone"} & {*changes}:
        objects = {} if "source" in changes else {"table": tiny.frame()}
    session = wb.Session(TINY.change(**changes), **objects, runs=tmp_path / "runs")
    run = session.start()
    with pytest.raises(error):
        run.wait(60)
    assert run.state == "failed"
    assert isinstance(run.events[-1], RunFailed)
    assert "step 0" not in repr(run)
    assert list((tmp_path / "runs").iterdir()) == []
    assert len(session.unfinished()) == 0
    with pytest.raises(RunError, match=r"there is nothing to resume(.|\n)*session\.change\(…\), then session\.start"):
        run.resume()


def test_a_repaired_plan_starts_in_a_folder_of_its_own(tmp_path):
    given = tiny.backbone("bert")
    objects = {"table": tiny.frame(), "model": given.model, "preprocessor": given.preprocessor}
    session = wb.Session(TINY.change(label_column="lable"), **objects, runs=tmp_path)
    with pytest.raises(DataError):
        session.start().wait(60)
    session.change(label_column=None)
    run = session.start().wait(60)
    assert [path.name for path in tmp_path.iterdir()] == [run.name]
    assert (run.state, len(session.runs)) == ("completed", 2)


@pytest.mark.slow
def test_in_a_process(tmp_path):
    session = wb.Session(TINY.change(source="no/such/file.csv"), runs=tmp_path)
    run = session.start(where="process")
    with pytest.raises(RunError, match=r"there is no file 'no/such/file\.csv'"):
        run.wait(90)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(RunError, match="there is nothing to resume"):
        run.resume()


def test_by_the_plain_function_and_a_folder_that_was_given_stays(tmp_path):
    plan = TINY.change(source="no/such/file.csv")
    with pytest.raises(DataError):
        list(wb.run(plan, runs=tmp_path))
    assert list(tmp_path.iterdir()) == []
    folder = RunFolder.create(plan, tmp_path)
    with pytest.raises(DataError):
        list(wb.run(folder=folder))
    assert folder.path.exists()
    assert RunState(folder.events()).never_loaded


def test_what_has_begun_or_was_there_before_stays(tmp_path, monkeypatch):
    given = tiny.backbone("bert")
    objects = {"table": tiny.frame(), "model": given.model, "preprocessor": given.preprocessor}
    session = wb.Session(TINY.change(max_steps=6), **objects, runs=tmp_path)
    run = session.start().wait(60)
    monkeypatch.setattr("workbench.runs.run.learner_of", lambda *_: 1 / 0)  # a run that can't be built any more
    broken = RunFolder.create(run.plan, tmp_path)  # as a kernel that died has left it
    with pytest.raises(ZeroDivisionError):
        wb.attach(broken.name, runs=tmp_path, **objects)._execute().wait(60)
    assert {path.name for path in tmp_path.iterdir()} == {run.name, broken.name}


def test_a_fork_that_can_not_load_leaves_its_parent(tmp_path):
    given = tiny.backbone("bert")
    objects = {"table": tiny.frame(), "model": given.model, "preprocessor": given.preprocessor}
    run = wb.Session(TINY, **objects, runs=tmp_path).start().wait(60)
    with pytest.raises(WorkbenchError):
        run.fork(step=0, label_column="lable").wait(60)
    assert [path.name for path in tmp_path.iterdir()] == [run.name]


def test_who_watches_a_run_hears_that_its_folder_is_gone(tmp_path):
    folder = RunFolder.create(TINY, tmp_path)
    run = wb.attach(folder.name, runs=tmp_path)
    folder.remove()
    with pytest.raises(RunError, match=f"the folder of {folder.name} was deleted"):
        run.wait(20)


def test_the_class_of_runs_is_public():
    from workbench.session.handle import Run

    assert wb.Run is Run
    assert "Run" in dir(wb)

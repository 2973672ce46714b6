"""A deleted run can be brought back, a live one can't be deleted, and no name leads elsewhere."""

import pytest

from workbench.errors import RunError
from workbench.events import StepEnded
from workbench.plan.plan import Plan
from workbench.runs.disk import run_list
from workbench.runs.disk.run_folder import RunFolder
from workbench.runs.disk.trash import delete_run, deleted_runs, restore_run

STEP = StepEnded(step=1, epoch=0.1, loss=0.5, targets=8, rows=8, learning_rate=1e-3, gradient_norm=1.0, seconds=0.01)


@pytest.fixture
def folder(tmp_path):
    made = RunFolder.create(Plan(), tmp_path)
    made.append(STEP)
    made.close()
    return made


def names(root):
    return [run.name for run in run_list.summaries(root)]


def test_a_deleted_run_is_gone_from_the_list_and_comes_back_as_it_was(folder, tmp_path):
    delete_run(folder.name, tmp_path)
    assert names(tmp_path) == []
    assert deleted_runs(tmp_path) == [folder.name]
    restore_run(folder.name, tmp_path)
    assert names(tmp_path) == [folder.name]
    assert list(RunFolder(tmp_path / folder.name).events()) == [STEP]
    assert deleted_runs(tmp_path) == []


def test_the_run_that_was_deleted_last_comes_first(folder, tmp_path):
    other = RunFolder.create(Plan(), tmp_path)
    for name in sorted([folder.name, other.name], reverse=True):
        delete_run(name, tmp_path)
    assert deleted_runs(tmp_path)[0] == min(folder.name, other.name)


def test_a_live_run_is_not_deleted(folder, tmp_path):
    with folder.locked(), pytest.raises(RunError, match="in progress"):
        delete_run(folder.name, tmp_path)
    assert names(tmp_path) == [folder.name]


def test_a_run_does_not_take_the_place_of_another(folder, tmp_path):
    delete_run(folder.name, tmp_path)
    (tmp_path / folder.name).mkdir()
    with pytest.raises(RunError, match="there is a folder of that name"):
        restore_run(folder.name, tmp_path)


@pytest.mark.parametrize("name", ["nonsense", "../elsewhere", ".", "", ".trash"])
def test_only_names_of_runs_are_moved(folder, tmp_path, name):
    (tmp_path.parent / "elsewhere").mkdir(exist_ok=True)
    (tmp_path.parent / "elsewhere" / "plan.json").write_text(Plan().to_json())
    for act in (delete_run, restore_run):
        with pytest.raises(RunError, match="there is no run"):
            act(name, tmp_path)
    assert names(tmp_path) == [folder.name]

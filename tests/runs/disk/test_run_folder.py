import dataclasses
import json

import pytest
from sample_events import STARTED, STEP

from workbench.errors import PlanError, RunError
from workbench.events import EvaluationEnded, RunEnded, RunPaused
from workbench.plan.plan import Plan
from workbench.runs.disk import run_list
from workbench.runs.disk.run_folder import RunFolder
from workbench.runs.listing import list_runs

PLAN = Plan().change(backbone="org/My Model", learning_rate=1e-4)


def evaluated(step, loss, *, best):
    metrics = {"loss": loss, "accuracy": 0.75}
    return EvaluationEnded(step=step, split="validation", metrics=metrics, rows=4, targets=4, seconds=0.1, best=best)


def test_a_folder_is_named_by_time_backbone_and_four_letters(tmp_path):
    folder = RunFolder.create(PLAN, tmp_path)
    assert folder.path.parent == tmp_path
    assert "-my-model-" in folder.name
    assert len(folder.name.rsplit("-", 1)[1]) == 4
    assert folder.plan() == PLAN


def test_the_environment_says_what_a_repetition_needs(tmp_path):
    folder = RunFolder.create(PLAN, tmp_path)
    folder.note_environment(data="abc")
    noted = json.loads((folder.path / "environment.json").read_text())
    assert noted["data"] == "abc"
    assert set(noted["versions"]) >= {"torch", "transformers", "peft"}


def test_the_log_reads_back_in_order_and_forgives_a_line_cut_off_in_the_writing(tmp_path):
    folder = RunFolder.create(PLAN, tmp_path)
    for event in (STARTED, STEP):
        folder.append(event)
        assert list(folder.events())[-1] == event  # readable at once, with no close
    folder.close()
    with (folder.path / "events.jsonl").open("a") as log:
        log.write('{"event": "StepEn')
    assert list(folder.events()) == [STARTED, STEP]


@pytest.mark.parametrize("line", ["nonsense", "[]", '{"event": "Nothing"}', '{"event": "StepEnded"}'])
def test_a_line_that_is_no_event_is_named(tmp_path, line):
    folder = RunFolder.create(PLAN, tmp_path)
    folder.append(STARTED)
    folder.close()
    with (folder.path / "events.jsonl").open("a") as log:
        log.write(line + "\n")
    with pytest.raises(RunError):
        list(folder.events())


def test_runs_are_listed_with_their_state_and_best_loss(tmp_path):
    done, waiting = RunFolder.create(PLAN, tmp_path), RunFolder.create(PLAN.change(backbone="zeta"), tmp_path)
    (tmp_path / "no run").mkdir()
    for event in (
        STARTED,
        evaluated(0, 0.9, best=True),
        STEP,
        evaluated(3, 0.5, best=True),
        evaluated(6, 0.8, best=False),
    ):
        done.append(event)
    done.append(RunEnded(step=6, reason="stopped by the user"))
    waiting.append(STARTED)
    waiting.append(RunPaused(step=0))
    done.close()
    waiting.close()
    by_name = {summary.name: summary for summary in run_list.summaries(tmp_path)}
    assert set(by_name) == {done.name, waiting.name}
    first = by_name[done.name]
    assert (first.state, first.step, first.steps, first.best_loss) == ("stopped", 6, 10, 0.5)
    assert by_name[waiting.name].state == "paused"


def test_a_run_is_found_by_name_by_path_or_as_the_last(tmp_path):
    folder = RunFolder.create(PLAN, tmp_path)
    for name in (folder.name, str(folder.path), "last"):
        assert run_list.find(name, tmp_path).path.resolve() == folder.path.resolve()
    with pytest.raises(RunError, match="Did you mean"):
        run_list.find(folder.name[:-1], tmp_path)


def test_a_folder_that_is_no_run_says_so(tmp_path):
    with pytest.raises(RunError, match=r"no plan\.json"):
        RunFolder(tmp_path).plan()
    (tmp_path / "plan.json").write_text("{")
    with pytest.raises(PlanError):
        RunFolder(tmp_path).plan()


def test_a_root_that_cant_be_written_is_said(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="can't be written"):
        RunFolder.create(PLAN, tmp_path / "file")


def test_one_broken_run_hides_no_other(tmp_path):
    good, broken = RunFolder.create(PLAN, tmp_path), RunFolder.create(PLAN, tmp_path)
    (broken.path / "events.jsonl").write_bytes(b"\xff\xfe nonsense\n")
    states = {summary.name: summary.state for summary in run_list.summaries(tmp_path)}
    assert states == {good.name: "preparing", broken.name: "unreadable"}


def test_a_list_of_many_runs_is_read_once_and_again_only_where_it_changed(tmp_path, monkeypatch):
    folders = [RunFolder.create(PLAN, tmp_path) for _ in range(3)]
    for folder in folders:
        folder.append(STARTED)
        folder.close()
    run_list.summaries(tmp_path)
    read = []
    monkeypatch.setattr(RunFolder, "milestones", lambda self: read.append(self.name) or iter([]))
    run_list.summaries(tmp_path)
    assert read == []
    folders[1].append(RunEnded(step=1, reason="completed"))
    folders[1].close()
    run_list.summaries(tmp_path)
    assert read == [folders[1].name]


def test_of_successive_steps_only_the_last_is_read(tmp_path):
    folder = RunFolder.create(PLAN, tmp_path)
    steps = [dataclasses.replace(STEP, step=step) for step in range(1, 6)]
    ended = RunEnded(step=5, reason="completed")
    for event in (STARTED, *steps[:2], evaluated(2, 0.5, best=True), *steps[2:], ended):
        folder.append(event)
    folder.close()
    assert list(folder.milestones()) == [STARTED, steps[1], evaluated(2, 0.5, best=True), steps[-1], ended]


def test_the_table_of_runs_has_the_newest_first_with_its_score(tmp_path):
    older, newer = RunFolder.create(PLAN, tmp_path), RunFolder.create(PLAN.change(stop_metric="accuracy"), tmp_path)
    renamed = RunFolder(newer.path.rename(tmp_path / f"2{newer.name}"))
    score = dataclasses.replace(evaluated(3, 0.4, best=True), metrics={"loss": 0.4, "accuracy": 0.8})
    for event in (STARTED, score, RunEnded(step=3, reason="completed")):
        renamed.append(event)
    renamed.close()
    table = list_runs(tmp_path)
    assert list(table["run"]) == [renamed.name, older.name]
    assert (table["metric"][0], table["score"][0], table["state"][0]) == ("accuracy", 0.8, "completed")
    assert list(list_runs(tmp_path / "none").columns) == list(table.columns)

import asyncio
import contextlib
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import tiny
import torch
from tiny_runs import PLAN, a_tiny_backbone_by_that_name  # noqa: F401
from waiting import until

from workbench.errors import DataError, PlanError, RunError, WorkbenchError
from workbench.events import EvaluationEnded, PlanChanged, PreparationEnded, RunPaused, RunResumed, StepEnded
from workbench.session.session import Session

pytestmark = pytest.mark.slow

LONG = PLAN.change(max_steps=400, epochs=1000, evaluate_every=200)


@pytest.fixture
def session(tmp_path):
    made = Session(LONG, table=tiny.frame(), runs=tmp_path)
    yield made
    for run in made.runs:
        with contextlib.suppress(WorkbenchError):
            run.stop().wait(10)


def test_a_change_is_told_and_a_wrong_one_changes_nothing(session):
    heard = []
    session.subscribe(heard.append)
    session.change(learning_rate=1e-4)
    session.change(learning_rate=1e-4)
    with pytest.raises(PlanError):
        session.change(learning_rate=-1)
    assert heard == [PlanChanged(fields=("learning_rate",))]
    assert session.plan.tuning.learning_rate == 1e-4


def test_prepare_loads_data_then_backbone_and_again_when_their_choice_changes(session):
    heard = []
    session.subscribe(heard.append)
    session.prepare()
    until(lambda: PreparationEnded(part="examples") in heard)
    assert session.split.labels == ("negative", "positive")
    assert session.backbone.blocks
    heard.clear()
    session.change(max_rows=20)
    until(lambda: PreparationEnded(part="examples") in heard)
    assert len(session.split.train) < 20
    session.change(batch_size=4)
    assert session.split is not None


def test_a_preparation_that_fails_says_what_and_what_to_try(session):
    heard = []
    session.subscribe(heard.append)
    session.change(label_column="lable")
    session.prepare()
    until(lambda: any(isinstance(event, PreparationEnded) for event in heard))
    failed = next(event for event in heard if isinstance(event, PreparationEnded))
    assert (failed.part, "lable" in failed.what) == ("data", True)
    assert session.split is None


def test_pause_resume_and_stop_act_at_once(session):
    heard = []
    session.subscribe(heard.append)
    run = session.start()
    until(lambda: run.step >= 2)
    run.pause()
    until(lambda: run.state == "paused", seconds=5)
    step = run.step
    time.sleep(0.2)
    assert run.step == step
    run.resume()
    until(lambda: run.step > step, seconds=5)
    run.stop()
    until(lambda: run.state == "stopped", seconds=5)
    assert [type(e) for e in heard if isinstance(e, (RunPaused, RunResumed))] == [RunPaused, RunResumed]
    assert run.model("last") is not None


def test_a_paused_run_can_be_stopped(session):
    run = session.start().pause()
    until(lambda: run.state == "paused")
    assert run.stop().wait(5).state == "stopped"


def test_two_runs_at_once_are_refused_and_one_after_the_other_is_fine(session):
    first = session.start()
    with pytest.raises(RunError, match="still"):
        session.start()
    first.stop().wait(20)
    session.change(max_steps=2)
    assert session.start().wait(20).state == "completed"
    assert len(session.runs) == 2


def test_an_unknown_place_is_refused(session):
    with pytest.raises(RunError, match="expected 'kernel'"):
        session.start(where="cloud")


def test_awaiting_a_run_leaves_the_loop_free(session):
    session.change(max_steps=3)

    async def main():
        ticks = 0

        async def tick():
            nonlocal ticks
            while True:
                ticks += 1
                await asyncio.sleep(0.01)

        ticking = asyncio.create_task(tick())
        run = await session.start()
        ticking.cancel()
        return run, ticks

    with ThreadPoolExecutor(1) as thread:  # one without a loop: the browser tests leave theirs running in this one
        run, ticks = thread.submit(lambda: asyncio.run(main())).result()
    assert run.state == "completed"
    assert ticks > 3


def test_a_failed_run_raises_where_it_is_waited_for(session):
    session.change(text_column="txt")
    run = session.start()
    with pytest.raises(Exception, match="txt"):
        run.wait(20)
    assert run.state == "failed"


def test_the_models_of_a_run_best_last_and_backbone(session):
    session.change(max_steps=6, evaluate_every=3)
    session.prepare()
    until(lambda: session.backbone is not None)
    run = session.start().wait(30)
    before, last = run.model("backbone").state_dict(), run.model("last").state_dict()
    assert any(not torch.equal(before[name], last[name]) for name in before)
    assert torch.equal(session.backbone.model.classifier.weight, before["classifier.weight"])
    with pytest.raises(RunError, match="Did you mean 'best'"):
        run.model("bst")


def test_history_and_plot_show_the_run(session):
    session.change(max_steps=4, evaluate_every=2)
    run = session.start().wait(30)
    table = run.history()
    assert list(table[table.split == "train"].step) == [1, 2, 3, 4]
    assert list(table[table.split == "validation"].step) == [0, 2, 4]
    assert len(run.plot().axes) == 2


def test_time_left_is_told_once_a_step_was_taken(session):
    run = session.start()
    until(lambda: any(isinstance(event, StepEnded) for event in run.events))
    assert run.seconds_left > 0


def test_a_split_that_was_never_looked_at_can_be_measured(session):
    session.change(max_steps=6, evaluate_every=3)
    run = session.start().wait(30)
    before, after = run.measure("test", which="backbone"), run.measure("test")
    assert set(after) == {"loss", "accuracy", "macro_f1", "weighted_f1"}
    assert after["loss"] < before["loss"]
    validation = [event for event in run.events if isinstance(event, EvaluationEnded)]
    assert run.measure("validation", which="last") == dict(validation[-1].metrics)
    with pytest.raises(DataError, match="Did you mean 'test'"):
        run.measure("tset")


def test_what_the_panel_shows_stays_loaded_whatever_a_run_asks_for(session):
    session.change(max_steps=4, evaluate_every=2)
    session.prepare()
    until(lambda: session.backbone is not None)
    run = session.start()
    session.change(max_rows=20)
    run.wait(30)
    until(lambda: session.split is not None and session.backbone is not None)
    run.model("best")
    assert (session.split.rows, session.backbone is not None) == (20, True)


def test_changing_the_next_run_does_not_disturb_the_one_under_way(session, tmp_path):
    plan = session.change(max_steps=30, epochs=100, dropout=0.3)
    expected = Session(plan, table=tiny.frame(), runs=tmp_path / "alone").start().wait(60).model("last").state_dict()
    session.prepare()
    run = session.start()
    for seed in range(1, 200):
        if run.is_over:
            break
        session.change(seed=seed)
        time.sleep(0.01)
    found = run.wait(60).model("last").state_dict()
    assert all(torch.equal(expected[name], found[name]) for name in expected)


def test_stop_then_pause_still_stops(session):
    run = session.start()
    until(lambda: run.step >= 1)
    assert run.stop().pause().wait(10).state == "stopped"


def test_a_model_with_adapters_is_given_back_as_a_plain_one_that_can_be_saved(session, tmp_path):
    session.change(max_steps=4, evaluate_every=2, method="lora", learning_rate=0.05)
    run = session.start().wait(30)
    model = run.model("last")
    model.save_pretrained(tmp_path / "saved")
    again = type(model).from_pretrained(tmp_path / "saved")
    inputs = {"input_ids": torch.tensor([[4, 5, 6, 7]])}
    torch.testing.assert_close(again(**inputs).logits, model(**inputs).logits, rtol=0, atol=1e-6)
    untrained = run.model("backbone")(**inputs).logits
    assert not torch.allclose(untrained, model(**inputs).logits, atol=1e-4)


def test_a_paused_run_gives_back_the_last_model_kept(session):
    session.change(checkpoint_every=2)
    run = session.start()
    until(lambda: run.step >= 3)
    run.pause()
    until(lambda: run.state == "paused")
    assert run.model("last") is not None


def test_rows_given_as_a_table_are_recorded_as_such(session):
    assert session.plan.data.source == "table"
    assert session.start().stop().wait(20).plan.data.source == "table"

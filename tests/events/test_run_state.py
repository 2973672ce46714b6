import dataclasses

import pytest
from fakes import evaluation, log
from sample_events import STARTED, STEP

from workbench.events import (
    EvaluationEnded,
    ModelSaved,
    PlanAdjusted,
    RunEnded,
    RunFailed,
    RunForked,
    RunPaused,
    RunResumed,
)
from workbench.events.run_state import RunState


def evaluated(step, loss, *, best=False, split="validation"):
    return EvaluationEnded(step=step, split=split, metrics={"loss": loss}, rows=9, targets=9, seconds=0.1, best=best)


ENDED = RunEnded(step=9, reason="completed")
STOPPED = RunEnded(step=4, reason="stopped by the user")
EARLY = RunEnded(step=4, reason="stopped early: the validation loss has not improved for 3 evaluations, since step 1")
FAILED = RunFailed(step=4, what="no memory")


@pytest.mark.parametrize(
    ("events", "phase", "is_over"),
    [
        ([], "preparing", False),
        ([STARTED], "running", False),
        ([STARTED, STEP, RunPaused(step=3)], "paused", False),
        ([STARTED, RunPaused(step=3), RunResumed(step=3)], "running", False),
        ([STARTED, STEP, ENDED], "completed", True),
        ([STARTED, STEP, STOPPED], "stopped", True),
        ([STARTED, STEP, EARLY], "completed", True),
        ([STARTED, STEP, FAILED], "failed", True),
        ([STARTED, STEP, FAILED, RunResumed(step=3)], "running", False),
    ],
)
def test_the_phase_follows_the_events(events, phase, is_over):
    state = RunState(events)
    assert (state.phase, state.is_over) == (phase, is_over)


def test_steps_evaluations_and_the_best_of_them():
    state = RunState([STARTED, evaluated(0, 0.9, best=True), STEP, evaluated(3, 0.5, best=True), evaluated(6, 0.7)])
    assert (state.step, state.steps) == (3, 10)
    assert (state.evaluated_step, state.metrics["loss"]) == (6, 0.7)
    assert (state.best_step, state.best_loss) == (3, 0.5)
    assert state.note(evaluated(6, 0.1, split="test")).evaluated_step == 6
    assert state.best_loss == 0.5


def test_changes_of_the_plan_are_counted_and_the_last_one_holds():
    first = PlanAdjusted(step=2, before={"learning_rate": 1.0}, after={"learning_rate": 0.1})
    state = RunState([first, dataclasses.replace(first, after={"learning_rate": 0.2})])
    assert (state.adjustments, state.changed) == (2, {"learning_rate": 0.2})


def test_where_it_came_from_what_it_saved_and_why_it_ended():
    forked = RunForked(parent="other", step=4, changes={})
    model = ModelSaved(step=4, which="best", folder="model", size_bytes=1, load="")
    state = RunState([forked, model, FAILED])
    assert (state.parent, state.model, state.ending, state.failure) == (forked, model, FAILED, FAILED)
    state.reopen()
    assert (state.phase, state.failure) == ("preparing", None)


def test_it_began_with_its_first_event():
    assert RunState().began is None
    assert RunState([dataclasses.replace(STARTED, time=5.0), dataclasses.replace(STEP, time=7.0)]).began == 5.0


def test_a_whole_log_gives_its_end_and_its_best_step():
    events = log(60)
    state = RunState(events)
    assert (state.phase, state.step, state.steps, state.is_over) == ("completed", 60, 60, True)
    best = max((event for event in events if getattr(event, "best", False)), key=lambda event: event.step)
    assert (state.best, state.best_step, state.best_loss) == (best, best.step, best.metrics["loss"])


def test_evaluations_since_the_best_one_are_counted():
    waited = RunState()
    counts = [waited.note(evaluation(step, 0.5, best=step in (0, 30))).waited for step in (0, 10, 20, 30, 40)]
    assert counts == [0, 1, 2, 0, 1]
    assert waited.note(evaluation(50, 0.5, split="test")).waited == 1

"""What the events of a run say of it as a whole."""

import pytest
from fakes import evaluation, log

from workbench.events import RunEnded, RunFailed, RunPaused, RunResumed, StageStarted
from workbench.events.run_state import RunState

STAGE = StageStarted(stage="reading the data")


def test_a_whole_log_gives_its_end_and_its_best_step():
    events = log(60)
    state = RunState(events)
    assert (state.phase, state.step, state.steps, state.is_over) == ("completed", 60, 60, True)
    best = max((event for event in events if getattr(event, "best", False)), key=lambda event: event.step)
    assert (state.best, state.best_step, state.best_loss) == (best, best.step, best.metrics["loss"])


@pytest.mark.parametrize(
    ("reason", "phase"),
    [
        ("completed", "completed"),
        ("stopped early: the validation loss has not improved for 5 evaluations, since step 0", "completed"),
        ("stopped by the user", "stopped"),
    ],
)
def test_a_run_that_stopped_early_is_completed(reason, phase):
    assert RunState([*log(60)[:-1], RunEnded(step=60, reason=reason)]).phase == phase


def test_each_turn_of_a_run_has_its_phase():
    state, begun = RunState(), log(60)[:20]
    assert (state.phase, state.began) == ("preparing", None)
    told = [
        STAGE,
        *begun,
        RunPaused(step=9),
        RunResumed(step=9),
        RunFailed(step=9, what="x"),
        RunResumed(step=9),
        STAGE,
    ]
    phases = [state.note(event).phase for event in told]
    assert phases[0] == "preparing"
    assert phases[len(begun) :] == ["running", "paused", "running", "failed", "running", "preparing"]
    assert state.ending is None


def test_evaluations_since_the_best_one_are_counted():
    waited = RunState()
    counts = [waited.note(evaluation(step, 0.5, best=step in (0, 30))).waited for step in (0, 10, 20, 30, 40)]
    assert counts == [0, 1, 2, 0, 1]
    assert waited.note(evaluation(50, 0.5, split="test")).waited == 1

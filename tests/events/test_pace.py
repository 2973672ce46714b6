import pytest
from sample_events import STARTED, STEP

from workbench.events import EvaluationEnded, RunForked
from workbench.events.pace import Pace


def evaluated(step):
    return EvaluationEnded(step=step, split="validation", metrics={"loss": 1.0}, rows=1, targets=1, seconds=6.0)


def test_nothing_is_said_before_a_step_was_taken():
    pace = Pace()
    pace.note(STARTED)
    assert (pace.steps, pace.seconds_left) == (10, None)


def test_time_left_is_the_median_step_and_the_share_of_an_evaluation():
    pace = Pace()
    for event in (STARTED, evaluated(0), STEP, evaluated(3)):
        pace.note(event)
    assert pace.seconds_left == pytest.approx(7 * (0.01 + 6.0 / 3))


def test_a_fork_begins_at_its_step():
    pace = Pace()
    pace.note(RunForked(parent="first", step=12, changes={}))
    assert pace.step == 12

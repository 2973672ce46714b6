import inspect

import pytest

import widgets
import workbench
from workbench.events import EvaluationEnded, RunEnded
from workbench.practices.table import TABLE, practices


@pytest.fixture(params=TABLE, ids=lambda practice: practice.slug)
def practice(request):
    return request.param


def test_numbers_rise_and_slugs_are_unique():
    assert sorted(TABLE, key=lambda practice: practice.number) == list(TABLE)
    assert [*practices] == [practice.slug for practice in TABLE]


def test_the_practices_explain_themselves():
    assert "a plan that is a good start" in inspect.getdoc(workbench.practices)
    assert "tuning: Hyperparameters" in repr(workbench.practices)
    assert practices["tuning"].plan.tuning.learning_rate == 2e-4
    assert "nothing" not in practices


def test_a_practice_names_panels_that_exist(practice):
    assert all(hasattr(widgets, name) for name in practice.panels)


@pytest.mark.slow
def test_its_starting_plan_runs_on_real_weights_and_rows(practice, tmp_path):
    plan = practice.plan.change(max_steps=2, evaluation_rows=8, evaluate_every=2)
    events = list(workbench.run(plan, runs=tmp_path))
    assert isinstance(events[-1], RunEnded)
    assert events[-1].reason == "completed"
    assert [event.step for event in events if isinstance(event, EvaluationEnded)] == [0, 2]

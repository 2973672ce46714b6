from pathlib import Path

import pytest

import workbench
from workbench.events import EvaluationEnded, RunEnded
from workbench.practices import TABLE, practices

ROOT = Path(workbench.__file__).parent


@pytest.fixture(params=TABLE, ids=lambda practice: practice.slug)
def practice(request):
    return request.param


def test_numbers_rise_and_slugs_are_unique():
    assert sorted(TABLE, key=lambda practice: practice.number) == list(TABLE)
    assert [*practices] == [practice.slug for practice in TABLE]


def test_a_practice_has_its_folder_and_names_panels(practice):
    assert (ROOT / practice.slug / "__init__.py").is_file()
    assert practice.panels


@pytest.mark.slow
def test_its_starting_plan_runs_on_real_weights_and_rows(practice, tmp_path):
    plan = practice.plan.change(max_steps=2, evaluation_rows=8, evaluate_every=2)
    events = list(workbench.run(plan, runs=tmp_path))
    assert isinstance(events[-1], RunEnded)
    assert events[-1].reason == "completed"
    assert [event.step for event in events if isinstance(event, EvaluationEnded)] == [0, 2]

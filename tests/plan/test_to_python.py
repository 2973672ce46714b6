from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

import workbench as wb
from workbench.errors import PlanError
from workbench.plan.plan import Plan

texts = st.text(max_size=12)
changes = st.fixed_dictionaries(
    {},
    optional={
        "source": texts,
        "text_column": st.none() | texts | st.lists(texts, min_size=1, max_size=3, unique=True),
        "text_separator": texts,
        "learning_rate": st.floats(1e-8, 10),
        "epochs": st.floats(0.001, 10_000),
        "trainable": st.sampled_from(["all", "last 3", ("block 1", "head")]),
        "schedule": st.sampled_from(["linear", "constant"]),
        "dropout": st.none() | st.floats(0, 0.95),
        "max_steps": st.none() | st.integers(1, 10**9),
    },
)


def carried_out(monkeypatch, code, **known):
    """Run the lines with a session that only notes what it gets; return its arguments."""
    seen = {}

    def session(plan, **objects):
        seen.update(objects, plan=plan)
        run = SimpleNamespace(wait=lambda: seen.update(ended=True))
        return SimpleNamespace(start=lambda: run)

    monkeypatch.setattr(wb, "Session", session)
    exec(compile(code, "plan.py", "exec"), dict(known))
    return seen


@given(changes=changes)
def test_the_lines_make_an_equal_plan_and_wait_for_the_end_of_its_run(changes):
    try:
        plan = Plan().change(**changes)
    except PlanError:  # a text with half a character
        return
    code = plan.to_python()
    with pytest.MonkeyPatch.context() as monkeypatch:
        assert carried_out(monkeypatch, code) == {"plan": plan, "ended": True}
    assert all(line.isprintable() for line in code.split("\n"))  # what is shown is what is run


def test_only_what_differs_from_the_default_is_written():
    assert Plan().to_python() == "import workbench as wb\n\nplan = wb.Plan()\nrun = wb.Session(plan).start().wait()\n"
    assert (
        'plan = wb.Plan().change(trainable="last 2", epochs=1.0)\n'
        in Plan().change(epochs=1, trainable="last 2").to_python()
    )


def test_many_changes_have_a_line_each():
    code = wb.practices["monitoring"].plan.to_python()
    assert '\nplan = wb.Plan().change(\n    backbone="smollm2-135m",\n    source="shakespeare",\n' in code
    assert max(map(len, code.splitlines())) <= 79


def test_objects_that_the_session_was_given_are_named(monkeypatch):
    plan = Plan().change(source="table", backbone="object", epochs=2)
    code = plan.to_python(given=["table", "model", "preprocessor"])
    assert "plan = wb.Plan().change(epochs=2.0)\n" in code
    seen = carried_out(monkeypatch, code, table=1, model=2, preprocessor=3)
    assert seen == {"plan": Plan().change(epochs=2), "table": 1, "model": 2, "preprocessor": 3, "ended": True}

from fakes import FakeSession, until

from widgets import PlanPanel
from workbench.plan.plan import Plan

PLAN = Plan().change(learning_rate=1e-4, epochs=1)


def test_it_shows_the_lines_that_start_the_run(opened):
    session = FakeSession()
    panel = opened(PlanPanel, session)
    assert panel.state["summary"] == "default"
    session.change(learning_rate=1e-4, epochs=1)
    assert until(lambda: panel.state["code"] == PLAN.to_python())
    assert panel.state["summary"] == "2 fields changed"
    assert Plan.from_json(panel.state["json"]) == PLAN


def test_it_names_the_objects_that_the_session_was_given(opened):
    session = FakeSession(PLAN)
    session.objects = ("table",)
    assert "wb.Session(plan, table=table)" in opened(PlanPanel, session).state["code"]


def test_a_plan_is_saved_listed_and_opened_with_undo(opened, press, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    session = FakeSession(PLAN)
    panel = opened(PlanPanel, session)
    state = press(panel, "save", name="first")
    assert state["said"] == f"saved as {tmp_path / 'first.json'}"
    assert (state["error"], state["files"]) == ("", ["first.json"])
    session.change(batch_size=8, epochs=5)
    state = press(panel, "open", name="first.json")
    assert session.plan == PLAN
    assert (state["said"], state["can_undo"]) == ("opened first.json: 2 fields changed", True)
    state = press(panel, "undo")
    assert session.plan == PLAN.change(batch_size=8, epochs=5)
    assert not state["can_undo"]


def test_a_file_with_the_same_plan_changes_nothing(opened, press):
    state = press(opened(PlanPanel, FakeSession(PLAN)), "upload", name="mine.json", text=PLAN.to_json())
    assert (state["said"], state["can_undo"]) == ("mine.json is this plan", False)


def test_undo_is_not_offered_once_the_opened_plan_was_changed(opened, press, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    session = FakeSession(PLAN)
    panel = opened(PlanPanel, session)
    Plan().save("plan.json")
    assert press(panel, "open", name="plan.json")["can_undo"]
    session.change(seed=3)
    assert until(lambda: not panel.state["can_undo"])


def test_nothing_is_overwritten_without_asking(opened, press, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Plan().save("plan.json")
    session = FakeSession(PLAN)
    panel = opened(PlanPanel, session)
    state = press(panel, "save", name="")
    assert (state["error"], state["in_the_way"]) == ("plan.json exists already", "plan.json")
    assert Plan.open("plan.json") == Plan()
    state = press(panel, "save", name="plan.json", replace=True)
    assert (state["error"], state["in_the_way"]) == ("", None)
    assert Plan.open("plan.json") == PLAN


def test_what_can_not_be_opened_is_told_in_the_panel_and_changes_nothing(opened, press, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    PLAN.save("plan.json")
    session = FakeSession()
    panel = opened(PlanPanel, session)
    state = press(panel, "open", name="plam.json")
    assert state["error"] == "there is no file 'plam.json'. Did you mean 'plan.json'?"
    state = press(panel, "open", name="another")
    assert state["error"] == "there is no file 'another.json'; choose a file from the list, or press Save to make one"
    state = press(panel, "upload", name="mine.json", text='{"tuning": {"learning_rate": 20}}')
    assert "learning_rate is 20; it must be between 1e-8 and 10" in state["error"]
    assert (session.plan, state["said"], state["can_undo"]) == (Plan(), "", False)


def test_an_uploaded_plan_is_opened_and_named(opened, press):
    session = FakeSession()
    state = press(opened(PlanPanel, session), "upload", name="mine.json", text=PLAN.to_json())
    assert session.plan == PLAN
    assert (state["said"], state["name"]) == ("opened mine.json: 2 fields changed", "mine.json")


def test_objects_of_the_session_stay_when_a_plan_is_opened(opened, press):
    session = FakeSession(Plan().change(source="table"))
    session.objects = ("table",)
    press(opened(PlanPanel, session), "upload", name="mine.json", text=PLAN.to_json())
    assert session.plan == PLAN.change(source="table")

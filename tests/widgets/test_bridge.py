import itertools
import threading
import time

import fakes
import ipywidgets as ipw
import pytest
from fakes import FakeSession, until

from widgets import CurvesPanel, FreezePanel, RunPanel, bridge
from workbench.errors import RunError
from workbench.events import PlanChanged, RunChosen, RunEnded, StageStarted, StepEnded

pytestmark = pytest.mark.slow  # the whole file takes some seconds


def pumps():
    return [thread for thread in threading.enumerate() if thread.name == "panels" and thread.is_alive()]


@pytest.fixture(autouse=True)
def none_left():
    ipw.Widget.close_all()  # a test of another file may have left a panel open
    assert until(lambda: not pumps())
    yield
    assert until(lambda: not pumps()), "a thread outlived its panels"


def test_one_thread_serves_all_panels_of_a_session_and_ends_with_the_last(opened):
    session = FakeSession()
    first, second = opened(RunPanel, session), opened(CurvesPanel, session)
    assert len(pumps()) == 1
    first.close()
    time.sleep(0.4)
    assert len(pumps()) == 1
    second.close()
    assert until(lambda: not pumps())
    assert not session.bus._watchers
    third = opened(RunPanel, session)
    session.change(epochs=2)
    assert len(pumps()) == 1
    third.close()


def test_a_run_reaches_the_panels_without_anybody_asking(opened):
    session = FakeSession(events=fakes.log(40), pace=0.001)
    panel = opened(RunPanel, session)
    session.start()
    assert until(lambda: panel.state["phase"] == "completed")
    assert panel.state["percent"] == 100


def test_updates_come_four_times_a_second_whatever_the_speed(opened):
    session = FakeSession(events=fakes.log(2000, every=500), pace=0)
    panel = opened(CurvesPanel, session)
    updates = []
    panel.observe(lambda change: updates.append(time.monotonic()), "state")
    session.start()
    assert until(lambda: panel.state["last_step"] == 2000)
    gaps = [later - sooner for sooner, later in itertools.pairwise(updates)]
    assert all(gap >= 0.9 * bridge.INTERVAL for gap in gaps)


def test_a_panel_that_comes_late_sees_what_already_happened_once(opened):
    session = FakeSession(events=fakes.log(60), pace=0.005)
    early = opened(CurvesPanel, session)
    run = session.start()
    assert until(lambda: run.step > 20)
    late = opened(CurvesPanel, session)
    assert late.state["last_step"] > 20
    assert until(lambda: early.state["last_step"] == late.state["last_step"] == 60)
    assert late.state["training"] == early.state["training"]
    assert late.state["validation"] == early.state["validation"]


def test_an_error_in_one_panel_shows_there_and_the_others_go_on(opened):
    class Broken(RunPanel):
        def note(self, event):
            raise ValueError("no such colour")

    session = FakeSession()
    broken, sound = opened(Broken, session), opened(RunPanel, session)
    session.bus.publish(StageStarted(stage="reading the data"))
    assert until(lambda: broken.state["problem"] is not None)
    assert "no such colour" in broken.state["problem"]["what"]
    assert "Traceback" in broken.state["problem"]["details"]
    assert until(lambda: sound.state["words"] == "preparing · reading the data")


def test_an_error_in_a_callback_shows_in_the_panel_and_can_be_dismissed(opened, press):
    def refuse():
        raise RunError("the folder can't be written", hint="stop it first")

    session = FakeSession()
    panel = opened(RunPanel, session)
    session.shown(*fakes.log(500)[:20], stop=refuse)
    problem = press(panel, "stop")["problem"]
    assert problem["what"] == "the folder can't be written"
    assert problem["hint"] == "stop it first"
    assert press(panel, "dismiss")["problem"] is None


def test_what_the_page_may_not_ask_for_is_ignored(opened, press):
    panel = opened(RunPanel)
    press(panel, "close")
    press(panel, "_start")
    panel._handle_custom_msg({"nonsense": 1}, [])
    assert panel.session.calls == []


def test_a_message_that_is_sent_again_is_answered_again_and_done_once(opened, monkeypatch):
    panel = opened(FreezePanel)
    answers = []
    monkeypatch.setattr(panel, "send", answers.append)
    for _ in range(2):
        panel._handle_custom_msg({"do": "preset", "name": "all", "id": "x1"}, [])
    assert answers == [{"heard": "x1"}, {"heard": "x1"}]
    assert [name for name, _ in panel.session.calls].count("change") == 1


def test_a_panel_that_no_page_shows_is_not_redrawn_until_one_does(opened, press):
    session = FakeSession()
    panel = opened(RunPanel, session)
    press(panel, "seen", viewer="a")
    press(panel, "gone", viewer="a")
    assert not panel.is_seen
    session.bus.publish(StageStarted(stage="reading the data"))
    time.sleep(0.6)
    assert panel.state["phase"] == "none"
    panel._handle_custom_msg({"do": "seen", "viewer": "b"}, [])
    assert until(lambda: panel.state["words"] == "preparing · reading the data")


def test_events_cost_the_training_thread_next_to_nothing(opened):
    session = FakeSession()
    opened(CurvesPanel, session)
    opened(RunPanel, session)
    step = fakes.log(1)[4]
    assert isinstance(step, StepEnded)
    times = []
    for _ in range(2000):
        begun = time.perf_counter()
        session.bus.publish(step)
        times.append(time.perf_counter() - begun)
    assert sorted(times)[1000] < 50e-6  # seconds at the median; a step on cached features takes 300e-6


def test_a_panel_only_hears_what_it_wants(opened):
    heard = []

    class Listening(RunPanel):
        kinds = frozenset({RunEnded})

        def note(self, event):
            heard.append(type(event))

    session = FakeSession()
    opened(Listening, session)
    session.bus.publish(PlanChanged(fields=("epochs",)))
    session.bus.publish(RunEnded(step=1, reason="completed"))
    assert until(lambda: heard)
    assert heard == [RunEnded]


def test_a_panel_that_comes_while_a_run_is_taken_over_sees_each_event_once_and_in_order(opened):
    """A run of before is attached to: the handle has all of its events, and they are only now being told."""
    heard = []

    class Listening(CurvesPanel):
        def note(self, event):
            heard.append(event)
            super().note(event)

    session = FakeSession()
    opened(RunPanel, session)  # the pump runs
    log = fakes.log(60)
    run = session.shown()
    run.events += log
    for event in log[:30]:
        session.bus.publish(event)
    late = opened(Listening, session)
    for event in log[30:]:
        session.bus.publish(event)
        time.sleep(0.01)  # several turns of the pump
    assert until(lambda: late.state["last_step"] == 60)
    time.sleep(0.4)
    assert heard == [event for event in log if type(event) in CurvesPanel.kinds]


def test_a_run_that_is_chosen_right_after_a_panel_came_is_seen_whole(opened):
    session = FakeSession()
    opened(RunPanel, session)
    log = fakes.log(60)
    run = session.shown(*log[:30])
    late = opened(CurvesPanel, session)
    session.bus.publish(RunChosen(name=run.name))  # it is told all over again
    for event in log:
        session.bus.publish(event)
    assert until(lambda: late.state["last_step"] == 60)
    assert len(late.state["training"]["x"]) == 4 * 60  # bytes


def test_work_in_the_background_shows_its_result_or_its_error(opened):
    panel = opened(RunPanel)
    results = []
    panel.background(lambda: 6 * 7, then=results.append)
    assert until(lambda: results == [42])
    panel.background(lambda: 1 / 0)
    assert until(lambda: panel.state["problem"] is not None)
    assert "ZeroDivisionError" in panel.state["problem"]["what"]
    panel.background(lambda: 1 / 0, failed=results.append)
    assert until(lambda: len(results) == 2)
    assert isinstance(results[1], ZeroDivisionError)

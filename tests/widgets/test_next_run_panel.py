"""What Start will run; and Start can be pressed only if it would lead to a run."""

import threading

import fakes
import pytest
from fakes import FakeSession, until

from widgets import NextRunPanel
from workbench.events import PreparationEnded


@pytest.fixture
def session(backbone, split):
    """A session that has loaded what its plan names."""
    return FakeSession(backbone=backbone, split=split, events=fakes.log(2000), pace=0.005)


def test_start_says_what_it_will_run(opened, session):
    panel = opened(NextRunPanel, session)
    assert until(lambda: panel.state["can_start"])
    assert panel.state["words"] == "ready to start"
    assert panel.state["title"] == "sentiment: movies · MiniLM-L6 · head only"
    session.change(epochs=3, trainable="last 2")
    assert until(lambda: panel.state["title"].endswith("last 2 blocks"))
    assert panel.state["can_start"]


def test_a_panel_that_is_opened_later_knows_what_was_loaded_before(opened, session):
    first = opened(NextRunPanel, session)
    assert until(lambda: first.state["can_start"])
    assert opened(NextRunPanel, session).state["can_start"]
    session.bus.publish(PreparationEnded(part="data", what="no file film.csv"))
    assert until(lambda: first.state["words"] == "Start is off: no file film.csv")
    assert opened(NextRunPanel, session).state["words"] == "Start is off: no file film.csv"


def test_while_something_loads_it_says_what_start_waits_for(opened, session):
    split, session.split = session.split, None
    panel = opened(NextRunPanel, session)
    assert panel.state["words"] == "loading the data …"
    assert not panel.state["can_start"]
    session.split, backbone, session.backbone = split, session.backbone, None
    session.bus.publish(PreparationEnded(part="data"))
    assert until(lambda: panel.state["words"] == "loading the backbone …")
    session.backbone = backbone
    session.bus.publish(PreparationEnded(part="backbone"))
    assert until(lambda: panel.state["words"] == "preparing the rows …")
    session.bus.publish(PreparationEnded(part="examples"))
    assert until(lambda: panel.state["can_start"])


def test_a_long_reason_is_not_cut_but_told_where_the_error_is(opened, session):
    panel = opened(NextRunPanel, session)
    session.bus.publish(PreparationEnded(part="data", what=f"there is no file {'folder/' * 20}film.csv"))
    assert until(lambda: panel.state["words"] == "Start is off: see the error below")


@pytest.mark.parametrize("part", ["data", "backbone", "examples"])
def test_what_could_not_be_loaded_turns_start_off_until_the_plan_is_repaired(opened, press, session, part):
    panel = opened(NextRunPanel, session)
    assert until(lambda: panel.state["can_start"])
    session.bus.publish(PreparationEnded(part=part, what="no file film.csv"))
    assert until(lambda: panel.state["words"] == "Start is off: no file film.csv")
    assert panel.state["is_wrong"]
    press(panel, "start")
    assert "start" not in [name for name, _ in session.calls]  # a page that is behind changes nothing
    session.change(learning_rate=1e-4)  # this repairs nothing
    assert not until(lambda: panel.state["can_start"], seconds=0.5)
    session.change(source="sentiment:books")
    assert until(lambda: panel.state["words"] == "preparing the rows …")
    assert not panel.state["is_wrong"]
    session.prepare()
    assert until(lambda: panel.state["can_start"])


def test_start_says_at_once_that_it_starts_and_can_not_be_pressed_twice(opened, press, session):
    may_start = threading.Event()
    start = session.start

    def slow_start(**choices):
        assert may_start.wait(5)
        return start(**choices)

    session.start, session.where = slow_start, "process"
    panel = opened(NextRunPanel, session)
    assert until(lambda: panel.state["can_start"])
    state = press(panel, "start")
    assert state["words"] == "starting a process …"
    assert not state["can_start"]
    press(panel, "start")
    may_start.set()
    assert until(lambda: panel.state["words"] == "a run is in progress: stop it first")
    assert [name for name, _ in session.calls].count("start") == 1
    session.run.stop()
    assert until(lambda: panel.state["can_start"])


def test_a_process_that_takes_long_to_start_is_told_in_seconds(opened, session):
    panel = opened(NextRunPanel, session)
    session.shown(where="process")  # no event yet
    assert until(lambda: panel.state["words"] == "starting a process …")
    assert until(lambda: panel.state["words"] in ("starting a process … 1 s", "starting a process … 2 s"))
    assert not panel.state["can_start"]


def test_a_start_that_fails_can_be_tried_again(opened, press, session):
    def refuse(**_):
        raise OSError("the disk is full")

    session.start = refuse
    panel = opened(NextRunPanel, session)
    assert until(lambda: panel.state["can_start"])
    press(panel, "start")
    assert until(lambda: panel.state["problem"] is not None)
    assert "the disk is full" in panel.state["problem"]["what"]
    assert panel.state["can_start"]


def test_the_place_of_the_next_run_can_be_chosen(opened, press, session):
    panel = opened(NextRunPanel, session)
    assert until(lambda: panel.state["can_start"])
    assert [option["title"] for option in panel.state["place"]["options"]] == ["this notebook", "its own process"]
    assert press(panel, "place", value="process")["place"]["value"] == "process"
    press(panel, "start")
    assert until(lambda: ("start", {"where": "process"}) in session.calls)
    session.run.stop()


def test_it_says_that_marked_fields_also_change_the_run_under_way_as_long_as_one_is(opened, session):
    panel = opened(NextRunPanel, session)
    assert until(lambda: panel.state["can_start"])
    assert not panel.state["is_live"]
    run = session.shown(*fakes.log(60)[:30])
    assert until(lambda: panel.state["is_live"])
    run.tell(fakes.log(60)[-1])
    assert until(lambda: not panel.state["is_live"])

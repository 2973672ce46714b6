import fakes
import pytest
from fakes import FakeSession, until

from widgets import RunPanel
from workbench.events import RunFailed, RunPaused, RunStarted, StageStarted, StepEnded


def shown(panel, *events):
    for event in events:
        panel.show(event)
    panel.refresh()
    return panel.state


def buttons(state):
    return [name for name in ("start", "pause", "stop") if state[f"can_{name}"]]


def test_before_a_run_only_start_acts(opened):
    state = opened(RunPanel).state
    assert state["words"] == "ready to start"
    assert buttons(state) == ["start"]
    assert state["title"] == "sentiment: movies · MiniLM-L6 · head only"


def test_a_log_replays_to_its_end_in_words(opened):
    state = shown(opened(RunPanel), *fakes.log(60))
    assert state["words"] == "completed at step 60 · best model at step 50"
    assert state["percent"] == 100
    assert buttons(state) == ["start"]


def test_progress_is_told_from_event_to_event(opened):
    panel = opened(RunPanel)
    log = fakes.log(60)
    assert shown(panel, StageStarted(stage="reading the data"))["words"] == "preparing · reading the data"
    assert buttons(panel.state) == ["pause", "stop"]
    started = next(event for event in log if isinstance(event, RunStarted))
    assert shown(panel, started)["words"] == "training · step 0 of 60"
    steps = [event for event in log if isinstance(event, StepEnded)]
    assert shown(panel, *steps[:10])["words"] == "training · step 10 of 60"
    assert panel.state["percent"] == pytest.approx(100 / 6, abs=0.1)
    assert shown(panel, RunPaused(step=10))["words"] == "paused at step 10"
    assert buttons(panel.state) == ["pause", "stop"]


def test_an_evaluation_under_way_is_told(opened):
    progress = next(event for event in fakes.log(20) if type(event).__name__ == "EvaluationProgressed")
    events = fakes.log(20)
    state = shown(opened(RunPanel), *events[: events.index(progress) + 1])
    assert state["words"] == "training · step 10 of 20 · measuring 120 of 400 validation rows"


def test_a_run_that_broke_off_says_why(opened):
    failure = RunFailed(step=7, what="the loss is nan at step 7", hint="try a lower learning rate", traceback="Trace")
    state = shown(opened(RunPanel), *fakes.log(60)[:10], failure)
    assert state["phase"] == "failed"
    assert state["words"] == "broken off at step 7"
    assert state["problem"] == {
        "what": "the loss is nan at step 7",
        "hint": "try a lower learning rate",
        "details": "Trace",
    }
    assert shown(opened(RunPanel), StageStarted(stage="again"))["problem"] is None


def test_the_buttons_start_pause_resume_and_stop_the_run(opened, press):
    session = FakeSession(events=fakes.log(2000), pace=0.005)
    panel = opened(RunPanel, session)
    press(panel, "start")
    assert until(lambda: panel.state["phase"] == "training")
    assert until(lambda: "left" in panel.state["words"])
    press(panel, "pause")
    assert until(lambda: panel.state["phase"] == "paused")
    step = session.run.step
    press(panel, "resume")
    assert until(lambda: panel.state["phase"] == "training" and session.run.step > step)
    press(panel, "stop")
    assert until(lambda: panel.state["phase"] == "ended")
    assert panel.state["words"].startswith("stopped by you at step ")
    assert buttons(panel.state) == ["start"]


def test_a_wish_is_told_until_it_is_true(opened):
    session = FakeSession(events=fakes.log(100), pace=0.4)
    panel = opened(RunPanel, session)
    session.start()
    assert until(lambda: session.run.step)
    session.run.pause()
    panel.refresh()
    assert panel.state["words"] == "pausing …"
    assert buttons(panel.state) == ["stop"]
    session.run.stop()


def test_a_start_that_fails_can_be_tried_again(opened, press):
    class Unwilling(FakeSession):
        def start(self, *, where="kernel"):
            raise OSError("the disk is full")

    state = press(opened(RunPanel, Unwilling()), "start")
    assert "the disk is full" in state["problem"]["what"]
    assert buttons(state) == ["start"]


def test_the_title_follows_the_plan(opened):
    session = FakeSession()
    panel = opened(RunPanel, session)
    session.change(source="/rows/stars.csv", backbone="someone/model", trainable="last 2")
    assert until(lambda: panel.state["title"] == "stars.csv · someone/model · last 2 blocks")


@pytest.mark.parametrize("seconds", [0.2, 59.0, 61.0, 4000.0])
def test_time_left_is_in_words(opened, seconds):
    from widgets import wording

    assert wording.duration(seconds).endswith(("s", "min"))

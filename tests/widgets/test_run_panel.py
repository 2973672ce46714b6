import dataclasses
import time

import fakes
import pytest
from fakes import FakeSession, until

from widgets import RunPanel
from workbench.errors import RunError
from workbench.events import (
    CheckpointFailed,
    CheckpointRefused,
    CheckpointSaved,
    ModelSaved,
    ReplayDiverged,
    RunChosen,
    RunEnded,
    RunFailed,
    RunPaused,
    RunResumed,
    RunStarted,
    StageStarted,
    StepEnded,
)
from workbench.plan.plan import Plan
from workbench.runs.disk.run_folder import RunFolder
from workbench.runs.disk.run_list import find, summarize

pytestmark = pytest.mark.slow

MODEL = ModelSaved(step=40, which="best", folder="model", size_bytes=1, load="AutoModel.from_pretrained(folder)")
STOPPED = RunEnded(step=60, reason="stopped by the user", best_step=40, best_loss=0.3)


def shown(panel, *events):
    for event in events:
        panel.show(event)
    panel.refresh()
    return panel.state


def buttons(state):
    return [name for name in ("start", "resume", "pause", "stop") if state[f"can_{name}"]]


def saved(step, *, kept=(10, 40, 60)):
    return CheckpointSaved(
        step=step, folder=f"checkpoints/{step}", size_bytes=600_000, best=False, kept=kept, kept_bytes=1_840_000
    )


def left(root, *events):
    """A run folder with this log, and its summary."""
    folder = RunFolder.create(Plan(), root)
    for event in events:
        folder.append(event)
    folder.close()
    return summarize(find(folder.name, root))


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


def test_a_run_that_stopped_early_says_why_and_is_completed(opened):
    reason = "stopped early: the validation loss has not improved for 5 evaluations, since step 0"
    session = FakeSession()
    panel = opened(RunPanel, session)
    session.shown(*fakes.log(60)[:16], RunEnded(step=10, reason=reason, best_step=0, best_loss=0.7))
    why = "the validation loss has not improved for 5 evaluations"
    assert until(lambda: panel.state["words"] == f"stopped early at step 10: {why} · best model at step 0")
    assert panel.state["phase"] == "completed"
    assert buttons(panel.state) == ["start"]  # it is over, so there is nothing to resume


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
    assert state["words"] == "training · step 10 of 20 · evaluating 120 of 400 validation rows"


def test_a_run_that_broke_off_says_why(opened):
    failure = RunFailed(step=7, what="the loss is nan at step 7", hint="try a lower learning rate", traceback="Trace")
    state = shown(opened(RunPanel), *fakes.log(60)[:10], failure)
    assert state["phase"] == "failed"
    assert state["words"] == "failed at step 7"
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
    assert until(lambda: panel.state["phase"] == "running")
    assert until(lambda: "left" in panel.state["words"])
    press(panel, "pause")
    assert until(lambda: panel.state["phase"] == "paused")
    step = session.run.step
    press(panel, "resume")
    assert until(lambda: panel.state["phase"] == "running" and session.run.step > step)
    press(panel, "stop")
    assert until(lambda: panel.state["phase"] == "stopped")
    assert panel.state["words"].startswith("stopped by you at step ")
    assert buttons(panel.state) == ["start", "resume"]


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
        def start(self, *, where=None):
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


def test_the_place_of_the_next_run_can_be_chosen_and_is_told_while_one_is_live(opened, press):
    session = FakeSession(events=fakes.log(2000), pace=0.005)
    panel = opened(RunPanel, session)
    assert panel.state["place"]["value"] == "kernel"
    assert [option["title"] for option in panel.state["place"]["options"]] == ["this notebook", "its own process"]
    assert press(panel, "place", value="process")["place"]["value"] == "process"
    assert session.where == "process"
    press(panel, "start")
    assert ("start", {"where": "process"}) in session.calls
    assert until(lambda: panel.state["phase"] == "running")
    assert not panel.state["place"]["can_change"]
    session.run.stop()
    assert until(lambda: panel.state["place"]["can_change"])


@pytest.mark.parametrize("ending", [STOPPED, RunFailed(step=60, what="the worker was killed", hint="resume it")])
def test_a_run_that_stopped_or_died_can_be_resumed(opened, press, ending):
    session = FakeSession()
    panel = opened(RunPanel, session)
    run = session.shown(*fakes.log(60)[:-1], ending)
    assert until(lambda: buttons(panel.state) == ["start", "resume"])
    press(panel, "resume")
    assert until(lambda: panel.state["phase"] == "running")
    assert panel.state["problem"] is None
    assert panel.state["words"].startswith("training · step 60 of 60")
    assert session.calls == [("resume", {})]
    run.tell(RunEnded(step=60, reason="completed"))
    assert until(lambda: buttons(panel.state) == ["start"])


def test_a_resume_that_fails_is_told_and_can_be_tried_again(opened, press):
    session = FakeSession()
    panel = opened(RunPanel, session)

    def refuse():
        raise RunError("another process carries it out", hint="watch it")

    session.shown(*fakes.log(60)[:-1], STOPPED, resume=refuse)
    assert until(lambda: "resume" in buttons(panel.state))
    press(panel, "resume")
    assert until(lambda: panel.state["problem"] is not None)
    assert panel.state["problem"]["what"] == "another process carries it out"
    assert buttons(panel.state) == ["start", "resume"]


def test_last_words_of_a_dead_run_are_told_with_the_rows_of_its_batch(opened):
    failure = RunFailed(step=7, what="the loss is nan", rows=tuple(range(12)), traceback="Trace")
    details = shown(opened(RunPanel), *fakes.log(60)[:10], failure)["problem"]["details"]
    assert details == "training examples of the batch: 0, 1, 2, 3, 4, 5, 6, 7 …\nTrace"


@pytest.mark.parametrize(("alive", "words"), [(True, "no news for 12 s, still alive"), (False, "no news for 12 s")])
def test_silence_is_told_after_five_seconds(opened, alive, words):
    session = FakeSession()
    panel = opened(RunPanel, session)
    run = session.shown(*fakes.log(60)[:12], seconds_silent=4.9, is_alive=alive)
    assert until(lambda: panel.state["phase"] == "running")
    assert "no news" not in panel.state["words"]
    run.seconds_silent = 12.0
    panel.refresh()
    assert panel.state["words"] == f"training · step {run.step} of 60 · {words}"
    run.tell(RunPaused(step=run.step))
    assert until(lambda: panel.state["words"].startswith("paused at"))
    assert "no news" not in panel.state["words"]  # a paused run has none to give


def test_what_lies_on_disk_is_told(opened):
    session = FakeSession()
    panel = opened(RunPanel, session)
    session.shown(*fakes.log(60)[:-1], saved(60))
    assert until(lambda: panel.state["kept"]["checkpoints"] == "3 checkpoints · 1.8 MB")
    assert panel.state["kept"]["model"] == ""


def test_at_the_end_it_says_which_model_lies_where_and_how_to_load_it(opened):
    session = FakeSession()
    panel = opened(RunPanel, session)
    run = session.shown(*fakes.log(60)[:-1], saved(60), MODEL, STOPPED)
    assert until(lambda: panel.state["phase"] == "stopped")
    assert panel.state["kept"]["model"] == "best model (step 40) is in runs/fake/model"
    assert panel.state["kept"]["code"] == "AutoModel.from_pretrained('runs/fake/model')"
    run.tell(RunResumed(step=60))
    assert until(lambda: panel.state["kept"]["model"] == "")  # the one that lies there is of before


def test_what_could_not_be_kept_or_repeated_is_a_warning_once_a_kind(opened):
    panel = opened(RunPanel)
    full = CheckpointFailed(step=10, what="no space left on device", hint="free some space")
    again = CheckpointFailed(step=20, what="no space left on device", hint="free some space")
    refused = CheckpointRefused(step=30, what="weights.safetensors is cut off")
    other = ReplayDiverged(step=31, what="loss 0.5, logged 0.6")
    assert shown(panel, full, again, refused, other)["kept"]["warnings"] == [
        "No checkpoint at step 20: no space left on device. Try: free some space. Training continues.",
        "The checkpoint of step 30 was skipped: weights.safetensors is cut off.",
        "Repeating step 31 gave other numbers than before: loss 0.5, logged 0.6.",
    ]
    assert len(shown(panel, saved(40))["kept"]["warnings"]) == 2  # there is room again
    assert shown(panel, RunChosen(name="another"))["kept"]["warnings"] == []


def test_unfinished_runs_are_offered_until_one_is_under_way(opened, press, tmp_path):
    log = fakes.log(60)
    broken, stopped = left(tmp_path, *log[:30]), left(tmp_path, *log[:-1], STOPPED)
    broken = dataclasses.replace(broken, name=f"2{broken.name}", state="died")  # the newer one
    session = FakeSession(left=[broken, stopped], events=log[:30])
    panel = opened(RunPanel, session)
    assert until(lambda: len(panel.state["unfinished"]) == 2)
    assert [entry["title"] for entry in panel.state["unfinished"]] == [
        f"{broken.name}: failed at step {broken.step}",
        f"{stopped.name}: stopped at step 60",
    ]
    session.left = [dataclasses.replace(broken, state="running")]
    press(panel, "seen", viewer="a")  # a page that opens looks again
    assert until(
        lambda: panel.state["unfinished"][0]["title"] == f"{broken.name}: running elsewhere, step {broken.step}"
    )
    assert len(panel.state["unfinished"]) == 1
    press(panel, "watch", name=broken.name)
    assert until(lambda: session.run is not None)
    assert until(lambda: panel.state["phase"] == "running")
    assert panel.state["unfinished"] == []
    assert panel.state["place"]["value"] == "elsewhere"


def test_a_run_of_ones_own_that_goes_on_behind_a_fork_can_be_gone_back_to(opened):
    session = FakeSession()
    panel = opened(RunPanel, session)
    parent = session.shown(*fakes.log(60)[:30])
    parent.fork(3).tell(STOPPED)
    offered = [{"value": "fake", "title": f"fake: running here, step {parent.step}"}]
    assert until(lambda: panel.state["unfinished"] == offered)


def test_the_run_that_is_shown_is_not_offered_again(opened, tmp_path):
    stopped = left(tmp_path, *fakes.log(60)[:-1], STOPPED)
    session = FakeSession(left=[stopped])
    panel = opened(RunPanel, session)
    assert until(lambda: panel.state["unfinished"] != [])
    session.shown(*fakes.log(60)[:-1], STOPPED, name=stopped.name)
    assert until(lambda: panel.state["phase"] == "stopped")
    assert until(lambda: panel.state["unfinished"] == [])


def test_a_run_that_can_not_be_watched_is_told(opened, press):
    panel = opened(RunPanel)
    press(panel, "watch", name="nowhere")
    assert until(lambda: panel.state["problem"] is not None)
    assert panel.state["problem"]["what"] == "there is no run 'nowhere'"
    assert buttons(panel.state) == ["start"]


def test_a_run_whose_log_has_no_end_is_not_taken_for_live(opened):
    session = FakeSession()
    panel = opened(RunPanel, session)
    session.shown(*fakes.log(60)[:30]).state = "failed"
    panel._is_stale = True
    assert until(lambda: panel.state["phase"] == "failed")
    assert panel.state["words"] == f"failed at step {session.run.step}"
    assert buttons(panel.state) == ["start", "resume"]


def test_another_run_begins_on_an_empty_sheet(opened):
    session = FakeSession()
    panel = opened(RunPanel, session)
    session.shown(*fakes.log(60)[:-1], saved(60), RunFailed(step=60, what="it broke"))
    assert until(lambda: panel.state["problem"] is not None)
    session.shown()
    assert until(lambda: panel.state["problem"] is None)
    assert (panel.state["percent"], panel.state["kept"]["checkpoints"]) == (0, "")


def test_looking_for_unfinished_runs_keeps_nobody_waiting(opened):
    class Slow(FakeSession):
        def unfinished(self):
            time.sleep(0.5)
            return []

    begun = time.perf_counter()
    opened(RunPanel, Slow())
    assert time.perf_counter() - begun < 0.3  # seconds

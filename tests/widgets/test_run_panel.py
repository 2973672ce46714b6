import dataclasses

import fakes
import pytest
from fakes import FakeSession, until

from widgets import RunPanel
from workbench.errors import RunError
from workbench.events import (
    CacheProgressed,
    CacheReady,
    CheckpointFailed,
    CheckpointRefused,
    CheckpointSaved,
    EvaluationEnded,
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

pytestmark = pytest.mark.slow

MODEL = ModelSaved(step=40, which="best", folder="model", size_bytes=1, load="AutoModel.from_pretrained(folder)")
STOPPED = RunEnded(step=60, reason="stopped by the user", best_step=40, best_loss=0.3)


def shown(panel, *events):
    for event in events:
        panel.show(event)
    panel.refresh()
    return panel.state


def buttons(state):
    return [name for name in ("resume", "pause", "stop") if state[f"can_{name}"]]


def saved(step, *, kept=(10, 40, 60)):
    return CheckpointSaved(
        step=step, folder=f"checkpoints/{step}", size_bytes=600_000, best=False, kept=kept, kept_bytes=1_840_000
    )


def test_a_log_replays_to_its_end_in_words(opened):
    state = shown(opened(RunPanel), *fakes.log(60))
    assert state["words"] == "completed at step 60 · best model at step 50"
    assert state["percent"] == 100
    assert buttons(state) == []


def test_a_run_that_stopped_early_says_why_and_is_completed(opened):
    reason = "stopped early: the validation loss has not improved for 5 evaluations, since step 0"
    session = FakeSession()
    panel = opened(RunPanel, session)
    session.shown(*fakes.log(60)[:16], RunEnded(step=10, reason=reason, best_step=0, best_loss=0.7))
    why = "the validation loss has not improved for 5 evaluations"
    assert until(lambda: panel.state["words"] == f"stopped early at step 10: {why} · best model at step 0")
    assert panel.state["phase"] == "completed"
    assert buttons(panel.state) == []  # it is over, so there is nothing to resume


def test_progress_is_told_from_event_to_event(opened):
    panel = opened(RunPanel)
    log = fakes.log(60)
    assert shown(panel, StageStarted(stage="reading the data"))["words"] == "preparing · reading the data"
    assert buttons(panel.state) == ["pause", "stop"]
    started = next(event for event in log if isinstance(event, RunStarted))
    assert shown(panel, started)["words"] == "training · step 0 of 60 · evaluating before the first step"
    steps = [event for event in log if isinstance(event, StepEnded)]
    assert shown(panel, *steps[:10])["words"] == "training · step 10 of 60"
    assert panel.state["percent"] == pytest.approx(100 / 6, abs=0.1)
    assert shown(panel, RunPaused(step=10))["words"] == "paused at step 10"
    assert buttons(panel.state) == ["pause", "stop"]


def test_what_is_done_before_the_first_step_is_told_at_any_time(opened):
    panel = opened(RunPanel)
    log = fakes.log(60)
    start, before = [(i, e) for i, e in enumerate(log) if isinstance(e, RunStarted | EvaluationEnded)][:2]

    def said(event):
        return shown(panel, event)["words"].removeprefix("training · step 0 of 60 · ")

    def filled(split, done):
        return CacheProgressed(step=0, split=split, rows_done=done, rows=84)

    ready = CacheReady(step=0, split="validation", boundary="head", rows=84, size_bytes=1, place="memory", seconds=1.0)
    assert said(start[1]) == "evaluating before the first step"
    assert said(filled("validation", 40)) == "computing the frozen blocks once: 40 of 84 validation rows"
    assert said(filled("validation", 84)) == "checking the cache of 84 validation rows"
    assert said(ready) == "evaluating before the first step"
    assert said(before[1]) == "preparing the first step"
    assert said(filled("train", 84)) == "checking the cache of 84 training rows"
    assert said(dataclasses.replace(ready, split="train")) == "preparing the first step"
    assert said(next(e for e in log if isinstance(e, StepEnded))) == "training · step 1 of 60"


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
    session.start()
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
    assert buttons(panel.state) == ["resume"]


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


@pytest.mark.parametrize("ending", [STOPPED, RunFailed(step=60, what="the worker was killed", hint="resume it")])
def test_a_run_that_stopped_or_died_can_be_resumed(opened, press, ending):
    session = FakeSession()
    panel = opened(RunPanel, session)
    run = session.shown(*fakes.log(60)[:-1], ending)
    assert until(lambda: buttons(panel.state) == ["resume"])
    press(panel, "resume")
    assert until(lambda: panel.state["phase"] == "running")
    assert panel.state["problem"] is None
    assert panel.state["words"].startswith("training · step 60 of 60")
    assert session.calls == [("resume", {})]
    run.tell(RunEnded(step=60, reason="completed"))
    assert until(lambda: buttons(panel.state) == [])


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
    assert buttons(panel.state) == ["resume"]


def test_last_words_of_a_dead_run_are_told_with_the_rows_of_its_batch(opened):
    failure = RunFailed(step=7, what="the loss is nan", rows=tuple(range(12)), traceback="Trace")
    details = shown(opened(RunPanel), *fakes.log(60)[:10], failure)["problem"]["details"]
    assert details == "training examples of the batch: 0, 1, 2, 3, 4, 5, 6, 7 …\nTrace"


@pytest.mark.parametrize(("alive", "words"), [(True, "still working (12 s)"), (False, "no news for 12 s")])
def test_silence_is_told_after_five_seconds(opened, alive, words):
    session = FakeSession()
    panel = opened(RunPanel, session)
    run = session.shown(*fakes.log(60)[:12], seconds_silent=4.9, is_alive=alive)
    assert until(lambda: panel.state["phase"] == "running")
    assert "12 s" not in panel.state["words"]
    doing = f"taking step {run.step + 1}"
    run.seconds_silent = 12.0
    panel.refresh()
    assert panel.state["words"] == f"training · step {run.step} of 60 · {doing} · {words}"
    run.tell(RunPaused(step=run.step))
    assert until(lambda: panel.state["words"].startswith("paused at"))
    assert "12 s" not in panel.state["words"]  # a paused run has none to give


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
    assert panel.state["kept"]["model"] == "best model (step 40)"
    assert panel.state["kept"]["uses"] == [
        {"title": "in the folder", "line": "runs/fake/model"},
        {"title": "in any program", "line": "AutoModel.from_pretrained('runs/fake/model')"},
        {"title": "in a notebook", "line": "import workbench as wb; wb.attach('runs/fake').predict([\"a text\"])"},
    ]
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


def test_a_run_whose_log_has_no_end_is_not_taken_for_live(opened):
    session = FakeSession()
    panel = opened(RunPanel, session)
    session.shown(*fakes.log(60)[:30]).state = "failed"
    panel._is_stale = True
    assert until(lambda: panel.state["phase"] == "interrupted")
    assert panel.state["words"] == f"interrupted at step {session.run.step}"
    assert buttons(panel.state) == ["resume"]


def test_another_run_begins_on_an_empty_sheet(opened):
    session = FakeSession()
    panel = opened(RunPanel, session)
    session.shown(*fakes.log(60)[:-1], saved(60), RunFailed(step=60, what="it broke"))
    assert until(lambda: panel.state["problem"] is not None)
    session.shown()
    assert until(lambda: panel.state["problem"] is None)
    assert (panel.state["percent"], panel.state["kept"]["checkpoints"]) == (0, "")


def test_without_a_run_no_button_acts(opened):
    state = opened(RunPanel).state
    assert (state["name"], state["phase"], buttons(state)) == ("No run yet", "none", [])


def test_the_run_is_shown_under_its_own_name_and_plan_whatever_the_next_plan_is(opened):
    session = FakeSession()
    panel = opened(RunPanel, session)
    session.shown(*fakes.log(60)[:20], name="20261128-bert-abcd", where="process")
    session.change(source="/rows/stars.csv")
    assert until(lambda: panel.state["phase"] == "running")
    assert panel.state["name"] == "20261128-bert-abcd"
    assert panel.state["plan"] == "sentiment: movies · MiniLM-L6 · head only"
    assert panel.state["place"] == "in its own process"


def test_a_run_without_events_is_starting(opened):
    session = FakeSession()
    panel = opened(RunPanel, session)
    session.shown(where="process")
    assert until(lambda: panel.state["words"] == "starting a process …")
    assert until(lambda: panel.state["words"] in ("starting a process … 1 s", "starting a process … 2 s"))
    assert buttons(panel.state) == ["stop"]


def test_a_run_that_never_loaded_is_not_resumed_and_its_error_goes_when_the_plan_is_repaired(opened):
    session = FakeSession()
    panel = opened(RunPanel, session)
    session.shown(StageStarted(stage="reading the data"), RunFailed(step=0, what="no file film.csv"))
    assert until(lambda: panel.state["words"] == "failed before the first step")
    assert buttons(panel.state) == []
    session.change(source="sentiment:books")
    assert until(lambda: panel.state["problem"] is None)


def test_what_is_proven_of_the_run_stands_with_the_run(opened):
    panel = opened(RunPanel)
    assert shown(panel, dataclasses.replace(saved(60), frozen_tensors=98))["verified"] == (
        "frozen parts verified at step 60 (98 tensors)"
    )


def test_a_run_that_is_resumed_elsewhere_in_the_panel_is_told_to_be_resuming_and_not_to_have_failed(opened):
    session = FakeSession()
    panel = opened(RunPanel, session)
    run = session.shown(*fakes.log(60)[:-1], RunFailed(step=60, what="killed", hint="run.resume() continues"))
    assert until(lambda: panel.state["words"] == "failed at step 60")
    assert panel.state["problem"]["hint"] == "Resume continues"  # the button is there
    run.state = "preparing"  # as soon as it is asked to resume, in the list of runs
    panel._is_stale = True
    assert until(lambda: panel.state["words"] == "resuming …")
    assert (panel.state["phase"], panel.state["problem"], buttons(panel.state)) == ("preparing", None, [])
    run.tell(RunResumed(step=60))
    assert until(lambda: panel.state["words"].startswith("training · step 60"))


def test_a_run_whose_kernel_was_restarted_was_interrupted(opened):
    session = FakeSession()
    panel = opened(RunPanel, session)
    gone = RunFailed(step=22, what="the notebook disappeared", hint="run.resume()", is_interruption=True)
    session.shown(*fakes.log(60)[:30], gone)
    assert until(lambda: panel.state["words"] == "interrupted at step 22")
    assert (panel.state["phase"], panel.state["problem"], buttons(panel.state)) == ("interrupted", None, ["resume"])

import threading

import fakes
import pandas as pd
import pytest
from datasets import Dataset
from fakes import FakeSession, until
from PIL import Image

from widgets import ResultsPanel
from workbench.errors import RunError
from workbench.events import RunChosen, RunEnded
from workbench.runs.results import Results

EVIL = "<img src=x onerror=hacked()>"


def results(step, labels=("good", "bad", EVIL), *, kind="text", drawn_from=None):
    rows = pd.DataFrame(
        {
            "row": [4, 8, 2, 6],
            "text": [EVIL, "dull", "fine", "poor"],
            "label": [labels[0], labels[1], labels[1], labels[0]],
            "predicted": [labels[1], labels[1], labels[0], labels[0]],
            "probability": [0.9, 0.8, 0.6, 0.7],
            "loss": [2.3, 0.2, 0.9, 0.3],
        }
    )
    source = Dataset.from_dict({"text": list(rows.text)})
    if kind == "image":
        rows, source = rows.drop(columns="text"), Dataset.from_dict({"image": [Image.new("RGB", (9, 9), "red")] * 4})
    metrics = {"loss": 0.93, "accuracy": 0.5, "macro_f1": 1 / 3, "weighted_f1": 0.5}
    return Results(step, "validation", labels, metrics, rows, 0.1, source, (0, 1, 2, 3), drawn_from)


@pytest.fixture
def session():
    made = FakeSession()
    made.shown(*fakes.log(60), found=results)
    return made


def shown(panel, press, step):
    press(panel, "show", step=str(step))
    assert until(lambda: (panel.refresh(), not panel.state["is_busy"])[1])
    return panel.state


def test_before_the_first_evaluation_a_sentence_says_what_will_be_here(opened):
    panel = opened(ResultsPanel)
    panel.refresh()
    assert panel.state["empty"].startswith("Start a run.")


def test_the_results_of_an_evaluated_step(opened, press, session):
    panel = opened(ResultsPanel, session)
    assert panel.state["step"] == "40"
    assert [step["title"] for step in panel.state["steps"]][::4] == ["step 0 · before training", "step 40 · best"]
    assert panel.state["results"] is None
    found = shown(panel, press, 50)["results"]
    assert found["facts"] == "accuracy 0.5 · F1 (macro) 0.333 · loss 0.93 · 4 validation rows"
    assert found["classes"][0] == {"name": "good", "numbers": ["0.50", "0.50", "0.50", "2"]}
    assert found["matrix"]["counts"] == [[1, 1, 0], [1, 1, 0], [0, 0, 0]]
    assert found["matrix"]["shares"][0] == [0.5, 0.5, 0.0]
    mistakes = found["mistakes"]
    assert mistakes["title"] == "Worst mistakes (2 of 2)"
    assert mistakes["columns"] == ["row", "text", "true class", "predicted", "probability", "loss"]
    assert [cell["text"] for cell in mistakes["rows"][0]] == ["4", EVIL, "good", "bad", "0.90", "2.30"]


def test_a_sample_of_the_rows_is_called_one(opened, press, session):
    session.run.found = lambda step: results(step, drawn_from=1_511)
    found = shown(opened(ResultsPanel, session), press, 50)["results"]
    assert found["facts"].endswith(" · 4 of 1,511 validation rows (a sample: evaluation_rows)")


def test_what_takes_time_says_so_at_once_and_is_computed_once(opened, press, session):
    go_on, computed = threading.Event(), []
    session.run.found = lambda step: (go_on.wait(5) and computed.append(step)) or results(step)
    panel = opened(ResultsPanel, session)
    state = press(panel, "show", step="10")
    assert (state["is_busy"], state["step"]) == (True, "10")
    assert state["doing"]
    assert until(
        lambda: (
            (panel.refresh(), panel.state["doing"])[1].startswith("evaluating row 1 of 2")
            or setattr(panel, "_is_stale", True)
        )
    )
    go_on.set()
    shown(panel, press, 20)
    shown(panel, press, 10)
    assert computed == [10, 20] or until(lambda: 10 in panel._found)
    assert press(panel, "show", step="7")["step"] != "7"  # not evaluated


def test_the_results_of_an_ended_run_show_themselves_once_the_panel_is_displayed(opened, press, session):
    panel = opened(ResultsPanel, session)
    panel.is_hidden = True  # behind a tab
    press(panel, "seen", viewer="page")
    assert not panel.state["is_busy"]
    assert panel.attention == "results of the ended run"
    panel.is_hidden = False
    assert until(lambda: (panel.refresh(), panel.state["results"])[1])
    assert panel.state["step"] == "40"


def test_a_run_that_trains_is_not_disturbed_by_results_that_nobody_asked_for(opened, press):
    session = FakeSession()
    session.shown(*[event for event in fakes.log(60) if not isinstance(event, RunEnded)], found=results)
    panel = opened(ResultsPanel, session)
    assert not press(panel, "seen", viewer="page")["is_busy"]
    assert not panel.attention


def test_the_results_of_images_have_thumbnails(opened, press, session):
    session.run.found = lambda step: results(step, kind="image")
    row = shown(opened(ResultsPanel, session), press, 50)["results"]["mistakes"]["rows"][0]
    assert row[1]["image"].startswith("data:image/png;base64,")


def test_a_language_model_has_its_hardest_rows(opened, press):
    session = FakeSession()
    rows = pd.DataFrame({"row": [3], "text": [f"\n\n{EVIL}"], "tokens": [7], "loss": [2.0], "perplexity": [7.389]})
    found = Results(
        60, "validation", (), {"loss": 2.0, "perplexity": 7.389}, rows, 0.1, Dataset.from_dict({"text": [EVIL]}), (0,)
    )
    session.shown(*fakes.log(60, task="language-modeling"), found=lambda step: found)
    state = shown(opened(ResultsPanel, session), press, 60)["results"]
    assert state["classes"] is state["matrix"] is None
    assert state["facts"] == "perplexity 7.39 · loss 2 · 1 validation windows of text"
    assert state["mistakes"]["title"] == "Hardest windows of text (a row may have several)"
    assert [cell["text"] for cell in state["mistakes"]["rows"][0]] == ["3", EVIL, "7", "2.00", "7.39"]


def test_a_matrix_of_very_many_classes_says_where_it_is(opened, press, session):
    session.run.found = lambda step: results(step, tuple(f"class {number}" for number in range(101)))
    state = shown(opened(ResultsPanel, session), press, 50)["results"]
    assert state["matrix"]["note"] == "101 classes are too many to draw; use run.results().confusion"
    assert len(state["classes"]) == 101


def test_the_test_score_is_spent_once_it_was_taken(opened, press, session):
    panel = opened(ResultsPanel, session)
    test = panel.state["test"]
    assert (test["can_score"], test["button"]) == (True, "Score on the test rows (best model, step 40)")
    assert test["words"].startswith("For one honest score at the end")
    press(panel, "score")
    assert until(lambda: (panel.refresh(), panel.state["test"]["score"])[1])
    assert panel.state["test"]["score"].startswith(
        "accuracy 0.8 · F1 (macro) 0.78 · loss 0.4 · 400 test rows · model of step 60"
    )
    assert panel.state["test"]["times"] == 1
    again = opened(ResultsPanel, session)  # after a reload or in another notebook
    assert again.state["test"]["score"] == panel.state["test"]["score"]


def test_scores_that_a_stranger_wrote_do_no_harm(opened, monkeypatch, session):
    odd = fakes.evaluation(3, 0.4, split="test")
    object.__setattr__(odd, "time", 1e300)
    session.run.test_scores = [odd]
    panel = opened(ResultsPanel, session)
    assert panel.state["test"]["score"].endswith("model of step 3")

    def refuse(run):
        raise RunError("test_scores.jsonl, line 1 is not an event")

    monkeypatch.setattr(fakes.FakeRun, "test_scores", property(refuse, lambda run, scores: None), raising=False)
    panel = opened(ResultsPanel, session)
    assert panel.state["problem"]["what"] == "test_scores.jsonl, line 1 is not an event"
    assert panel.state["step"] == "40"


def test_a_run_that_trains_is_not_scored_and_another_run_starts_anew(opened, press, session):
    panel = opened(ResultsPanel, session)
    press(panel, "score")
    assert until(lambda: (panel.refresh(), panel.state["test"]["score"])[1])
    log = [event for event in fakes.log(20) if not isinstance(event, RunEnded)]
    session.shown(*log, name="other")
    for event in (RunChosen(name="other"), *log):
        if type(event) in panel.kinds:
            panel.show(event)
    panel.refresh()
    assert (panel.state["test"]["score"], panel.state["test"]["can_score"]) == ("", False)
    assert panel.state["test"]["words"] == "The test rows can be scored when the run has ended."


def test_errors_are_told_in_words(opened, press, session):
    def fail(step):
        raise RunError("the checkpoint is damaged", hint="use another step")

    session.run.found = fail
    panel = opened(ResultsPanel, session)
    state = shown(panel, press, 50)
    assert state["problem"]["what"] == "the checkpoint is damaged"
    assert state["results"] is None

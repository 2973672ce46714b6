import io
import threading

import fakes
import pandas as pd
import pytest
from fakes import FakeSession, until
from PIL import Image

from widgets import TryPanel
from widgets.try_panel import LARGEST
from workbench.errors import DataError
from workbench.events import CheckpointSaved, RunFailed, StageStarted

EVIL = "<img src=x onerror=hacked()>"


def probabilities(value, which):
    shares = {"backbone": (0.4, 0.6, 0.0)}.get(which, (0.9, 0.1 - 1e-6, 1e-6))
    lines = {f"P({name})": [share] for name, share in zip(("good", "bad", EVIL), shares, strict=True)}
    return pd.DataFrame({"input": [value], "label": ["good"], "probability": [0.9], **lines})


@pytest.fixture
def session():
    made = FakeSession()
    made.shown(*fakes.log(60), answer=probabilities, rows=["a film", "a play"])
    return made


def entries(panel):
    panel.refresh()
    return panel.state["entries"]


def test_before_any_run_a_sentence_says_what_to_do(opened):
    panel = opened(TryPanel)
    panel.refresh()
    assert (panel.state["empty"], panel.state["kind"]) == ("Start a run, then try it here.", "")
    session = FakeSession()
    session.shown(StageStarted(stage="loading"))
    panel = opened(TryPanel, session)
    assert panel.state["empty"] == "The run is being prepared; try it here in a moment."
    panel.show(RunFailed(step=0, what="no such file"))
    panel.refresh()
    assert panel.state["empty"].startswith("This run failed before it had a model")


def test_a_text_gets_the_answers_of_both_models(opened, press, session):
    panel = opened(TryPanel, session)
    state = press(panel, "ask", text=EVIL)
    assert state["doing"].startswith("asking the")  # at once
    assert until(lambda: entries(panel) and not panel.state["doing"])
    (entry,) = entries(panel)
    assert entry["input"] == {"text": EVIL}
    assert [(bar["name"], bar["words"]) for bar in entry["tuned"]["bars"]] == [
        ("good", "90 %"),
        ("bad", "10 %"),
        (EVIL, "<0.01 %"),
    ]
    assert [bar["name"] for bar in entry["base"]["bars"]] == ["bad", "good", EVIL]
    assert entry["model"] == "best (step 40)"
    assert "new and untrained" in entry["note"]


def test_the_model_can_be_chosen_and_the_history_keeps_a_few(opened, press, session):
    asked = []
    session.run.answer = lambda value, which: asked.append(which) or probabilities(value, which)
    panel = opened(TryPanel, session)
    panel.show(CheckpointSaved(step=60, folder="checkpoints/step-000060", size_bytes=1, best=False))
    for which, step, words in (
        ("last", None, "last (step 60)"),
        ("step", 25, "step 25"),
        ("best", None, "best (step 40)"),
    ):
        assert press(panel, "choose", which=which, step=step)["which"] == which
        press(panel, "ask", text="a film")
        assert until(lambda words=words: entries(panel) and entries(panel)[0]["model"] == words)
        assert until(lambda: not panel._doing)
    assert asked == ["last", "backbone", 25, "backbone", "best", "backbone"]
    for number in range(9):
        press(panel, "ask", text=f"film {number}")
        assert until(lambda: not panel._doing)
    assert [entry["input"]["text"] for entry in entries(panel)] == [f"film {number}" for number in (8, 7, 6, 5, 4, 3)]
    session.shown(*fakes.log(20), name="other")
    panel.show(fakes.RunChosen(name="other"))
    assert (entries(panel)[0]["model"], entries(panel)[0]["origin"]) == ("best (step 40)", "asked of another run: fake")


def test_another_run_starts_with_its_best_model_and_its_own_steps(opened, press, session):
    panel = opened(TryPanel, session)
    panel.show(CheckpointSaved(step=60, folder="checkpoints/step-000060", size_bytes=1, best=False))
    assert press(panel, "choose", which="step")["step"] == 60  # nobody has chosen another one
    assert press(panel, "choose", which="step", step=25)["step"] == 25
    panel.show(fakes.RunChosen(name="other"))
    panel.refresh()
    assert (panel.state["which"], panel.state["step"]) == ("best", 0)
    panel.show(CheckpointSaved(step=12, folder="checkpoints/step-000012", size_bytes=1, best=False))
    assert press(panel, "choose", which="step")["step"] == 12


def test_errors_are_told_in_words_and_nothing_stays_busy(opened, press, session):
    def refuse(value, which):
        raise DataError("row 0 is an empty text", hint="leave it out")

    session.run.answer = refuse
    panel = opened(TryPanel, session)
    press(panel, "ask", text="x")
    assert until(lambda: (panel.refresh(), panel.state["problem"])[1])
    assert panel.state["problem"]["what"] == "row 0 is an empty text"
    assert (panel.state["doing"], panel.state["entries"]) == ("", [])
    assert "no text to ask about" in press(panel, "ask", text="  ")["problem"]["what"]


def test_a_second_question_waits_for_the_first(opened, press, session):
    asked, go_on = [], threading.Event()

    def slow(value, which):
        asked.append(value)
        go_on.wait(5)
        return probabilities(value, which)

    session.run.answer = slow
    panel = opened(TryPanel, session)
    press(panel, "ask", text="one")
    press(panel, "ask", text="two")
    go_on.set()
    assert until(lambda: not panel._doing)
    assert asked == ["one", "one"]


def as_png():
    memory = io.BytesIO()
    Image.new("RGB", (90, 60), "red").save(memory, format="PNG")
    return memory.getvalue()


def test_an_image_arrives_as_bytes_and_a_large_one_is_refused(opened):
    session, given = FakeSession(), []

    def answer(value, which):
        given.append(value)
        return probabilities(Image.open(io.BytesIO(value)), which)

    session.shown(*fakes.log(20, task="image-classification"), answer=answer)
    panel = opened(TryPanel, session)
    assert panel.state["kind"] == "image"
    content = as_png()
    message = {"do": "picture", "name": "red.png", "size": len(content)}
    panel._handle_custom_msg(message, [memoryview(content)])
    assert until(lambda: entries(panel) and not panel.state["doing"])
    assert given == [content, content]
    assert entries(panel)[0]["input"]["image"].startswith("data:image/png;base64,")
    panel._handle_custom_msg({**message, "size": LARGEST + 1}, [])
    panel.refresh()
    assert panel.state["problem"]["what"] == "red.png has 8.0 MB; expected at most 8.0 MB"


def test_held_out_rows_are_offered_and_can_be_asked(opened, press, session):
    panel = opened(TryPanel, session)
    assert until(lambda: (panel.refresh(), panel.state["examples"])[1])
    assert panel.state["examples"] == [{"text": "a film"}, {"text": "a play"}]
    press(panel, "example", index=1)
    assert until(lambda: entries(panel) and entries(panel)[0]["input"] == {"text": "a play"})


def test_a_language_model_shows_completions(opened, press):
    session = FakeSession()
    table = {"prompt": ["once"], "completion": [f"upon a {EVIL}"]}
    session.shown(*fakes.log(20, task="language-modeling"), answer=lambda value, which: pd.DataFrame(table))
    panel = opened(TryPanel, session)
    assert panel.state["kind"] == "prompt"
    press(panel, "ask", text="once")
    assert until(lambda: entries(panel) and not panel.state["doing"])
    (entry,) = entries(panel)
    assert entry["tuned"] == entry["base"] == {"text": f"upon a {EVIL}"}
    assert entry["note"] == ""

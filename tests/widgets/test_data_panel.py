import base64
import dataclasses
import io

import pandas as pd
import pytest
import tiny
from fakes import FakeSession, until
from PIL import Image

from widgets import DataPanel, panel
from widgets.settings import tip
from workbench import data
from workbench.events import PreparationEnded
from workbench.plan.choices import Data

EVIL = "<img src=x onerror=window.hacked=1>"


def test_rows_classes_and_columns_are_shown(opened, split):
    state = opened(DataPanel, split=split).state
    said = state["split"]
    assert said["facts"].startswith(f"{split.rows} rows · 2 classes · train {len(split.train)}")
    assert {bar["name"]: bar["rows"] for bar in said["classes"]} == {"positive": 30, "negative": 30}
    assert sum(bar["percent"] for bar in said["classes"]) == pytest.approx(100)
    assert {column["role"]: column["value"] for column in said["columns"]} == {
        "text": "text",
        "label": "label",
        "group": "",
    }
    assert all(column["options"] == ["text", "label"] for column in said["columns"])
    assert said["task"] == "text classification"


def test_rows_are_paged_and_each_split_can_be_looked_at(opened, press, split):
    panel = opened(DataPanel, split=split)
    page = panel.state["split"]["page"]
    assert [row["number"] for row in page["rows"]] == [split.train[i]["row"] for i in range(5)]
    page = press(panel, "page", part="train", first=5)["split"]["page"]
    assert [row["text"] for row in page["rows"]] == [split.train[i]["text"] for i in range(5, 10)]
    page = press(panel, "page", part="validation", first=10**6)["split"]["page"]
    assert 0 <= page["first"] < page["count"] == len(split.validation)
    assert press(panel, "page", part="nonsense", first=0)["split"]["page"]["part"] == "validation"


def test_markup_in_rows_stays_text(opened):
    frame = tiny.frame(60).assign(text=[f"{EVIL} {i}" for i in range(60)])
    state = opened(DataPanel, split=data.load(Data(), table=frame)).state
    assert all(row["text"].startswith(EVIL) for row in state["split"]["page"]["rows"])


def test_no_script_of_a_panel_parses_markup():
    for script in panel.STATIC.glob("*.js"):
        source = script.read_text()
        for way in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "DOMParser", "eval(", "http"):
            assert way not in source.replace("http://www.w3.org/2000/svg", ""), f"{way} in {script.name}"


def test_a_long_text_is_cut(opened):
    frame = tiny.frame(60).assign(text=[f"{i} " + "word " * 1000 for i in range(60)])
    state = opened(DataPanel, split=data.load(Data(), table=frame)).state
    assert max(len(row["text"]) for row in state["split"]["page"]["rows"]) < 700


def test_images_become_small_pictures(opened, tmp_path):
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        for i in range(12):
            Image.new("RGB", (200, 100), (i * 9, 0, 0)).save(tmp_path / name / f"{i}.png")
    state = opened(DataPanel, split=data.load(Data(source=str(tmp_path)))).state
    row = state["split"]["page"]["rows"][0]
    picture = Image.open(io.BytesIO(base64.b64decode(row["image"].removeprefix("data:image/png;base64,"))))
    assert picture.size == (56, 28)
    assert row["label"] in ("cat", "dog")


def test_many_classes_are_summed_up(opened):
    frame = pd.DataFrame({"text": [f"text {i}" for i in range(400)], "label": [f"class {i % 20}" for i in range(400)]})
    bars = opened(DataPanel, split=data.load(Data(), table=frame)).state["split"]["classes"]
    assert len(bars) == 8
    assert bars[-1]["name"] == "13 others"
    assert sum(bar["rows"] for bar in bars) == 400


def test_a_language_model_has_no_classes(opened):
    frame = pd.DataFrame({"text": tiny.texts(60, longest=30)})
    said = opened(DataPanel, split=data.load(Data(task="language-modeling"), table=frame)).state["split"]
    assert said["classes"] == []
    assert said["task"] == "language modelling"
    assert said["page"]["rows"][0]["label"] is None


def test_a_source_that_is_typed_reaches_the_plan_and_is_guessed_anew(opened, press):
    session = FakeSession()
    session.change(label_column="stars")
    state = press(opened(DataPanel, session), "choose", value="rows/film.csv")
    assert session.plan.data.source == "rows/film.csv"
    assert session.plan.data.label_column is None
    assert state["is_loading"]


def test_a_guess_is_marked_where_the_column_is_chosen(opened, split):
    said = opened(DataPanel, split=split).state["split"]
    assert {column["role"]: column["guess"] for column in said["columns"]} == {
        "text": "its name says so",
        "label": "its name says so",
        "group": "",
    }
    assert said["task_guess"] == "there are a text and a label column"
    assert not any("guessed" in note for note in said["notes"])
    chosen = data.load(Data(label_column="label", task="text-classification"), table=tiny.frame(60))
    said = opened(DataPanel, split=chosen).state["split"]
    assert [column["guess"] for column in said["columns"]] == ["its name says so", "", ""]
    assert said["task_guess"] == ""


def test_two_text_columns_are_joined(opened, press):
    frame = tiny.frame(60).assign(title=[f"title {i}" for i in range(60)], note="none")
    session = FakeSession(split=data.load(Data(), table=frame))
    panel = opened(DataPanel, session)
    shown = lambda state: [(field["role"], field["value"]) for field in state["split"]["columns"]]  # noqa: E731
    assert shown(panel.state)[:2] == [("text", "text"), ("joined with", "")]
    press(panel, "column", field="text_column", value="title", place=1)
    assert session.plan.data.text_column == ("text", "title")
    session.split = data.load(session.plan.data, table=frame)
    state = press(panel, "column", field="label_column", value="label")
    assert shown(state)[:3] == [("text", "text"), ("joined with", "title"), ("and", "")]
    assert state["split"]["columns"][1]["options"] == ["title", "note"]
    assert "\n\ntitle" in state["split"]["page"]["rows"][0]["text"]
    press(panel, "column", field="text_column", value="note", place=0)
    assert session.plan.data.text_column == ("note", "title")
    press(panel, "column", field="text_column", value="", place=1)
    assert session.plan.data.text_column == "text"  # the rows that are shown are still those of the first text


def test_the_menu_says_what_is_in_the_rows(opened, split):
    facts = {option["value"]: option["facts"] for option in opened(DataPanel).state["options"]}
    assert facts["sentiment:movies"] == "sentiment:movies · 10,072 rows · 2 classes"
    assert facts["shakespeare"] == "shakespeare · 781 rows · language modelling"
    named = dataclasses.replace(split, source="sentiment:movies")
    notes = opened(DataPanel, split=named).state["split"]["notes"]
    assert notes[-1].endswith("licence: pack MIT; texts of third parties")


def test_a_column_can_be_changed(opened, press, split):
    session = FakeSession(split=split)
    panel = opened(DataPanel, session)
    press(panel, "column", field="label_column", value="stars")
    assert session.plan.data.label_column == "stars"
    press(panel, "column", field="source", value="elsewhere")
    assert session.plan.data.source == "sentiment:movies"


def test_why_reading_failed_is_told_here(opened):
    panel = opened(DataPanel)
    panel.show(PreparationEnded(part="data", what="film.csv has no label column", hint="set label_column"))
    panel.refresh()
    assert panel.state["problem"] == {"what": "film.csv has no label column", "hint": "set label_column", "details": ""}
    assert not panel.state["is_loading"]


def test_rows_without_a_label_and_a_backbone_that_can_not_write_are_told_here(opened):
    session = FakeSession(split=data.load(Data(), table=tiny.frame(60)[["text"]]))
    session.change(source="rows/film.csv")
    panel = opened(DataPanel, session)
    session.bus.publish(PreparationEnded(part="backbone", what="minilm-l6 is an encoder"))
    assert until(lambda: panel.state["problem"] is not None)
    assert panel.state["problem"]["what"].startswith("film.csv has no label column")
    assert panel.state["split"]["columns"][1] == {
        "role": "label",
        "field": "label_column",
        "tip": tip("label_column"),
        "place": 0,
        "guess": "",
        "value": "",
        "options": ["text"],
    }


def test_every_named_source_can_be_chosen(opened):
    values = [option["value"] for option in opened(DataPanel).state["options"]]
    assert values == [source.name for source in data.SOURCES]

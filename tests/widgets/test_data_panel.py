import base64
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
        "value": "",
        "options": ["text"],
    }


def test_every_named_source_can_be_chosen(opened):
    values = [option["value"] for option in opened(DataPanel).state["options"]]
    assert values == [source.name for source in data.SOURCES]

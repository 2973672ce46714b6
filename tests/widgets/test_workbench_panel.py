from pathlib import Path

import fakes
import pandas as pd
import pytest
from datasets import Dataset
from fakes import FakeSession, until

import widgets
from widgets import CurvesPanel, Workbench, wording
from workbench import attach
from workbench import run as run_plan
from workbench.errors import DataError, PlanError
from workbench.plan.choices import Transfer
from workbench.plan.plan import Plan
from workbench.runs.disk.run_folder import RunFolder
from workbench.session.session import Session, session_of


@pytest.fixture
def whole(backbone, split):
    panel = Workbench(FakeSession(backbone=backbone, split=split, events=fakes.log(30), pace=0.001))
    yield panel
    panel.close()


def test_it_holds_every_panel_of_one_session(whole):
    assert set(whole.panels) == {name for name in widgets.__all__ if name != "Workbench"}
    assert {id(panel.session) for panel in whole.panels.values()} == {id(whole.session)}


def test_a_run_shows_in_all_its_panels(whole):
    whole.session.start()
    assert until(lambda: whole.panels["RunPanel"].state["phase"] == "completed")
    assert until(lambda: whole.panels["CurvesPanel"].state["last_step"] == 30)


def test_a_session_or_a_plan_not_both():
    with pytest.raises(PlanError, match="got a session and plan="):
        Workbench(FakeSession(), plan=Plan())


FRAME = pd.DataFrame({"text": [f"row {i}" for i in range(40)], "label": [0, 1] * 20})
PLAN = Plan().change(epochs=7, backbone="/no/such/model")


@pytest.mark.parametrize(
    ("given", "objects", "plan"),
    [
        ((PLAN,), {}, PLAN),
        ((), {"plan": PLAN}, PLAN),
        ((FRAME,), {}, Plan().change(source="table")),
        ((), {"table": FRAME}, Plan().change(source="table")),
        ((), {"table": Dataset.from_pandas(FRAME)}, Plan().change(source="table")),
        ((PLAN,), {"table": FRAME}, PLAN.change(source="table")),
        ((FRAME,), {"plan": PLAN}, PLAN.change(source="table")),
        (("reviews.csv",), {}, Plan().change(source="reviews.csv")),
        ((Path("reviews.csv"),), {}, Plan().change(source="reviews.csv")),
        ((PLAN,), {"table": "reviews.csv"}, PLAN.change(source="reviews.csv")),
        ((), {}, Plan()),
    ],
)
def test_it_takes_whatever_a_session_can_be_made_of(given, objects, plan, monkeypatch):
    monkeypatch.setattr(Session, "prepare", lambda self: None)
    panel = Workbench(*given, **objects)
    assert panel.session.plan == plan
    panel.close()


def test_a_run_is_shown_in_its_session(tmp_path):
    RunFolder.create(Plan(), tmp_path)
    run = attach("last", runs=tmp_path)
    assert session_of(run) is run.session


@pytest.mark.parametrize("given", [3, {"learning_rate": 1}, [FRAME], Plan])
def test_anything_else_is_refused_with_an_example(given):
    with pytest.raises(PlanError, match=r"expected a plan, a table or the name of a source.*\n.*table=frame"):
        Workbench(given)
    with pytest.raises(DataError, match=r"expected a pandas frame or a datasets.Dataset"):
        Session(table=[given])


def test_the_message_has_the_right_article():
    with pytest.raises(PlanError, match="got an int"):
        Workbench(3)


def test_a_panel_alone_takes_what_the_workbench_takes(tmp_path):
    RunFolder.create(Plan(), tmp_path)
    run = attach("last", runs=tmp_path)
    for given, objects, plan in ((run, {}, run.plan), (PLAN, {}, PLAN), (None, {"plan": PLAN}, PLAN)):
        panel = CurvesPanel(given, **objects)
        assert panel.session.plan == plan
        panel.close()
    with pytest.raises(PlanError, match="expected a plan, a table or the name of a source"):
        CurvesPanel(3)


@pytest.mark.parametrize("take", [Workbench, CurvesPanel, Session, attach, run_plan])
def test_an_unknown_argument_is_answered_with_what_is_meant(take):
    for given, words in (
        ({"tabel": FRAME}, r"no argument 'tabel'\nDid you mean 'table'\?"),
        (
            {"learning_rate": 1e-4},
            r"the plan has a field of this name\nTry: give it .* wb.Plan\(learning_rate=0.0001\)",
        ),
        ({"zzz": 1}, r"no argument 'zzz'\nTry: use one of .*table"),
    ):
        with pytest.raises(PlanError, match=words):
            take(**given)


def test_the_names_of_the_panels_are_public():
    assert sorted(widgets.__all__) == widgets.__all__
    for name in widgets.__all__:
        assert getattr(widgets, name).__name__ == name
    with pytest.raises(AttributeError, match="Nonsense"):
        widgets.Nonsense  # noqa: B018


@pytest.mark.parametrize(
    ("choice", "words"),
    [
        (Transfer(), "head only"),
        (Transfer(trainable="last 1"), "last block"),
        (Transfer(trainable="last 3"), "last 3 blocks"),
        (Transfer(trainable="all"), "all layers"),
        (Transfer(trainable=("block 1", "head")), "1 chosen block and head"),
        (Transfer(trainable=("block 1", "block 2")), "2 chosen blocks"),
        (Transfer(trainable="all", method="lora", lora_rank=4), "all layers, LoRA rank 4"),
        (Transfer(trainable="last 2", method="lora"), "last 2 blocks, LoRA rank 8"),
    ],
)
def test_the_mode_is_told_in_words(choice, words):
    assert wording.mode(choice) == words


@pytest.mark.parametrize(("number", "words"), [(770, "770"), (148_320, "148 k"), (22_713_216, "22.7 M"), (999, "999")])
def test_counts_have_three_digits_that_matter(number, words):
    assert wording.count(number) == words

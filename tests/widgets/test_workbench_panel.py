import fakes
import pytest
from fakes import FakeSession, until

import widgets
from widgets import Workbench, wording
from workbench.plan.choices import Transfer
from workbench.plan.plan import Plan


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
    with pytest.raises(TypeError, match="a session and a plan"):
        Workbench(FakeSession(), plan=Plan())


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
        (Transfer(trainable=("block 1", "head")), "2 chosen blocks"),
        (Transfer(trainable="all", method="lora", lora_rank=4), "all layers, LoRA rank 4"),
        (Transfer(trainable="last 2", method="lora"), "last 2 blocks, LoRA rank 8"),
    ],
)
def test_the_mode_is_told_in_words(choice, words):
    assert wording.mode(choice) == words


@pytest.mark.parametrize(("number", "words"), [(770, "770"), (148_320, "148 k"), (22_713_216, "22.7 M"), (999, "999")])
def test_counts_have_three_digits_that_matter(number, words):
    assert wording.count(number) == words

"""Tabs: one of several panels is displayed, and only that one is redrawn."""

import fakes
import pytest
from fakes import FakeSession, until

from widgets import CurvesPanel, HyperparameterPanel
from widgets.tabs import Tabs


@pytest.fixture
def tabs(opened):
    session = FakeSession()
    return Tabs({"Curves": opened(CurvesPanel, session), "Settings": opened(HyperparameterPanel, session)})


def test_the_first_tab_is_displayed_at_the_start(tabs):
    assert tabs.bar.chosen == "Curves"
    assert [panel.is_hidden for panel in tabs.panels.values()] == [False, True]


def test_a_hidden_panel_is_not_redrawn_until_its_tab_is_chosen(tabs):
    curves = tabs.panels["Curves"]
    tabs.choose("Settings")
    curves.session.shown(*fakes.log(30))
    assert not until(lambda: curves.state["last_step"] == 30, seconds=0.6)
    tabs.bar.chosen = "Curves"  # as the page does
    assert until(lambda: curves.state["last_step"] == 30)


def test_the_curves_of_a_run_that_is_opened_behind_another_tab_get_a_dot(tabs):
    tabs.choose("Settings")
    tabs.panels["Curves"].session.shown(*fakes.log(30))
    assert until(lambda: tabs.bar.dots == {"Curves": "another run is shown"})


def test_a_name_that_no_tab_has_changes_nothing(tabs):
    tabs.choose("Nonsense")
    tabs.bar.chosen = "Nonsense"
    assert [panel.is_hidden for panel in tabs.panels.values()] == [False, True]


def test_a_panel_that_wants_attention_gets_a_dot_until_it_is_displayed(tabs):
    tabs.panels["Settings"].attention = "a better rate was found"
    assert tabs.bar.dots == {"Settings": "a better rate was found"}
    tabs.choose("Settings")
    assert (tabs.bar.dots, tabs.panels["Settings"].attention) == ({}, "")
    tabs.panels["Settings"].attention = "it is seen already"
    assert tabs.bar.dots == {}

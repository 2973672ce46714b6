import pytest
import tiny
from fakes import FakeSession

from workbench import data
from workbench.plan.choices import Data


@pytest.fixture(scope="session")
def backbone():
    return tiny.backbone("bert")


@pytest.fixture(scope="session")
def split():
    return data.load(Data(), table=tiny.frame(60))


@pytest.fixture
def opened():
    """Make panels that are closed when the test ends."""
    panels = []

    def open_panel(kind, session=None, **settings):
        panel = kind(session or FakeSession(**settings))
        panels.append(panel)
        return panel

    yield open_panel
    for panel in panels:
        panel.close()


@pytest.fixture
def press():
    """Do what a page does when somebody acts; then redraw at once, as the pump would soon."""

    def act(panel, action, **arguments):
        panel._handle_custom_msg({"do": action, **arguments}, [])
        panel.refresh()
        return panel.state

    return act

import pytest

import widgets
from widgets.panel import Panel
from workbench.practices.table import TABLE


@pytest.mark.parametrize("practice", TABLE, ids=lambda practice: practice.slug)
def test_the_panels_that_a_practice_names_are_there(practice):
    assert all(issubclass(getattr(widgets, name), Panel) for name in practice.panels)

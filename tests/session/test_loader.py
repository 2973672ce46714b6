import gc
import sys

import pytest

from workbench.errors import DataError
from workbench.events import PreparationEnded
from workbench.plan.plan import Plan
from workbench.session.loader import Loader


class Parts:
    """Notes whether garbage is collected while a part is loaded."""

    def __init__(self, *, fails=False):
        self.collected, self._fails = [], fails

    def split(self, plan):
        self.collected.append(gc.isenabled())
        if self._fails:
            raise DataError("no rows")

    backbone = examples = split


def loaded(parts):
    events = []
    Loader(parts, Plan, events.append)._load_all(Plan())
    return events


@pytest.mark.parametrize("fails", [False, True])
def test_garbage_is_not_looked_for_during_the_first_imports_and_is_afterwards(monkeypatch, fails):
    monkeypatch.delitem(sys.modules, "workbench.tasks", raising=False)
    events = loaded(parts := Parts(fails=fails))
    assert set(parts.collected) == {False}
    assert gc.isenabled()
    assert [bool(event.what) for event in events if isinstance(event, PreparationEnded)] == (
        [True] if fails else [False] * 3
    )


def test_later_loads_leave_the_collector_alone(monkeypatch):
    monkeypatch.setitem(sys.modules, "workbench.tasks", sys)
    loaded(parts := Parts())
    assert set(parts.collected) == {True}

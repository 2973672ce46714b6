import threading
import time

import pytest
import tiny

from workbench import data
from workbench.plan.plan import Plan
from workbench.runs.preparation import Preparation

pytestmark = pytest.mark.slow  # the whole file takes some seconds


PLAN = Plan().change(source="table")


@pytest.fixture
def loads(monkeypatch):
    """Count what is loaded, each taking a while."""
    load, taken = data.load, []

    def slowly(choice, *, table):
        taken.append(choice)
        time.sleep(0.3)
        return load(choice, table=table)

    monkeypatch.setattr(data, "load", slowly)
    return taken


def test_a_choice_that_the_rows_do_not_depend_on_loads_nothing_again(loads):
    preparation = Preparation(tiny.frame())
    assert preparation.split(PLAN) is preparation.split(PLAN.change(max_length=32, learning_rate=1e-4))
    assert preparation.current_split(PLAN.change(max_rows=20)) is None
    assert len(loads) == 1


def test_a_snapshot_waits_for_what_is_being_loaded_instead_of_loading_it_twice(loads):
    preparation = Preparation(tiny.frame())
    twin = preparation.snapshot()
    loader = threading.Thread(target=preparation.split, args=(PLAN,))
    loader.start()
    time.sleep(0.05)
    assert twin.split(PLAN) is preparation.split(PLAN)
    loader.join()
    assert len(loads) == 1


def test_a_snapshot_goes_its_own_way(loads):
    preparation = Preparation(tiny.frame())
    preparation.split(PLAN)
    twin = preparation.snapshot()
    twin.split(PLAN.change(max_rows=20))
    assert preparation.current_split(PLAN) is not None
    assert twin.current_split(PLAN) is None

import math
import typing
from collections.abc import Mapping
from typing import Any

import pytest
from sample_events import STARTED, STEP

from workbench import events
from workbench.errors import RunError
from workbench.events import EvaluationEnded, RunEnded
from workbench.events.bus import Bus


@pytest.mark.parametrize(
    "event",
    [
        STEP,
        STARTED,
        RunEnded(step=3, reason="completed"),
        EvaluationEnded(step=0, split="validation", metrics={"loss": 0.5}, rows=3, targets=3, seconds=0.1, best=True),
    ],
)
def test_an_event_reads_back_equal(event):
    back = events.from_dict(events.to_dict(event))
    assert back == event
    assert back.time == event.time


def test_an_event_prints_as_one_short_line():
    assert str(STEP) == "step 3 · loss 1.250"
    assert repr(STEP).startswith("StepEnded(time=")
    best = EvaluationEnded(step=1_000, split="test", metrics={"loss": 0.5}, rows=3, targets=3, seconds=0.1, best=True)
    assert str(best) == "step 1,000 · test loss 0.500 · the best so far"
    assert str(RunEnded(step=3, reason="completed", best_step=2, best_loss=0.5)).startswith("completed after step 3 · ")
    assert str(STARTED).startswith("100 rows · 5 of 9 parameters trainable · 10 steps")
    values = {int: 7, float: 0.5, str: "two\nlines", bool: True, float | None: 1.0, int | None: 1}
    values |= {Mapping[str, float]: {"block 1": 0.1}, Mapping[str, Any]: {"epochs": 2}}
    for kind in events.KINDS.values():
        fields = {name: values.get(hint, ("a",)) for name, hint in typing.get_type_hints(kind).items()}
        line = str(kind(**fields))
        assert kind.__name__ not in line
        assert "\n" not in line
        assert len(line) < 120


@pytest.mark.parametrize("value", [math.inf, -math.inf])
def test_numbers_that_json_lacks_read_back(value):
    event = EvaluationEnded(step=1, split="test", metrics={"loss": value}, rows=1, targets=1, seconds=value)
    assert events.from_dict(events.to_dict(event)) == event


@pytest.mark.parametrize("tree", [{}, {"event": "StepEndd"}, {"event": "StepEnded"}, {"event": "StepEnded", "x": 1}])
def test_what_is_no_event_is_refused(tree):
    with pytest.raises(RunError):
        events.from_dict(tree)


def test_a_watcher_hears_until_it_leaves():
    bus, heard = Bus(), []
    leave = bus.subscribe(heard.append)
    bus.publish(STEP)
    leave()
    leave()
    bus.publish(STEP)
    assert heard == [STEP]


def test_a_watcher_that_fails_neither_stops_the_run_nor_the_others():
    bus, heard = Bus(), []
    bus.subscribe(lambda event: 1 / 0)
    bus.subscribe(heard.append)
    bus.publish(STEP)
    assert heard == [STEP]
    assert isinstance(bus.errors[0][1], ZeroDivisionError)


def test_a_watcher_must_be_callable():
    with pytest.raises(TypeError, match="expected a function"):
        Bus().subscribe("no")

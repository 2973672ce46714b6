import math

import torch

from workbench.speed.settings.timing import alternated, seconds_of


def test_ways_take_turns_and_medians_count():
    taken = {"a": iter([9.0, 1.0, 5.0, 2.0] + [2.0] * 9), "b": iter([3.0] * 9)}
    asked = []

    def seconds(way):
        asked.append(way)
        return next(taken[way])

    assert alternated(["a", "b"], seconds) == {"a": 2.0, "b": 3.0}
    assert asked[:8] == ["a", "b", "a", "b", "b", "a", "a", "b"]


def test_a_way_that_fails_takes_for_ever_and_is_not_asked_again():
    asked = []

    def seconds(way):
        asked.append(way)
        return math.inf if way == "b" else 1.0

    assert alternated(["a", "b"], seconds) == {"a": 1.0, "b": math.inf}
    assert asked.count("b") == 1
    assert seconds_of(lambda: 1 / 0, torch.device("cpu")) == math.inf
    assert 0 <= seconds_of(lambda: None, torch.device("cpu")) < 1

"""What the layers panel says of the cache of frozen blocks."""

import pytest

from widgets.cached import Cached
from workbench.events import CacheReady, CacheRefused, PlanAdjusted, RunChosen

FACT = {
    "step": 0, "boundary": "head", "rows": 10, "size_bytes": 11_000_000, "budget_bytes": 6 * 10**9, "place": "memory",
    "seconds": 2.4,
}  # fmt: skip


def said(*events):
    cached = Cached()
    for event in events:
        cached.note(event)
    return cached.picture()


def test_nothing_is_said_before_anything_is_known():
    assert said() == said(CacheRefused(step=0, what="no"), RunChosen(name="other")) == {"cached": "", "cached_tip": ""}


def test_what_is_at_hand_is_said_with_its_size_and_the_budget():
    picture = said(CacheReady(split="train", **FACT), CacheReady(split="validation", **FACT))
    assert picture["cached"] == "frozen blocks cached (22 MB)"
    assert "every row in 5 s" in picture["cached_tip"]
    assert "6.0 GB" in picture["cached_tip"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [({"reused": True}, "An earlier run"), ({"advanced_from": "block 5"}, "cached at block 5"), ({}, "for every row")],
)
def test_where_it_came_from_is_said(changes, words):
    assert words in said(CacheReady(split="train", **FACT, **changes))["cached_tip"]


def test_what_lies_on_disk_is_said():
    assert said(CacheReady(split="train", **{**FACT, "place": "disk"}))["cached"].endswith("(11 MB on disk)")


def test_what_lies_in_memory_and_what_on_disk_is_told_apart():
    on_disk = CacheReady(split="train", **{**FACT, "place": "disk", "size_bytes": 7 * 10**9})
    picture = said(CacheReady(split="validation", **FACT), on_disk)
    assert picture["cached"].endswith("(11 MB in memory, 7.0 GB on disk)")


def test_it_is_said_if_only_held_out_rows_are_at_hand():
    said_of = said(CacheReady(split="validation", **FACT))["cached"]
    assert said_of == "frozen blocks cached for validation rows (11 MB)"


def test_a_boundary_that_moves_makes_it_another_story():
    moved = PlanAdjusted(step=3, before={"trainable": "head"}, after={"trainable": "all"})
    assert said(CacheReady(split="train", **FACT), moved) == {"cached": "", "cached_tip": ""}


def test_why_not_is_said():
    picture = said(CacheReady(split="train", **FACT), CacheRefused(step=3, what="block 2 reads 2 values"))
    assert picture["cached"] == "frozen blocks not cached: block 2 reads 2 values"

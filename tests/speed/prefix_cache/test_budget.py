"""What frozen blocks gave takes a share of what is free, and what was used least recently gives way."""

import os
import time

import psutil
import pytest

from workbench.speed.prefix_cache import budget


@pytest.fixture(autouse=True)
def own_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("FINETUNE_WORKBENCH_ACTIVATIONS", str(tmp_path / "activations"))


def home(name, *, used=None):
    made = budget.folder() / name
    made.mkdir(parents=True)
    (made / "values.bin").write_bytes(b"1234")
    if used is not None:
        os.utime(made / "values.bin", (used, used))
        os.utime(made, (used, used))
    return made


def test_the_oldest_give_way_where_the_disk_fills_up(monkeypatch):
    home("new", used=2), home("old", used=1), home("newest", used=3)
    used = 12 + budget.shutil.disk_usage(budget.folder()).free
    monkeypatch.setattr(budget, "DISK_SHARE", 9 / used)
    budget.tidy()
    assert sorted(left.name for left in budget.folder().iterdir()) == ["new", "newest"]


def test_what_a_killed_process_left_is_taken_away_after_a_day():
    old, new = home(f"{budget.PARTIAL}old", used=time.time() - 2 * 86_400), home(f"{budget.PARTIAL}new")
    budget.tidy()
    assert (old.exists(), new.exists()) == (False, True)


def test_there_is_nothing_to_tidy_up_before_anything_was_kept():
    budget.tidy()
    assert not budget.folder().exists()


def test_some_of_the_disk_is_left_for_logs_and_checkpoints(monkeypatch):
    free = budget.shutil.disk_usage(home("a")).free
    assert budget.fits(1)
    assert not budget.fits(free - budget.SPARE // 2)


def test_the_budget_is_as_asked_or_a_share_of_what_is_free():
    assert budget.budget(7) == 7 * 10**6
    assert 0 < budget.budget(None) < psutil.virtual_memory().total


@pytest.mark.parametrize(("limit", "taken", "free"), [("4000", "1000", 3000), ("4000", "5000", 0), ("max", "9", None)])
def test_what_a_container_may_still_take_is_read(tmp_path, limit, taken, free):
    (tmp_path / "memory.max").write_text(f"{limit}\n")
    (tmp_path / "memory.current").write_text(f"{taken}\n")
    assert budget._free_in_container(tmp_path) == free


def test_a_container_that_may_take_less_than_the_machine_has_is_heeded(monkeypatch):
    monkeypatch.setattr(budget, "_free_in_container", lambda: 4000)
    assert budget.budget(None) == 1000

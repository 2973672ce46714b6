"""Cached activations use a share of the free memory and disk space; the least recently used are deleted first."""

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


def test_the_least_recently_used_are_deleted_if_the_disk_is_full(monkeypatch):
    home("new", used=2), home("old", used=1), home("newest", used=3)
    used = 12 + budget.shutil.disk_usage(budget.folder()).free
    monkeypatch.setattr(budget, "DISK_SHARE", 9 / used)
    budget.tidy()
    assert sorted(left.name for left in budget.folder().iterdir()) == ["new", "newest"]


def test_unfinished_folders_of_killed_processes_are_deleted_after_a_day():
    old, new = home(f"{budget.PARTIAL}old", used=time.time() - 2 * 86_400), home(f"{budget.PARTIAL}new")
    budget.tidy()
    assert (old.exists(), new.exists()) == (False, True)


def test_tidying_works_before_anything_is_cached():
    budget.tidy()
    assert not budget.folder().exists()


def test_disk_space_is_left_for_logs_and_checkpoints(monkeypatch):
    free = budget.shutil.disk_usage(home("a")).free
    assert budget.fits(1)
    assert not budget.fits(free - budget.SPARE // 2)


def test_the_budget_is_the_given_limit_or_a_share_of_the_free_memory():
    assert budget.budget(7) == 7 * 10**6
    assert 0 < budget.budget(None) < psutil.virtual_memory().total


@pytest.mark.parametrize(("limit", "taken", "free"), [("4000", "1000", 3000), ("4000", "5000", 0), ("max", "9", None)])
def test_the_free_memory_of_a_container_is_read(tmp_path, limit, taken, free):
    (tmp_path / "memory.max").write_text(f"{limit}\n")
    (tmp_path / "memory.current").write_text(f"{taken}\n")
    assert budget._free_in_container(tmp_path) == free


def test_the_limit_of_a_container_counts_if_it_is_lower_than_the_free_memory(monkeypatch):
    monkeypatch.setattr(budget, "_free_in_container", lambda: 4000)
    assert budget.budget(None) == 1000

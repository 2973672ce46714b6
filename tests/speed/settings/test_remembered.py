import os

import pytest
import torch

from workbench.speed.settings.remembered import kept, key_of, memory_folder, recalled
from workbench.training.settings import Settings

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def memory(tmp_path, monkeypatch):
    monkeypatch.setenv("FINETUNE_WORKBENCH_MEMORY", str(tmp_path / "memory"))
    return tmp_path / "memory"


def test_what_is_kept_is_recalled_and_the_first_one_stays():
    assert recalled("a") is None
    first, later = Settings("bf16", measured=("first",)), Settings(measured=("later",))
    assert kept("a", first) == first
    assert kept("a", later) == first
    assert recalled("a") == first
    assert recalled("b") is None


@pytest.mark.parametrize("content", ["", "{", "[]", '{"precision": "fp8"}', "[" * 100_000, "\udcff"])
def test_a_broken_file_is_as_good_as_none(memory, content):
    memory.mkdir()
    (memory / "a.json").write_text(content, errors="surrogateescape")
    assert recalled("a") is None
    settings = Settings(measured=("new",))
    assert kept("a", settings) == settings
    assert recalled("a") == settings


def test_a_folder_that_can_not_be_written_is_no_error(memory):
    memory.write_text("a file stands there")
    settings = Settings(measured=("new",))
    assert kept("a", settings) == settings
    assert recalled("a") is None


def test_nothing_half_written_is_left(memory):
    kept("a", Settings(measured=("new",)))
    assert os.listdir(memory) == ["a.json"]


def test_the_key_tells_cases_apart():
    threads = torch.get_num_threads()
    keys = {key_of({"batch": shape}, CPU) for shape in ([8, 16], [8, 17])}
    assert len(keys) == 2
    assert key_of({"batch": [8, 16]}, CPU) in keys
    try:
        torch.set_num_threads(threads + 1)
        assert key_of({"batch": [8, 16]}, CPU) not in keys
    finally:
        torch.set_num_threads(threads)


def test_it_lies_beside_the_packs_unless_told(monkeypatch, tmp_path):
    monkeypatch.delenv("FINETUNE_WORKBENCH_MEMORY")
    monkeypatch.setenv("FINETUNE_WORKBENCH_CACHE", str(tmp_path))
    assert memory_folder() == tmp_path / "settings"

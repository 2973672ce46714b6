"""Settings that were measured on this machine before, so that the same plan gets the same ones without new trials.

There is one small JSON file for each machine, model, batch and version, in the user's cache folder or in the folder
that FINETUNE_WORKBENCH_MEMORY names. A broken file counts as missing; if none can be written, nothing is remembered.
"""

import contextlib
import hashlib
import json
import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from workbench import packs
from workbench.training.settings import Settings
from workbench.untrusted import read_text


def memory_folder() -> Path:
    """Return the folder of the files: FINETUNE_WORKBENCH_MEMORY if that is set, else a folder beside the packs."""
    if chosen := os.environ.get("FINETUNE_WORKBENCH_MEMORY"):
        return Path(chosen).expanduser().absolute()
    return packs.cache_folder() / "settings"


def key_of(facts: Mapping[str, Any], device: torch.device) -> str:
    """Return the file name for these facts, this machine and this version of torch, without its ending."""
    machine = [processor(device), os.cpu_count(), torch.get_num_threads(), torch.__version__]
    text = json.dumps([machine, dict(facts)], sort_keys=True, default=str)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def processor(device: torch.device) -> str:
    """Return the name of the processor or the GPU, with what it can do."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    named = ""
    with contextlib.suppress(OSError, ValueError, StopIteration):
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        named = next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return f"{device.type} {named or platform.processor()} {torch.backends.cpu.get_cpu_capability()}"


def recalled(key: str) -> Settings | None:
    """Return the settings saved under this key; None if there are none that can be read."""
    try:
        return Settings.from_dict(json.loads(read_text(memory_folder() / f"{key}.json")))
    except (OSError, ValueError, RecursionError):
        return None


def kept(key: str, settings: Settings) -> Settings:
    """Save settings under this key and return them; if another run was faster, return what that run saved."""
    if (earlier := recalled(key)) is not None:
        return earlier
    folder = memory_folder()
    partial = folder / f".{key}-{os.getpid()}"
    with contextlib.suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        partial.write_text(json.dumps(settings.to_dict(), ensure_ascii=False), encoding="utf-8")
        partial.replace(folder / f"{key}.json")
    return settings

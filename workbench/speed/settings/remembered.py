"""What was measured on this machine, so that the same plan gets the same settings again without measuring.

One small JSON file for each machine, model, batch and version, in the user's cache folder, or where
FINETUNE_WORKBENCH_MEMORY says. A file that is broken or can't be written is as good as none.
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
    """Return where it is kept: FINETUNE_WORKBENCH_MEMORY if that is set, else a folder beside the packs."""
    if chosen := os.environ.get("FINETUNE_WORKBENCH_MEMORY"):
        return Path(chosen).expanduser().absolute()
    return packs.cache_folder() / "settings"


def key_of(facts: Mapping[str, Any], device: torch.device) -> str:
    """Return the name under which settings for these facts are kept on this machine with this version of torch."""
    machine = [processor(device), os.cpu_count(), torch.get_num_threads(), torch.__version__]
    text = json.dumps([machine, dict(facts)], sort_keys=True, default=str)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def processor(device: torch.device) -> str:
    """Return the model of what computes."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    named = ""
    with contextlib.suppress(OSError, ValueError, StopIteration):
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        named = next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return f"{device.type} {named or platform.processor()} {torch.backends.cpu.get_cpu_capability()}"


def recalled(key: str) -> Settings | None:
    """Return the settings kept under this key, if there are any that can be read."""
    try:
        return Settings.from_dict(json.loads(read_text(memory_folder() / f"{key}.json")))
    except (OSError, ValueError, RecursionError):
        return None


def kept(key: str, settings: Settings) -> Settings:
    """Keep settings under this key and return them; where another run was first, return what that one kept."""
    if (earlier := recalled(key)) is not None:
        return earlier
    folder = memory_folder()
    partial = folder / f".{key}-{os.getpid()}"
    with contextlib.suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        partial.write_text(json.dumps(settings.to_dict(), ensure_ascii=False), encoding="utf-8")
        partial.replace(folder / f"{key}.json")
    return settings

"""Where a run computes and in which precision, when the plan says "auto"."""

import torch

from workbench.choices import Device, Precision
from workbench.errors import PlanError


def choose_device(asked: Device) -> torch.device:
    """Return the device asked for; "auto" takes CUDA, else Apple's MPS, else the CPU.

    Raises:
        PlanError: The device asked for is not in this machine.
    """
    present = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if asked == "auto":
        return torch.device(next(name for name in present if present[name]))
    if not present[asked]:
        raise PlanError(f"device is {asked!r}, which this machine does not have", hint="device='auto'")
    return torch.device(asked)


def choose_precision(asked: Precision, device: torch.device, *, pays: bool) -> str:
    """Return "fp32" or "bf16"; "auto" takes bf16 autocast where the hardware has it and the task gains by it.

    Args:
        asked: The plan's choice.
        device: Where the run computes.
        pays: Whether the task was measured to be faster in bf16 on a CPU that has bf16 instructions.
    """
    if asked != "auto":
        return asked
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported() else "fp32"
    return "bf16" if device.type == "cpu" and pays and _cpu_has_bf16() else "fp32"


def _cpu_has_bf16() -> bool:
    # a CPU without these instructions emulates bf16, several times slower than fp32
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())

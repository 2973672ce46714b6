"""Where a run computes when the plan says "auto", and what that hardware has."""

import sys

import torch

from workbench.errors import PlanError
from workbench.plan.choices import Device


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


def idle_notes() -> tuple[str, ...]:
    """Return what to say where torch came too early to be told that its idle threads should not spin."""
    spins_idly = sys.modules["workbench"].spins_idly  # the package, which no module of it may import
    if not (spins_idly and sys.platform == "linux" and torch.get_num_threads() > 1):
        return ()
    return ("torch was imported before workbench, so its idle threads take time from others: import workbench first",)


def has_bf16(device: torch.device) -> bool:
    """Whether bf16 may be quick there: hardware without it emulates it, several times slower than fp32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return device.type == "cpu" and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())

"""Chooses the device of a run if the plan says "auto", and describes what that device can do."""

import sys

import torch

from workbench.errors import PlanError
from workbench.plan.choices import Device


def choose_device(requested: Device) -> torch.device:
    """Return the requested device; for "auto" CUDA, otherwise Apple's MPS, otherwise the CPU.

    Raises:
        PlanError: This machine does not have the requested device.
    """
    present = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if requested == "auto":
        return torch.device(next(name for name in present if present[name]))
    if not present[requested]:
        found = ", ".join(repr(name) for name in present if present[name])
        raise PlanError(
            f"device is {requested!r}, which this machine does not have; expected one of {found}", hint="device='auto'"
        )
    return torch.device(requested)


def idle_notes() -> tuple[str, ...]:
    """Return a note if torch was imported too early to configure its idle threads, which then spin."""
    spins_idly = sys.modules["workbench"].spins_idly  # its modules must not import the package itself
    if not (spins_idly and sys.platform == "linux" and torch.get_num_threads() > 1):
        return ()
    return ("torch was imported before workbench, so its idle threads use processor time: import workbench first",)


def has_bf16(device: torch.device) -> bool:
    """Return whether the hardware computes in bf16; without that, bf16 is emulated, several times slower than fp32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return device.type == "cpu" and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())

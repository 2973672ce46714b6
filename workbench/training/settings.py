"""Settings: how a run computes what its plan says. They change the time of a step and the last digits of numbers.

They are chosen in speed/settings/trials.py. The number of threads is recorded but never set: torch can only change it
for the whole process, that is for every run and every cell, and it changes the last digits of sums.
"""

import contextlib
import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor, nn

from workbench.plan.choices import Tuning
from workbench.untrusted import reader, text_fault

ATTENTIONS = ("own", "eager")
_SENTENCES, _LONGEST = 8, 200  # limits on `measured`, since a run folder may be a stranger's: sentences, characters


@dataclass(frozen=True)
class Settings:
    """How a run computes.

    Attributes:
        precision: fp32 | bf16 (autocast; weights stay fp32)
        channels_last: Whether pixels and the weights of 2D convolutions are in the memory format channels_last.
        attention: own (the model's default) | eager (the plain implementation of transformers, without a fused kernel)
        fused: Whether AdamW uses its fused kernel.
        threads: Number of threads of torch; recorded, never set.
        measured: The reasons for these settings, in short sentences.
    """

    precision: str = "fp32"
    channels_last: bool = False
    attention: str = "own"
    fused: bool = True
    threads: int = 1
    measured: tuple[str, ...] = ()

    @classmethod
    def from_dict(cls, tree: Any) -> Self | None:
        """Return the settings that `to_dict` returned, or None if the data, which may be a stranger's, is invalid."""
        try:
            body = {name: _READERS[name](value) for name, value in dict(tree).items()}
            found = cls(**body)
        except (KeyError, TypeError, ValueError):
            return None
        is_known = len(body) == len(_READERS) and found.precision in ("fp32", "bf16")
        is_known = is_known and found.attention in ATTENTIONS and 1 <= found.threads <= 65_536
        reasons = found.measured
        is_short = len(reasons) <= _SENTENCES and all(
            len(text) <= _LONGEST and not text_fault(text) for text in reasons
        )
        return found if is_known and is_short else None

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as JSON values."""
        return dataclasses.asdict(self) | {"measured": list(self.measured)}

    def overridden_by(self, choice: Tuning) -> Self:
        """Return the settings with the precision of the plan, unless that is "auto"."""
        if choice.precision in ("auto", self.precision):
            return self
        is_bf16 = choice.precision == "bf16"
        obsolete = ("fp32",) if is_bf16 else ("fp32", "attention")  # eager attention is used with bf16 only
        others = tuple(text for text in self.measured if not any(word in text for word in obsolete))
        reasons = (f"{choice.precision}, as the plan says", *others)
        attention = self.attention if is_bf16 else "own"
        return dataclasses.replace(self, precision=choice.precision, attention=attention, measured=reasons)

    def autocast(self, device: torch.device) -> "contextlib.AbstractContextManager[Any]":
        """Return the context in which the model computes in this precision."""
        if self.precision == "fp32" and not torch.is_autocast_enabled(device.type):
            return contextlib.nullcontext()  # takes a fortieth of the time of a disabled autocast
        return torch.autocast(device.type, torch.bfloat16, enabled=self.precision == "bf16")

    def apply_to(self, model: nn.Module) -> None:
        """Set the model's attention implementation and the memory format of its convolutions, in place."""
        if self.attention == "eager":
            set_attention(model, "eager")
        if self.channels_last:
            for weight in conv_weights(model):
                weight.data = weight.data.contiguous(memory_format=torch.channels_last)

    def to_device(self, batch: Mapping[str, Tensor], device: torch.device) -> dict[str, Tensor]:
        """Return a batch on the device, its pixels in the memory format of the convolutions."""
        moved = {name: value.to(device) for name, value in batch.items()}
        return {name: self._laid_out(value) for name, value in moved.items()} if self.channels_last else moved

    def _laid_out(self, value: Tensor) -> Tensor:
        is_pixels = value.ndim == 4 and value.is_floating_point()
        return value.contiguous(memory_format=torch.channels_last) if is_pixels else value


_READERS = {
    name: reader(hint)
    for name, hint in {
        "precision": str, "channels_last": bool, "attention": str, "fused": bool, "threads": int,
        "measured": tuple[str, ...],
    }.items()
}  # fmt: skip


def conv_weights(model: nn.Module) -> list[Tensor]:
    """Return the weights of a model's 2D convolutions."""
    return [module.weight for module in model.modules() if isinstance(module, nn.Conv2d)]


def attention_of(model: nn.Module) -> str:
    """Return the name that transformers gives to the model's attention implementation; "" if it can't be changed."""
    can_change = getattr(model, "_can_set_attn_implementation", lambda: False)
    return str(model.config._attn_implementation) if can_change() else ""  # type: ignore[union-attr]


def set_attention(model: nn.Module, name: str) -> None:
    """Set the attention implementation of a model in place, if it can be changed."""
    if attention_of(model) not in ("", name):
        model.set_attn_implementation(name)  # type: ignore[operator]


def make_contiguous(model: nn.Module) -> None:
    """Make every parameter of a model contiguous, in place, as other programs expect."""
    for parameter in model.parameters():
        parameter.data = parameter.data.contiguous()

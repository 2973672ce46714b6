"""Settings: how a run computes what its plan says. They change how long a step takes, and the last digits of numbers.

Left out: choosing them (trying.py), and the number of threads, which belongs to the whole process: torch can change it
only for every run and cell at once, and sums then come out otherwise in their last digits, so it is noted and kept.
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
_SENTENCES, _LONGEST = 8, 200  # of what was measured, and characters of each: a run folder may be a stranger's


@dataclass(frozen=True)
class Settings:
    """How a run computes.

    Attributes:
        precision: fp32 | bf16 (autocast; weights stay fp32)
        channels_last: Whether pixels and the weights of 2D convolutions lie in memory channel by channel last.
        attention: own (as the model has it) | eager (products and a softmax one by one, as transformers writes it out)
        fused: Whether AdamW takes its step in one kernel.
        threads: How many torch computes with; noted, never set.
        measured: Why so, a short sentence each.
    """

    precision: str = "fp32"
    channels_last: bool = False
    attention: str = "own"
    fused: bool = True
    threads: int = 1
    measured: tuple[str, ...] = ()

    @classmethod
    def from_dict(cls, tree: Any) -> Self | None:
        """Return settings as they were noted, whoever wrote them; None if these are none."""
        try:
            body = {name: _READERS[name](value) for name, value in dict(tree).items()}
            found = cls(**body)
        except (KeyError, TypeError, ValueError):
            return None
        is_known = len(body) == len(_READERS) and found.precision in ("fp32", "bf16")
        is_known = is_known and found.attention in ATTENTIONS and 1 <= found.threads <= 65_536
        said = found.measured
        is_short = len(said) <= _SENTENCES and all(len(text) <= _LONGEST and not text_fault(text) for text in said)
        return found if is_known and is_short else None

    def to_dict(self) -> dict[str, Any]:
        """Return them as JSON has them."""
        return dataclasses.asdict(self) | {"measured": list(self.measured)}

    def overridden_by(self, choice: Tuning) -> Self:
        """Return them with what the plan says outright in place of what was measured."""
        if choice.precision in ("auto", self.precision):
            return self
        is_bf16 = choice.precision == "bf16"
        gone = ("fp32",) if is_bf16 else ("fp32", "attention")  # another attention is for bf16 alone
        others = tuple(text for text in self.measured if not any(word in text for word in gone))
        said = (f"{choice.precision}, as the plan says", *others)
        attention = self.attention if is_bf16 else "own"
        return dataclasses.replace(self, precision=choice.precision, attention=attention, measured=said)

    def autocast(self, device: torch.device) -> "contextlib.AbstractContextManager[Any]":
        """Return the context in which a model is run in this precision."""
        if self.precision == "fp32" and not torch.is_autocast_enabled(device.type):
            return contextlib.nullcontext()  # a fortieth of the time of a context that does nothing
        return torch.autocast(device.type, torch.bfloat16, enabled=self.precision == "bf16")

    def apply_to(self, model: nn.Module) -> None:
        """Let a model attend, and its convolutions lie in memory, as these settings say, in place; no value changes."""
        if self.attention == "eager":
            set_attention(model, "eager")
        if self.channels_last:
            for weight in conv_weights(model):
                weight.data = weight.data.contiguous(memory_format=torch.channels_last)

    def to_device(self, batch: Mapping[str, Tensor], device: torch.device) -> dict[str, Tensor]:
        """Return a batch on the device, its pixels as the convolutions lie."""
        there = {name: value.to(device) for name, value in batch.items()}
        return {name: self._laid_out(value) for name, value in there.items()} if self.channels_last else there

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
    """Return how a model attends, as transformers names it, if that can be changed; else nothing."""
    can_change = getattr(model, "_can_set_attn_implementation", lambda: False)
    return str(model.config._attn_implementation) if can_change() else ""  # type: ignore[union-attr]


def set_attention(model: nn.Module, how: str) -> None:
    """Let a model attend in another way, in place, if it can."""
    if attention_of(model) not in ("", how):
        model.set_attn_implementation(how)  # type: ignore[operator]


def make_contiguous(model: nn.Module) -> None:
    """Let every parameter of a model lie in memory as its shape says, in place, as any other program expects."""
    for parameter in model.parameters():
        parameter.data = parameter.data.contiguous()

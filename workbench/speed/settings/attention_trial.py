"""Tries attention by itself, in bf16 on a CPU, where torch's own has a slow backward pass: as it is, and written out.

Timed are both passes over queries, keys and values of the shape that the model itself asks for: in a whole step what is
frozen would drown it. Left out: masks, which cost both ways next to nothing.
"""

import math
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from workbench.speed.settings.timing import alternated, seconds_of
from workbench.speed.settings.trial_notes import TrialNotes
from workbench.training.settings import Settings, attention_of

if TYPE_CHECKING:
    from workbench.speed.settings.trials import Trial

ROWS = 2  # that are tried: enough to tell, and over at once
LARGEST = 1 << 25  # attention scores of the largest batch in one layer, at most, where all of them are held at once


class _HeardError(Exception):
    """Ends a forward pass that has told what it was run for."""


class _Listening(TorchFunctionMode):
    """Notes the shape of the first queries that this thread hands to torch's own attention, and ends the pass there."""

    shape: torch.Size | None = None  # (batch, heads, time, channels)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is F.scaled_dot_product_attention:
            self.shape = args[0].shape if args else kwargs["query"].shape
            raise _HeardError
        return func(*args, **(kwargs or {}))


def times_of_attention(trial: "Trial", notes: TrialNotes) -> dict[str, float]:
    """Return own and eager -> seconds in bf16; nothing where there is no choice, or where eager would take much memory.

    Args:
        trial: The step of the run.
        notes: Those about its trials.
    """
    if trial.device.type != "cpu" or attention_of(trial.model) != "sdpa":
        return {}
    rows = trial.middling(min(ROWS, trial.rows))
    shape = _asked_for(trial, rows)
    if shape is None or trial.rows_of_longest * shape[1] * (shape[2] * _growth(trial, rows)) ** 2 > LARGEST:
        return {}
    inputs = [torch.randn(shape, dtype=torch.bfloat16, requires_grad=True) for _ in range(3)]
    ways = {"own": F.scaled_dot_product_attention, "eager": _written_out}
    names = {"own": ("bf16",), "eager": ("bf16", "eager attention")}  # a fault of torch's own is one of bf16 altogether

    def seconds(way: str) -> float:
        return seconds_of(lambda: ways[way](*inputs).sum().backward(), trial.device)

    return alternated(list(ways), lambda way: notes.seconds(names[way], lambda: seconds(way)))


def _written_out(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    scores = query @ key.transpose(2, 3) / math.sqrt(query.shape[-1])  # (batch, heads, time, time)
    return scores.softmax(-1) @ value


def _asked_for(trial: "Trial", rows: list[int]) -> torch.Size | None:
    """Return the shape of the queries of a batch of these rows, (batch, heads, time, channels)."""
    with _Listening() as heard, torch.no_grad():
        seconds_of(lambda: trial.nats(Settings(), trial.batch(rows)), trial.device)
    return heard.shape if heard.shape and len(heard.shape) == 4 else None


def _growth(trial: "Trial", rows: list[int]) -> float:
    """Return how many times as long as these rows the longest of all is."""
    return trial.longest / max(1, *(trial.lengths[row] for row in rows))

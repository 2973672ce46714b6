"""Compares torch's own attention with eager attention in bf16 on a CPU, where torch's backward pass is slow.

Attention is timed by itself, forward and backward, on tensors of the shapes that the model uses: in a whole step, the
time of frozen blocks would hide the difference. Left out: masks, which take little time either way.
"""

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from workbench.speed.settings.timing import alternated, seconds_of
from workbench.speed.settings.trial import Trial
from workbench.speed.settings.trial_notes import TrialNotes
from workbench.training.settings import Settings, attention_of

ROWS = 2  # rows that are tried: enough to compare, and fast
LARGEST = 1 << 25  # eager attention holds all scores of a layer in memory: the most that the largest batch may have


class _HeardError(Exception):
    """Ends a forward pass as soon as the shape is known."""


class _Listening(TorchFunctionMode):
    """Records the shape of the first queries that this thread passes to torch's attention, and ends the pass there."""

    shape: torch.Size | None = None  # (batch, heads, time, channels)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is F.scaled_dot_product_attention:
            self.shape = args[0].shape if args else kwargs["query"].shape
            raise _HeardError
        return func(*args, **(kwargs or {}))


def times_of_attention(trial: Trial, notes: TrialNotes) -> dict[str, float]:
    """Return "own" and "eager" -> seconds in bf16; empty if there is no choice, or eager would need too much memory.

    Args:
        trial: The training step of the run.
        notes: The notes about its trials.
    """
    if trial.device.type != "cpu" or attention_of(trial.model) != "sdpa":
        return {}
    rows = trial.middling(min(ROWS, trial.rows))
    shape = _asked_for(trial, rows)
    if shape is None or trial.rows_of_longest * shape[1] * (shape[2] * _growth(trial, rows)) ** 2 > LARGEST:
        return {}
    inputs = [torch.randn(shape, dtype=torch.bfloat16, requires_grad=True) for _ in range(3)]
    ways = {"own": F.scaled_dot_product_attention, "eager": _written_out}
    names = {"own": ("bf16",), "eager": ("bf16", "eager attention")}  # if own crashes, so does any step in bf16

    def seconds(way: str) -> float:
        return seconds_of(lambda: ways[way](*inputs).sum().backward(), trial.device)

    return alternated(list(ways), lambda way: notes.seconds(names[way], lambda: seconds(way)))


def _written_out(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    scores = query @ key.transpose(2, 3) / math.sqrt(query.shape[-1])  # (batch, heads, time, time)
    return scores.softmax(-1) @ value


def _asked_for(trial: Trial, rows: list[int]) -> torch.Size | None:
    """Return the shape of the queries of a batch of these rows, (batch, heads, time, channels)."""
    with _Listening() as heard, torch.no_grad():
        seconds_of(lambda: trial.nats(Settings(), trial.batch(rows)), trial.device)
    return heard.shape if heard.shape and len(heard.shape) == 4 else None


def _growth(trial: Trial, rows: list[int]) -> float:
    """Return the length of the longest row of all, relative to the longest of these rows."""
    return trial.longest / max(1, *(trial.lengths[row] for row in rows))

"""Chooses how a run computes by timing its training step in each way: the real model on real rows, a second in all.

The whole step is timed. A step that starts from cached activations is a part of it and computes in the same way.

The ways take turns, and their medians are compared. A faster way is used only if it saves at least 10 % of the time of
the simpler way. Afterwards, weights, gradients, norm statistics, modes and generators have the same bits as before.

Left out: `torch.compile` (minutes of compilation for a few per cent), and the number of threads (settings.py says why).
"""

import contextlib
import functools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from workbench.errors import counted
from workbench.plan.choices import Tuning
from workbench.seeding import seeded
from workbench.speed.settings.remembered import kept, key_of, recalled
from workbench.speed.settings.timing import alternated, seconds_of
from workbench.speed.settings.trial import Batch, Trial
from workbench.speed.settings.trial_notes import TrialNotes
from workbench.training.device import has_bf16
from workbench.training.settings import Settings, conv_weights

GAIN = 1.1  # a way must be this many times as fast as the simpler way to be used
WORTH = 1e-4  # seconds that it must save in each step: less is noise
STEP_SECONDS = 0.15  # time of one tried step, about; it determines the number of rows

Way = tuple[str, bool]  # precision, and whether the memory format is channels_last


def choose_settings(trial: Trial, choice: Tuning) -> Settings:
    """Return the fastest settings for a run on this machine, measured before or now."""
    key = _key(trial, choice)
    if (known := recalled(key)) is not None:
        return known
    found = measured(trial, choice)
    return found if not found.measured else kept(key, found)


def measured(trial: Trial, choice: Tuning) -> Settings:
    """Measure and return the fastest settings; the plain ones, without reasons, if no step succeeds."""
    threads = torch.get_num_threads()
    plain = Settings(precision="fp32" if choice.precision == "auto" else choice.precision, threads=threads)
    notes = TrialNotes(_key(trial, choice))
    with seeded(0, trial.device), _untouched(trial.model):
        steps = _steps_each_way(trial, choice, notes)
    if math.isinf(min(steps.values())):
        return plain
    chosen, said = _best_step(steps, choice)
    return Settings(*chosen, threads=threads, measured=(*notes.corrected(said), counted(threads, "thread")))


def _key(trial: Trial, choice: Tuning) -> str:
    return key_of(_facts(trial, choice), trial.device)


def _facts(trial: Trial, choice: Tuning) -> dict[str, Any]:
    model = trial.model
    return {
        "model": f"{type(model).__module__}.{type(model).__qualname__}",
        "parameters": [(name, list(p.shape), str(p.dtype), p.requires_grad) for name, p in model.named_parameters()],
        "batch": {name: list(value.shape) for name, value in trial.batch(trial.middling(trial.rows)).items()},
        "attention": getattr(getattr(model, "config", None), "_attn_implementation", None),
        "batch_size": trial.batch_size,
        "longest": trial.longest,
        "batch_tokens": trial.batch_tokens,
        "precision": choice.precision,
        "layouts": _layouts(trial),
        "others": list(trial.facts),
    }


@contextlib.contextmanager
def _untouched(model: nn.Module) -> Iterator[None]:
    """Restore modes, gradients, buffers and the memory format of convolutions at the end of the block."""
    modes = [(module, module.training) for module in model.modules()]
    gradients = [(parameter, parameter.grad) for parameter in model.parameters()]
    buffers = [(buffer, buffer.clone()) for buffer in model.buffers()]
    weights = [(weight, weight.data) for weight in conv_weights(model)]
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode
        for parameter, gradient in gradients:
            parameter.grad = gradient
        for weight, data in weights:
            weight.data = data
        with torch.no_grad():
            for buffer, value in buffers:
                buffer.copy_(value)


def _precisions(trial: Trial, choice: Tuning) -> list[str]:
    if choice.precision != "auto":
        return [choice.precision]
    return ["fp32", "bf16"] if has_bf16(trial.device) else ["fp32"]


def _layouts(trial: Trial) -> list[bool]:
    """Return the memory layouts that are tried: whether the channels of convolutions lie last."""
    if not conv_weights(trial.model):
        return [False]
    return [False] if trial.device.type == "cpu" and _may_crash(trial.model) else [False, True]


def _may_crash(model: nn.Module) -> bool:
    """Whether channels last can end the process on a CPU, by faults of torch 2.13.

    `native_group_norm_backward` writes the gradient of its input even if that needs none, as below frozen blocks. The
    gradient of a 1 × 1 convolution with a stride and fewer than 16 channels is written out of bounds.
    """
    return any(
        isinstance(module, nn.GroupNorm)
        or (
            isinstance(module, nn.Conv2d)
            and module.in_channels < 16
            and module.kernel_size == (1, 1)
            and module.stride != (1, 1)
        )
        for module in model.modules()
    )


def _steps_each_way(trial: Trial, choice: Tuning, notes: TrialNotes) -> dict[Way, float]:
    """Return the seconds of a forward and backward pass in each way; infinity for a way that fails."""
    ways = [(precision, last) for precision in _precisions(trial, choice) for last in _layouts(trial)]
    if len(ways) == 1:
        return {ways[0]: 0.0}  # nothing to choose
    step = _Step(trial, ways[0], notes)
    sizes = _sizes(trial, lambda rows: step.seconds((ways[0], rows)))
    taken = alternated([(way, rows) for way in ways for rows in sizes], step.seconds)
    return {way: _whole([taken[way, rows] for rows in sizes], sizes, trial.batch_size) for way in ways}


def _sizes(trial: Trial, seconds: Callable[[int], float]) -> list[int]:
    """Return the numbers of rows to try: a whole batch, or two smaller sizes to extrapolate from."""
    least = min(trial.rows, 2 if any(isinstance(module, _NormBase) for module in trial.model.modules()) else 1)
    seconds(least)  # warm-up: the first step of a process takes longer
    rows = max(least, int(min(trial.rows, least * STEP_SECONDS / seconds(least))))
    return [rows] if rows == trial.batch_size or rows == least else [max(least, rows // 4), rows]


def _whole(taken: Sequence[float], sizes: Sequence[int], batch_size: int) -> float:
    """Return the seconds of a whole batch, on the line through two sizes: casting weights costs all sizes the same."""
    if len(sizes) == 1 or math.inf in taken:
        return max(taken)
    few, many = taken
    return many + max(0.0, many - few) * (batch_size - sizes[1]) / (sizes[1] - sizes[0])


class _Step:
    """One forward and backward pass at a time."""

    def __init__(self, trial: Trial, plain: Way, notes: TrialNotes) -> None:
        self.trial, self.plain, self.notes = trial, plain, notes
        self.middling = functools.cache(lambda rows: trial.batch(trial.middling(rows)))
        self.plainly = [(weight, weight.data) for weight in conv_weights(trial.model)]

    def seconds(self, sized: tuple[Way, int]) -> float:
        """Return the seconds of a step with this number of rows in this way; infinity if it fails."""
        ((precision, channels_last), rows), trial = sized, self.trial
        settings, batch = Settings(precision, channels_last), self.middling(rows)
        for weight, data in self.plainly:
            weight.data = data
        settings.apply_to(trial.model)
        names = (*[precision] * (precision != self.plain[0]), *["channels last"] * channels_last)
        return self.notes.seconds(names, lambda: seconds_of(lambda: self._taken(settings, batch), trial.device))

    def _taken(self, settings: Settings, batch: Batch) -> None:
        for parameter in self.trial.model.parameters():
            parameter.grad = None
        self.trial.nats(settings, batch).backward()


def _pays(ours: float, plain: float) -> bool:
    return plain >= GAIN * ours and plain - ours >= WORTH


def _best_step(steps: dict[Way, float], choice: Tuning) -> tuple[Way, tuple[str, ...]]:
    """Return the fastest way, and the reasons."""
    last = {way: _pays(steps[way, True], steps[way, False]) for way, is_last in steps if is_last}
    best = {precision: (precision, last.get(precision, False)) for precision, _ in steps}
    chosen, said = best.get("fp32", next(iter(best.values()))), []
    if choice.precision != "auto":
        said = [f"{choice.precision}, as the plan says"]
    elif "bf16" not in best:
        said = ["this device has no bf16 arithmetic; using fp32"]
    else:
        ratio, is_faster = steps[chosen] / steps[best["bf16"]], _pays(steps[best["bf16"]], steps[chosen])
        said = [_told("bf16", ratio, "fp32", is_faster)]
        chosen = best["bf16"] if is_faster else chosen
    if last:
        ratio = steps[chosen[0], False] / steps[chosen[0], True]
        said.append(_told("channels last", ratio, "channels first", chosen[1]))
    return chosen, tuple(said)


def _told(way: str, ratio: float, other: str, is_taken: bool) -> str:
    if is_taken:
        return f"{way} is {ratio:.2g} × as fast as {other} here; using {way}"
    return f"{way} {'is slower' if ratio < 1 else 'gains too little'} here; using {other}"

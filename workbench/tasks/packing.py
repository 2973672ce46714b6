"""Windows of a batch laid end to end in as few rows as fit, in place of padding: another layout of the same batch.

First-fit decreasing into rows as long as the batch's longest window. Positions begin anew with each window, and a mask
keeps windows blind to each other, so a model reads each as if it stood alone; a model that can't is found out on a few
tokens and gets padding. A batch that would need as many rows as before stays padded too. Loss and gradient are those of
padding up to rounding; dropout draws other numbers, for there are fewer places to draw for.

A packed batch has two entries that are no inputs of a model. "real" (rows, time) tells the places that hold a token,
and "order" (examples,) whose they are: read row by row, the real places hold item order[0], then order[1] and so on.
"""

import dataclasses
import functools
import inspect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn import Module

from workbench.tasks import output_layer
from workbench.tasks.examples import IGNORED, Batch, Examples

Window = tuple[Tensor, int]  # token ids (time,), and where the first that is a target stands

INPUTS = ("input_ids", "attention_mask", "position_ids")
TOLERANCE = 1e-4  # of the largest logit: far above rounding, far below what a leak or a shifted position does
TRIED = 16  # tokens of the longest window that a model is tried with
LOCAL = ("sliding_window", "attention_chunk_size", "window_size")  # how far attention reaches, in configurations


def packed(examples: Examples, model: Module) -> Examples:
    """Return examples that pack their batches where that saves, or, with a note why, the same if the model can't.

    Args:
        examples: Windows of a language model, padded so far.
        model: What reads them; it comes back as it was.
    """
    order = sorted(range(len(examples)), key=lambda index: (examples.lengths[index], index))
    if len(order) < 3 or sum(examples.lengths[index] for index in order[:2]) > examples.lengths[order[-1]]:
        return examples  # no two windows ever fit into one row
    is_bool = getattr(model.config, "_attn_implementation", "") == "sdpa"
    tried = examples.collate(_cropped([examples.items[index] for index in (order[-1], order[1], order[0])]))
    if why := _refusal(model, tried, examples.lengths[order[-1]], is_bool=is_bool):
        return dataclasses.replace(examples, notes=(*examples.notes, f"windows are padded, not packed: {why}"))
    return dataclasses.replace(examples, layout=functools.partial(lay, is_bool=is_bool))


def lay(batch: Batch, *, is_bool: bool = True) -> Batch:
    """Return the batch packed, or as it is if that saves no row.

    Args:
        batch: "input_ids", "attention_mask" and "labels", padded on the right.  # (batch, time) each
        is_bool: Whether the mask says True for what may be read, as torch's own attention takes it; else it is added.

    Returns:
        Those, "attention_mask" now (rows, 1, time, time), with "position_ids" and "real" (rows, time) and "order".
    """
    was_real = batch["attention_mask"].bool()
    count, longest = was_real.shape
    rows = _first_fit(lengths := was_real.sum(1).tolist(), longest)
    if len(rows) == count:
        return batch
    order = torch.tensor([index for row in rows for index in row])
    was_real = was_real[order]
    real = torch.arange(longest) < torch.tensor([sum(lengths[index] for index in row) for row in rows]).unsqueeze(1)

    def laid(values: Tensor, filling: int) -> Tensor:
        return values.new_full(real.shape, filling).masked_scatter_(real, values[was_real])

    window = laid(torch.arange(count).unsqueeze(1).expand(-1, longest), -1)  # (rows, time); -1: none
    return {
        "input_ids": laid(batch["input_ids"][order], 0),
        "position_ids": laid(torch.arange(longest).expand(count, -1), 0),
        "attention_mask": _mask(window, is_bool=is_bool),
        "labels": laid(batch["labels"][order], IGNORED),
        "real": real,
        "order": order,
    }


def _first_fit(lengths: Sequence[int], capacity: int) -> list[list[int]]:
    """Return which windows share a row: each goes, longest first, into the first row that has room for it."""
    rows: list[list[int]] = []
    room: list[int] = []
    for index in sorted(range(len(lengths)), key=lambda index: (-lengths[index], index)):
        place = next((row for row, left in enumerate(room) if left >= lengths[index]), len(rows))
        if place == len(rows):
            rows.append([])
            room.append(capacity)
        rows[place].append(index)
        room[place] -= lengths[index]
    return rows


def _mask(window: Tensor, *, is_bool: bool) -> Tensor:
    """Return what each place may read: itself and what came before in its own window (padding counts as one).

    Args:
        window: The number of the window that each place belongs to.  # (rows, time)
        is_bool: Whether to say so with True, or with 0 to be added, and the lowest number for what is hidden.
    """
    is_seen = (window.unsqueeze(2) == window.unsqueeze(1)).tril_().unsqueeze(1)  # (rows, 1, time, time)
    if is_bool:
        return is_seen
    return torch.zeros(is_seen.shape).masked_fill_(~is_seen, torch.finfo(torch.float32).min)


def _cropped(items: Sequence[Window]) -> list[Window]:
    """Return the beginnings of a long window and of two short ones, such that these fill no more than its row."""
    long, *short = (ids for ids, _ in items)
    room = min(TRIED, len(long))
    second = short[1][: room // 2]
    return [(ids, 1) for ids in (long[:room], short[0][: room - len(second)], second)]


def _refusal(model: Any, batch: Batch, longest: int, *, is_bool: bool) -> str:
    """Return why the model can't read packed windows, or nothing if it reads these as it reads them padded."""
    settings = model.config.get_text_config()
    reach = min((value for name in LOCAL if isinstance(value := getattr(settings, name, None), int)), default=longest)
    if "position_ids" not in inspect.signature(model.forward).parameters:
        return "this model takes no positions"
    if reach < longest:
        return f"this model's attention reaches back {reach:,} tokens, and there are windows of {longest:,}"
    laid = lay(batch, is_bool=is_bool)
    try:
        with _resting(model), torch.no_grad():
            apart, together = (_logits(model, some) for some in (_reordered(batch, laid["order"]), laid))
    except Exception as error:  # whatever a model raises at a mask or positions that it was not made for
        return f"this model can't take them ({error})"
    difference = (apart - together).abs().max().item()
    if difference <= max(TOLERANCE, 4 * torch.finfo(apart.dtype).eps) * apart.abs().max().item():
        return ""
    return f"this model would read windows differently beside each other (a logit differs by {difference:.2g})"


def _reordered(batch: Batch, order: Tensor) -> Batch:
    return {name: values[order] for name, values in batch.items()}


def _logits(model: Module, batch: Batch) -> Tensor:
    """Return the logits of every target, window by window."""
    device = next(model.parameters()).device
    inputs = {name: batch[name].to(device) for name in INPUTS if name in batch}
    return output_layer.logits(model, inputs, batch["labels"].to(device) != IGNORED)


@contextmanager
def _resting(model: Module) -> Iterator[None]:
    """Let the whole model be in eval mode within the block, so that it draws no number and keeps no statistics."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, is_training in modes:
            module.training = is_training

"""Packs the windows of a batch into as few rows as possible, so that less of the batch is padding.

The rows are as long as the longest window of the batch, and windows are placed by first-fit decreasing. Position ids
start at 0 in each window, and the attention mask separates windows that share a row, so the model reads each window as
if it were alone. A trial on a few tokens shows whether the model supports this; if it does not, its batches stay
padded. A batch also stays padded if packing saves no row. Loss and gradient are equal to those of the padded batch up
to rounding. Dropout draws other numbers, because a packed batch has fewer positions.

A packed batch has two entries that are not inputs of the model. "real" (rows, time) is True at positions that hold a
token. "order" (examples,) lists the packed examples: read row by row, the real positions hold the tokens of example
order[0], then those of order[1], and so on.
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

Window = tuple[Tensor, int]  # token ids (time,), and the index of the first target

INPUTS = ("input_ids", "attention_mask", "position_ids")
TOLERANCE = 1e-4  # relative to the largest logit: far above rounding, far below the effect of a leak between windows
TRIAL_TOKENS = 16  # length of the longest window in the trial
LOCAL = ("sliding_window", "attention_chunk_size", "window_size")  # names of the attention span in configurations


def packed(examples: Examples, model: Module) -> Examples:
    """Return examples that pack their batches; if the model can't read them, the same examples and a note why.

    Args:
        examples: Windows of a language model.
        model: The model that will read them. It is not changed.
    """
    order = sorted(range(len(examples)), key=lambda index: (examples.lengths[index], index))
    if len(order) < 3 or sum(examples.lengths[index] for index in order[:2]) > examples.lengths[order[-1]]:
        return examples  # even the two shortest windows do not fit into one row
    is_bool = getattr(model.config, "_attn_implementation", "") == "sdpa"
    trial = examples.collate(_cropped([examples.items[index] for index in (order[-1], order[1], order[0])]))
    if why := _why_unsupported(model, trial, examples.lengths[order[-1]], is_bool=is_bool):
        return dataclasses.replace(examples, notes=(*examples.notes, f"windows are padded, not packed: {why}"))
    return dataclasses.replace(examples, layout=functools.partial(lay, is_bool=is_bool))


def lay(batch: Batch, *, is_bool: bool = True) -> Batch:
    """Return the packed batch, or the batch itself if packing saves no row.

    Args:
        batch: "input_ids", "attention_mask" and "labels", padded on the right.  # (batch, time) each
        is_bool: Whether to make a boolean mask, as torch's scaled_dot_product_attention takes it, or an additive one.

    Returns:
        The same entries, with an "attention_mask" of (rows, 1, time, time), and "position_ids" and "real" (rows, time)
        and "order" (examples,).
    """
    was_real = batch["attention_mask"].bool()
    count, longest = was_real.shape
    rows = _first_fit(lengths := was_real.sum(1).tolist(), longest)
    if len(rows) == count:
        return batch
    order = torch.tensor([index for row in rows for index in row])
    was_real = was_real[order]
    real = torch.arange(longest) < torch.tensor([sum(lengths[index] for index in row) for row in rows]).unsqueeze(1)

    def place(values: Tensor, padding: int) -> Tensor:
        return values.new_full(real.shape, padding).masked_scatter_(real, values[was_real])

    window = place(torch.arange(count).unsqueeze(1).expand(-1, longest), -1)  # (rows, time); -1: padding
    return {
        "input_ids": place(batch["input_ids"][order], 0),
        "position_ids": place(torch.arange(longest).expand(count, -1), 0),
        "attention_mask": _mask(window, is_bool=is_bool),
        "labels": place(batch["labels"][order], IGNORED),
        "real": real,
        "order": order,
    }


def _first_fit(lengths: Sequence[int], capacity: int) -> list[list[int]]:
    """Return the indices of the windows in each row: first-fit decreasing puts each into the first row with room."""
    rows: list[list[int]] = []
    room: list[int] = []
    for index in sorted(range(len(lengths)), key=lambda index: (-lengths[index], index)):
        row = next((row for row, left in enumerate(room) if left >= lengths[index]), len(rows))
        if row == len(rows):
            rows.append([])
            room.append(capacity)
        rows[row].append(index)
        room[row] -= lengths[index]
    return rows


def _mask(window: Tensor, *, is_bool: bool) -> Tensor:
    """Return the attention mask: a position attends to itself and to earlier positions of its window.

    Padding is treated as one more window, so that no row of the mask is empty.

    Args:
        window: Number of the window at each position.  # (rows, time)
        is_bool: Whether the mask is True where attention is allowed; else 0 there, and the lowest float elsewhere.
    """
    is_visible = (window.unsqueeze(2) == window.unsqueeze(1)).tril_().unsqueeze(1)  # (rows, 1, time, time)
    if is_bool:
        return is_visible
    return torch.zeros(is_visible.shape).masked_fill_(~is_visible, torch.finfo(torch.float32).min)


def _cropped(items: Sequence[Window]) -> list[Window]:
    """Return the beginnings of a long window and two short ones, such that the short ones fit into one row."""
    long, *short = (ids for ids, _ in items)
    room = min(TRIAL_TOKENS, len(long))
    second = short[1][: room // 2]
    return [(ids, 1) for ids in (long[:room], short[0][: room - len(second)], second)]


def _why_unsupported(model: Any, batch: Batch, longest: int, *, is_bool: bool) -> str:
    """Return why the model can't read packed windows; "" if its logits are the same for packed and padded windows."""
    settings = model.config.get_text_config()
    reach = min((value for name in LOCAL if isinstance(value := getattr(settings, name, None), int)), default=longest)
    if "position_ids" not in inspect.signature(model.forward).parameters:
        return "this model takes no position ids"
    if reach < longest:
        return f"the attention of this model reaches back {reach:,} tokens, and the longest window has {longest:,}"
    packed_batch = lay(batch, is_bool=is_bool)
    try:
        with _eval_mode(model), torch.no_grad():
            reordered = {name: values[packed_batch["order"]] for name, values in batch.items()}
            apart, together = _logits(model, reordered), _logits(model, packed_batch)
    except Exception as error:  # a model may raise anything at a mask or position ids that it does not support
        return f"this model does not accept them ({error})"
    difference = (apart - together).abs().max().item()
    if difference <= max(TOLERANCE, 4 * torch.finfo(apart.dtype).eps) * apart.abs().max().item():
        return ""
    return f"this model reads windows that share a row differently (a logit differs by {difference:.2g})"


def _logits(model: Module, batch: Batch) -> Tensor:
    """Return the logits of all targets, window by window."""
    device = next(model.parameters()).device
    inputs = {name: batch[name].to(device) for name in INPUTS if name in batch}
    return output_layer.logits(model, inputs, batch["labels"].to(device) != IGNORED)


@contextmanager
def _eval_mode(model: Module) -> Iterator[None]:
    """Put the whole model into eval mode within the block: no dropout, and no update of batch statistics."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, is_training in modes:
            module.training = is_training

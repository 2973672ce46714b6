"""Proof of freezing: a hash of everything frozen, and how far trainable blocks have moved.

The hash is xxh3 with 128 bits. It detects mistakes, such as a buffer that changes or a stray assignment, but not
forgery. It reads about ten gigabytes per second, fast enough for every checkpoint.
"""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import xxhash

from workbench.models import lora
from workbench.models.blocks import Block

if TYPE_CHECKING:
    from torch import Tensor, nn

PART = 1 << 18  # weights that are hashed at a time: one megabyte, which fits into the cache of the processor


def frozen_tensors(model: "nn.Module", blocks: Sequence[Block], trainable: Sequence[str]) -> "dict[str, Tensor]":
    """Return by name every parameter that requires no gradient, and every buffer outside the trainable blocks."""
    learning = tuple(f"{path}." for block in blocks if block.name in trainable for path in block.modules)
    kept: dict[str, Tensor] = {
        name: parameter for name, parameter in model.named_parameters() if not parameter.requires_grad
    }
    resting = lora.resting_norms(model, [block for block in blocks if block.name in trainable])
    at_rest = {id(buffer) for norm in resting for buffer in norm.buffers()}
    buffers = dict(model.named_buffers())
    kept |= {name: b for name, b in buffers.items() if id(b) in at_rest or not name.startswith(learning)}
    return {lora.own_name(name): tensor for name, tensor in kept.items()}


def hash_of(tensor: "Tensor") -> str:
    """Return a hash of a tensor's type, shape and bits."""
    import torch

    plain = tensor.detach().cpu().contiguous()
    found = xxhash.xxh3_128(f"{plain.dtype} {tuple(plain.shape)}".encode())
    for part in plain.view(-1).split(PART) if plain.numel() else ():
        found.update(part.clone().view(torch.uint8).numpy().data)  # clone: NumPy would copy all of a shared storage
    return found.hexdigest()


def hashes(tensors: "Mapping[str, Tensor]") -> dict[str, str]:
    """Return a hash of each tensor's type, shape and bits."""
    return {name: hash_of(tensor) for name, tensor in tensors.items()}


def where(names: Sequence[str], blocks: Sequence[Block]) -> tuple[str, ...]:
    """Return the names of the blocks that hold the tensors of these names."""
    return tuple(block.name for block in blocks if any(_is_in(name, block) for name in names))


def _is_in(name: str, block: Block) -> bool:
    return name in block.parameters or name.startswith(tuple(f"{path}." for path in block.modules))


def moved(
    model: "nn.Module", blocks: Sequence[Block], origin: "Mapping[str, Tensor]", learnt: Sequence[str]
) -> tuple[dict[str, float], dict[str, float]]:
    """Return how far each block that is or was trainable has moved from θ₀ to θ, in one of two units.

    What an adapter adds counts as a change of the weight of its layer.

    Args:
        model: The model as it is now.
        blocks: Its blocks.
        origin: Its parameters before training, by name, without adapters.
        learnt: Names of the blocks to measure.

    Returns:
        Block name -> ‖θ − θ₀‖₂ / ‖θ₀‖₂ over its weights; and block name -> root mean square of θ − θ₀ for blocks whose
        weights were all zero, where that ratio is undefined. Gemma's final norm is one: it scales by 1 + θ.
    """
    now = {lora.own_name(name): parameter.detach() for name, parameter in model.named_parameters()}
    squares = {name: _squares(now[name] - before, before) for name, before in origin.items() if name in now}
    squares |= {name: _squares(added, weight) for name, weight, added in lora.changes(model)}
    relative, rms = {}, {}
    for block in (block for block in blocks if block.name in learnt):
        own = [squares[name] for name in block.parameters if name in squares]
        change, size, count = (sum(parts) for parts in zip((0.0, 0.0, 0), *own, strict=True))
        if count and not size:
            rms[block.name] = math.sqrt(change / count)
        else:
            relative[block.name] = math.sqrt(change / size) if size else 0.0
    return relative, rms


def _squares(change: "Tensor", before: "Tensor") -> tuple[float, float, int]:
    """Return the squared L2 norms of a change and of the weights before it, and how many weights there are."""
    return float(change.detach().square().sum()), float(before.detach().square().sum()), before.numel()

"""Proof of freezing: a hash of everything frozen, and how far what learns has moved.

The hash is xxh3 of 128 bits: it guards against mistakes (a buffer that moves, a stray assignment), not against forgery,
and reads some ten gigabytes a second, so that every checkpoint can afford it.
"""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import xxhash

from workbench.models import lora
from workbench.models.blocks import Block

if TYPE_CHECKING:
    from torch import Tensor, nn

PART = 1 << 18  # numbers hashed at a time: a megabyte, which stays in the processor's cache


def frozen_tensors(model: "nn.Module", blocks: Sequence[Block], trainable: Sequence[str]) -> "dict[str, Tensor]":
    """Return by name every parameter that asks for no gradient, and every buffer outside the trainable blocks."""
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
        found.update(part.clone().view(torch.uint8).numpy().data)  # of what is shared with others, NumPy copies all
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
) -> dict[str, float]:
    """Return how far each block that learns or learnt has moved: ‖θ − θ₀‖₂ / ‖θ₀‖₂ over its weight tensors.

    What an adapter adds counts as a change of the weight it stands beside.

    Args:
        model: As it is now.
        blocks: As found on it.
        origin: Its own parameters as they were before they learnt, by name.
        learnt: Names of the blocks to measure.
    """
    now = {lora.own_name(name): parameter.detach() for name, parameter in model.named_parameters()}
    squares = {name: (_square(now[name] - before), _square(before)) for name, before in origin.items() if name in now}
    squares |= {name: (_square(added), _square(weight)) for name, weight, added in lora.changes(model)}
    return {
        block.name: _relative([squares[name] for name in block.parameters if name in squares])
        for block in blocks
        if block.name in learnt
    }


def _square(tensor: "Tensor") -> float:
    return float(tensor.detach().square().sum())


def _relative(squares: Sequence[tuple[float, float]]) -> float:
    change, size = sum(change for change, _ in squares), sum(size for _, size in squares)
    return math.sqrt(change / size) if size else 0.0

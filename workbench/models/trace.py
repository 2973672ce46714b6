"""Runs a model once on a tiny made-up input and notes which module ran when, and what went in and out of each.

The model comes back as it was: modes, buffers, generators and hooks. Left out: gradients, and telling what an
architecture nobody has seen wants as input; where a guess fails there is no trace, and `trace` says so with None.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from workbench.seeding import seeded

Value = tuple[int, int]  # a tensor at one moment: its identity and its version, which in-place changes raise


@dataclass
class Call:
    """The first call of a module, and how many there were."""

    start: int  # order in which the modules were entered
    count: int = 0
    inputs: set[Value] = field(default_factory=set)
    outputs: set[Value] = field(default_factory=set)


def trace(model: nn.Module) -> dict[nn.Module, Call] | None:
    """Return the call of each module that took part in one forward pass, or None if no made-up input suits the model.

    Args:
        model: Any module; transformers' models are fed by their configuration, others by their first layer.
    """
    for inputs in _guesses(model):
        try:
            with _undisturbed(model):
                return _record(model, inputs)
        except Exception:  # whatever a stranger's forward raises, this input does not suit it
            continue
    return None


@contextmanager
def _undisturbed(model: nn.Module) -> Iterator[None]:
    modes = {module: module.training for module in model.modules()}
    model.eval()  # dropout draws nothing, and norms leave their statistics alone
    try:
        with torch.no_grad(), seeded(0):
            yield
    finally:
        for module, mode in modes.items():
            module.training = mode


def _record(model: nn.Module, inputs: dict[str, Tensor] | Tensor) -> dict[nn.Module, Call]:
    calls: dict[nn.Module, Call] = {}
    alive: list[Tensor] = []  # a tensor that is freed would lend its identity to another one

    def values(tree: Any) -> set[Value]:
        found = list(_tensors(tree))
        alive.extend(found)
        return {(id(tensor), tensor._version) for tensor in found}

    def enter(module: nn.Module, args: Any, kwargs: Any) -> None:
        call = calls.setdefault(module, Call(start=len(calls)))
        call.count += 1
        if call.count == 1:
            call.inputs = values((args, kwargs))

    def leave(module: nn.Module, args: Any, output: Any) -> None:
        if calls[module].count == 1:
            calls[module].outputs = values(output)

    hooks = [module.register_forward_pre_hook(enter, with_kwargs=True) for module in model.modules()]
    hooks += [module.register_forward_hook(leave) for module in model.modules()]
    try:
        model(**inputs) if isinstance(inputs, dict) else model(inputs)
    finally:
        for hook in hooks:
            hook.remove()
    return calls


def _tensors(tree: Any) -> Iterator[Tensor]:
    if isinstance(tree, Tensor):
        yield tree
    elif isinstance(tree, dict):
        for item in tree.values():
            yield from _tensors(item)
    elif isinstance(tree, (tuple, list)):
        for item in tree:
            yield from _tensors(item)


def _guesses(model: nn.Module) -> Iterator[dict[str, Tensor] | Tensor]:
    """Yield inputs that may suit the model, the most telling first."""
    place = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
    config = getattr(model, "config", None)
    config = getattr(config, "vision_config", config)
    if getattr(model, "main_input_name", "") == "pixel_values":
        for side in _image_sides(config):
            yield {"pixel_values": torch.zeros(1, getattr(config, "num_channels", 3), side, side, device=place)}
    elif getattr(model, "main_input_name", "") == "input_ids":
        yield {"input_ids": _token_ids(config).to(place)}
        made_up: Any = getattr(model, "dummy_inputs", {})
        yield {name: tensor.to(place) for name, tensor in made_up.items()}
    else:
        yield from (tensor.to(place) for tensor in _by_first_layer(model))


def _image_sides(config: Any) -> Iterator[int]:
    size = getattr(config, "image_size", None)
    if isinstance(size, int):
        yield size
    elif isinstance(size, (tuple, list)):
        yield int(size[0])
    yield from (64, 224)


def _token_ids(config: Any) -> Tensor:
    """Return (1, 6) token ids without padding that end in the end-of-text token, which some classifiers look for."""
    text = config.get_text_config()
    special = {getattr(text, f"{name}_token_id", None) for name in ("pad", "eos")}
    size = getattr(text, "vocab_size", 256)  # models of characters have none
    ids = [token for token in range(size) if token not in special][:5]
    end = getattr(text, "eos_token_id", None)
    return torch.tensor([[*ids, end if isinstance(end, int) and end < size else ids[0]]])


def _by_first_layer(model: nn.Module) -> Iterator[Tensor]:
    for module in model.modules():
        if isinstance(module, nn.Embedding):
            yield torch.arange(min(4, module.num_embeddings)).unsqueeze(0)
            return
        if isinstance(module, nn.Conv2d):
            for side in (32, 64, 224):
                yield torch.zeros(1, module.in_channels, side, side)
            return
        if isinstance(module, nn.Linear):
            yield torch.zeros(2, module.in_features)
            yield torch.zeros(2, 4, module.in_features)
            return

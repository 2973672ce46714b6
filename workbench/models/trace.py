"""Runs a model once on a tiny artificial input and records the order, the inputs and the outputs of its modules.

The model is not changed: training modes, buffers, random generators and hooks are restored.

Left out: gradients, and inputs for architectures that need other inputs than those tried here. If none of the tried
inputs works, `trace` returns None.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from workbench.seeding import seeded

Value = tuple[int, int]  # a tensor at one moment: its id() and its version, which in-place changes increase


@dataclass
class Call:
    """The first call of a module, and the number of its calls."""

    start: int  # position in the order in which modules were first called
    count: int = 0
    inputs: set[Value] = field(default_factory=set)
    outputs: set[Value] = field(default_factory=set)


def trace(model: nn.Module) -> dict[nn.Module, Call] | None:
    """Return the call of each module that ran in one forward pass, or None if the model accepts no artificial input.

    Args:
        model: Any module. The input is made from the configuration of a transformers model, else from the first layer.
    """
    for inputs in _guesses(model):
        try:
            with _undisturbed(model):
                return _record(model, inputs)
        except Exception:  # a forward may raise anything at an input that it does not support
            continue
    return None


@contextmanager
def _undisturbed(model: nn.Module) -> Iterator[None]:
    modes = {module: module.training for module in model.modules()}
    model.eval()  # no dropout, and batch norms do not update their statistics
    try:
        with torch.no_grad(), seeded(0):
            yield
    finally:
        for module, mode in modes.items():
            module.training = mode


def _record(model: nn.Module, inputs: dict[str, Tensor] | Tensor) -> dict[nn.Module, Call]:
    calls: dict[nn.Module, Call] = {}
    alive: list[Tensor] = []  # keeps tensors alive, so that no id() is used twice

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
    """Yield inputs that the model may accept, the most likely first."""
    device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
    config = getattr(model, "config", None)
    config = getattr(config, "vision_config", config)
    if getattr(model, "main_input_name", "") == "pixel_values":
        for side in _image_sides(config):
            yield {"pixel_values": torch.zeros(1, getattr(config, "num_channels", 3), side, side, device=device)}
    elif getattr(model, "main_input_name", "") == "input_ids":
        yield {"input_ids": _token_ids(config).to(device)}
        dummy: Any = getattr(model, "dummy_inputs", {})
        yield {name: tensor.to(device) for name, tensor in dummy.items()}
    else:
        yield from (tensor.to(device) for tensor in _by_first_layer(model))


def _image_sides(config: Any) -> Iterator[int]:
    size = getattr(config, "image_size", None)
    if isinstance(size, int):
        yield size
    elif isinstance(size, (tuple, list)):
        yield int(size[0])
    yield from (64, 224)


def _token_ids(config: Any) -> Tensor:
    """Return token ids (1, 6) without padding; the last one ends the text, as some classifiers require."""
    text = config.get_text_config()
    special = {getattr(text, f"{name}_token_id", None) for name in ("pad", "eos")}
    size = getattr(text, "vocab_size", 256)  # character models have none
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

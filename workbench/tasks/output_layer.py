"""Runs a causal language model so that its output layer sees the places that are targets, and no others.

Most of the work and memory of a small language model with 49,000 words is that layer. Where the model's logits are
just what a plain linear layer gives, the layer isn't run at all: what would enter it is handed out, for
`nats.of_layer`. Where the model does something to its logits afterwards (Gemma 2 caps them, Cohere and Granite scale
them), it does so to the targets' logits. Which of the two it is, the model shows when it is run.

Within a call, and for its thread, the layer's forward is replaced; it is put back whatever happens. Left out:
encoder-decoders, and layers that no `get_output_embeddings` tells of: there every place gets its logits.
"""

import functools
import inspect
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from weakref import WeakSet

import torch
from torch import Tensor, nn

Forward = Callable[[Tensor], Tensor]

_FINISHING: "WeakSet[nn.Module]" = WeakSet()  # models known to do something to what their output layer gives


def entering(model: nn.Module, inputs: Mapping[str, Tensor], is_target: Tensor) -> tuple[Tensor, nn.Linear] | None:
    """Return what would enter the output layer at the targets, and that layer; None if more than it makes the logits.

    To find out the latter costs one run of the model, after which generators stand where they stood before.

    Args:
        model: A causal language model.
        inputs: What its forward takes.
        is_target: Which places are targets.  # (batch, time)

    Returns:
        The hidden states in the order of the places (targets, width), and the layer.
    """
    layer = _output_layer(model)
    if model in _FINISHING or type(layer) is not nn.Linear or _is_watched(layer) or torch.is_inference_mode_enabled():
        return None
    calls: list[tuple[Tensor, Tensor]] = []

    def forward(hidden: Tensor) -> Tensor:
        calls.append((hidden, hidden.new_zeros(*hidden.shape[:-2], 0, layer.out_features)))  # logits of no place
        return calls[-1][1]

    generators = _generators(is_target.device)
    with _replaced(layer, forward):
        logits = run(model, inputs)
    if len(calls) == 1 and logits is calls[0][1] and not logits._version and calls[0][0].shape[:-1] == is_target.shape:
        return calls[0][0][is_target], layer
    _FINISHING.add(model)
    for put_back, state in generators:
        put_back(state)
    return None


def logits(model: nn.Module, inputs: Mapping[str, Tensor], is_target: Tensor) -> Tensor:
    """Return the model's logits at the targets.

    Args:
        model: A causal language model.
        inputs: What its forward takes.
        is_target: Which places are targets.  # (batch, time)

    Returns:
        In the order of the places.  # (targets, vocabulary)
    """
    layer, chosen = _output_layer(model), []
    if layer is None:
        return run(model, inputs)[is_target]
    usual: Forward = layer.forward

    def forward(hidden: Tensor) -> Tensor:
        if hidden.shape[:-1] != is_target.shape:
            return usual(hidden)
        chosen.append(hidden)
        return usual(hidden[is_target].unsqueeze(0))  # (1, targets, vocabulary)

    with _replaced(layer, forward):
        found = run(model, inputs)
    return found[0] if chosen else found[is_target]


def run(model: nn.Module, inputs: Mapping[str, Tensor]) -> Tensor:
    """Return the logits of a model, without the cache of keys and values that decoders keep for generation."""
    takes_cache = "use_cache" in accepted(type(model).forward)
    logits: Tensor = model(**inputs, **({"use_cache": False} if takes_cache else {})).logits
    return logits


@functools.lru_cache(maxsize=64)
def accepted(forward: Callable[..., Any]) -> frozenset[str]:
    """Return the names of what a forward takes."""
    return frozenset(inspect.signature(forward).parameters)


def _output_layer(model: nn.Module) -> Any:
    find = getattr(model, "get_output_embeddings", None)
    return None if find is None else find()


def _is_watched(layer: nn.Module) -> bool:
    return any((layer._forward_hooks, layer._forward_pre_hooks, layer._backward_hooks, layer._backward_pre_hooks))


@contextmanager
def _replaced(layer: nn.Module, forward: Forward) -> Iterator[None]:
    """Let the layer do this within the block; other threads, whose model it may be too, see the usual one."""
    usual, own, mine = layer.forward, vars(layer).get("forward"), threading.get_ident()
    setattr(layer, "forward", lambda hidden: (forward if threading.get_ident() == mine else usual)(hidden))  # noqa: B010
    try:
        yield
    finally:
        if own is None:
            delattr(layer, "forward")
        else:
            setattr(layer, "forward", own)  # noqa: B010


def _generators(device: torch.device) -> list[tuple[Callable[[Tensor], None], Tensor]]:
    """Return how to put back the generators that a forward pass on the device may draw from, and their states."""
    found: list[tuple[Callable[[Tensor], None], Tensor]] = [(torch.set_rng_state, torch.get_rng_state())]
    if device.type in ("cuda", "mps"):
        module = torch.get_device_module(device)
        found.append((module.set_rng_state, module.get_rng_state()))
    return found

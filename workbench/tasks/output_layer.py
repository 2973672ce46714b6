"""Runs a causal language model so that its output layer computes logits only at positions that are targets.

In a small language model with a vocabulary of 49,000, this layer takes most of the time and memory. If the model
returns the output of a plain linear layer unchanged, the layer does not run at all: `hidden_at_targets` returns its
inputs, for `cross_entropy.of_layer`. Some models change their logits afterwards (Gemma 2 caps them, Cohere and Granite
scale them); for those, `logits` computes the logits at the targets only. A run of the model shows which case applies.

During a call the forward of the layer is replaced, for the calling thread only; it is restored even after an error.

Left out: encoder-decoders, and models whose `get_output_embeddings` returns nothing. They compute all logits.
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

_CHANGES_LOGITS: "WeakSet[nn.Module]" = WeakSet()  # models known to change the output of their output layer


def hidden_at_targets(
    model: nn.Module, inputs: Mapping[str, Tensor], is_target: Tensor
) -> tuple[Tensor, nn.Linear] | None:
    """Return the inputs of the output layer at the targets, and the layer; None if its output is not the logits.

    The first call for a model of the latter kind costs one run of it. The random generators are restored after it.

    Args:
        model: A causal language model.
        inputs: Arguments of its forward.
        is_target: True at the positions that are targets.  # (batch, time)

    Returns:
        The hidden states in the order of the targets (targets, width), and the layer.
    """
    layer = _output_layer(model)
    if (
        model in _CHANGES_LOGITS
        or type(layer) is not nn.Linear
        or _has_hooks(layer)
        or torch.is_inference_mode_enabled()
    ):
        return None
    calls: list[tuple[Tensor, Tensor]] = []

    def forward(hidden: Tensor) -> Tensor:
        calls.append((hidden, hidden.new_zeros(*hidden.shape[:-2], 0, layer.out_features)))  # no logits
        return calls[-1][1]

    generators = _generators(is_target.device)
    with _replaced(layer, forward):
        logits = run(model, inputs)
    if len(calls) == 1 and logits is calls[0][1] and not logits._version and calls[0][0].shape[:-1] == is_target.shape:
        return calls[0][0][is_target], layer
    _CHANGES_LOGITS.add(model)
    for restore, state in generators:
        restore(state)
    return None


def logits(model: nn.Module, inputs: Mapping[str, Tensor], is_target: Tensor) -> Tensor:
    """Return the model's logits at the targets.

    Args:
        model: A causal language model.
        inputs: Arguments of its forward.
        is_target: True at the positions that are targets.  # (batch, time)

    Returns:
        The logits in the order of the targets.  # (targets, vocabulary)
    """
    layer, selected = _output_layer(model), []
    if layer is None:
        return run(model, inputs)[is_target]
    original: Forward = layer.forward

    def forward(hidden: Tensor) -> Tensor:
        if hidden.shape[:-1] != is_target.shape:
            return original(hidden)
        selected.append(hidden)
        return original(hidden[is_target].unsqueeze(0))  # (1, targets, vocabulary)

    with _replaced(layer, forward):
        found = run(model, inputs)
    return found[0] if selected else found[is_target]


def run(model: nn.Module, inputs: Mapping[str, Tensor]) -> Tensor:
    """Return the logits of a model; decoders do not build their key-value cache, which only generation needs."""
    takes_cache = "use_cache" in accepted(type(model).forward)
    logits: Tensor = model(**inputs, **({"use_cache": False} if takes_cache else {})).logits
    return logits


@functools.lru_cache(maxsize=64)
def accepted(forward: Callable[..., Any]) -> frozenset[str]:
    """Return the names of the parameters of a forward."""
    return frozenset(inspect.signature(forward).parameters)


def _output_layer(model: nn.Module) -> Any:
    find = getattr(model, "get_output_embeddings", None)
    return None if find is None else find()


def _has_hooks(layer: nn.Module) -> bool:
    return any((layer._forward_hooks, layer._forward_pre_hooks, layer._backward_hooks, layer._backward_pre_hooks))


@contextmanager
def _replaced(layer: nn.Module, forward: Forward) -> Iterator[None]:
    """Replace the layer's forward within the block for this thread; other threads may use the model meanwhile."""
    original, own, thread = layer.forward, vars(layer).get("forward"), threading.get_ident()
    setattr(layer, "forward", lambda hidden: (forward if threading.get_ident() == thread else original)(hidden))  # noqa: B010
    try:
        yield
    finally:
        if own is None:
            delattr(layer, "forward")
        else:
            setattr(layer, "forward", own)  # noqa: B010


def _generators(device: torch.device) -> list[tuple[Callable[[Tensor], None], Tensor]]:
    """Return the random generators that a forward pass on the device may use: how to restore each, and its state."""
    found: list[tuple[Callable[[Tensor], None], Tensor]] = [(torch.set_rng_state, torch.get_rng_state())]
    if device.type in ("cuda", "mps"):
        module = torch.get_device_module(device)
        found.append((module.set_rng_state, module.get_rng_state()))
    return found

"""Records the order and the outputs of the modules during a run of a model, and the inputs of one module.

The recording does not change the run. In contrast to `workbench.models.trace`, which runs any model on an artificial
input, this module records real batches.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten


@dataclass
class Calls:
    """The calls of one module. Calls of all modules are numbered in the order in which they begin."""

    first: int
    last: int
    leaves: list[Any] = field(default_factory=list)  # of (args, kwargs) of the first call; later changes show
    output: Any = None  # of the first call

    @property
    def arguments(self) -> list[Any]:
        """The leaves that are not None."""
        return [leaf for leaf in self.leaves if leaf is not None]

    @property
    def is_single(self) -> bool:
        """Whether the module was called once."""
        return self.first == self.last


@dataclass
class Recording:
    """What happened during one run.

    Attributes:
        calls: Module -> its calls; it has no entry for modules that did not run.
        inputs: Leaves of (args, kwargs) of the watched module's first call, copied before the call.
        logits: The result of the run.
    """

    calls: dict[nn.Module, Calls] = field(default_factory=dict)
    inputs: list[Any] = field(default_factory=list)
    logits: Tensor = field(default_factory=lambda: torch.empty(0))


def record(model: nn.Module, run: Callable[[], Tensor], *, watched: nn.Module | None = None) -> Recording:
    """Return what happens while `run` runs the model, without gradients.

    Args:
        model: The model. Its hooks are removed at the end.
        run: Runs the model once and returns its logits.
        watched: The module whose inputs are copied.
    """
    recording, clock = Recording(), iter(range(1 << 62))

    def enter(module: nn.Module, args: Any, kwargs: Any) -> None:
        now, leaves = next(clock), tree_flatten((args, kwargs))[0]
        if module is watched and module not in recording.calls:
            recording.inputs = _copied(leaves)
        recording.calls.setdefault(module, Calls(now, now, leaves)).last = now

    def leave(module: nn.Module, args: Any, output: Any) -> None:
        if recording.calls[module].is_single:
            recording.calls[module].output = output

    modules = list(model.modules())
    hooks = [module.register_forward_pre_hook(enter, with_kwargs=True) for module in modules]
    hooks += [module.register_forward_hook(leave) for module in modules]
    try:
        with torch.no_grad():
            recording.logits = run()
    finally:
        for hook in hooks:
            hook.remove()
    return recording


def _copied(leaves: list[Any]) -> list[Any]:
    """Return the leaves with each tensor copied; a tensor that occurs twice is copied once."""
    copies = {id(leaf): leaf.clone() for leaf in leaves if isinstance(leaf, Tensor)}
    return [copies.get(id(leaf), leaf) for leaf in leaves]

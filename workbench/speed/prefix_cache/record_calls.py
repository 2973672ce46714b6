"""Notes which module of a model ran when, what it gave, and what one of them was given, while something runs it.

Every module is called as usual and gives what it would have given. Unlike tracing.py in `baseline`, which makes up an
input for a model that nothing is known of, this follows real batches.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten


@dataclass
class Calls:
    """The calls of one module, in the order in which modules were entered."""

    first: int
    last: int
    leaves: list[Any] = field(default_factory=list)  # of (args, kwargs) of the first call, as they are now
    output: Any = None  # of the first call

    @property
    def given(self) -> list[Any]:
        """The leaves that are not None."""
        return [leaf for leaf in self.leaves if leaf is not None]

    @property
    def is_single(self) -> bool:
        """Whether it was called once."""
        return self.first == self.last


@dataclass
class Tape:
    """What was noted.

    Attributes:
        calls: Module -> its calls; modules that did not run are not in it.
        given: Leaves of (args, kwargs) of the watched module's first call, as they were before it changed them.
        answer: What the run returned.
    """

    calls: dict[nn.Module, Calls] = field(default_factory=dict)
    given: list[Any] = field(default_factory=list)
    answer: Tensor = field(default_factory=lambda: torch.empty(0))


def record(model: nn.Module, run: Callable[[], Tensor], *, watched: nn.Module | None = None) -> Tape:
    """Return what happened while `run` ran the model, without gradients.

    Args:
        model: Whose modules are noted; its hooks are as before afterwards.
        run: Runs it once and returns its answer.
        watched: The module whose arguments are kept.
    """
    tape, clock = Tape(), iter(range(1 << 62))

    def enter(module: nn.Module, args: Any, kwargs: Any) -> None:
        now, leaves = next(clock), tree_flatten((args, kwargs))[0]
        if module is watched and module not in tape.calls:
            tape.given = _copied(leaves)
        tape.calls.setdefault(module, Calls(now, now, leaves)).last = now

    def leave(module: nn.Module, args: Any, output: Any) -> None:
        if tape.calls[module].is_single:
            tape.calls[module].output = output

    modules = list(model.modules())
    hooks = [module.register_forward_pre_hook(enter, with_kwargs=True) for module in modules]
    hooks += [module.register_forward_hook(leave) for module in modules]
    try:
        with torch.no_grad():
            tape.answer = run()
    finally:
        for hook in hooks:
            hook.remove()
    return tape


def _copied(leaves: list[Any]) -> list[Any]:
    """Return the leaves with each tensor copied; one that is there twice is the same one afterwards, too."""
    copies = {id(leaf): leaf.clone() for leaf in leaves if isinstance(leaf, Tensor)}
    return [copies.get(id(leaf), leaf) for leaf in leaves]

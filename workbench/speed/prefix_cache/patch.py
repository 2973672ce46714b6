"""Runs a model from a cut on, or from its inputs to get the activations at the cut.

To run from the cut, the skipped modules return stand-ins and the entry receives the cached activations. The rest is the
model's own forward, with its masks and positions. A model is changed only within a `with` block, and only for the
calling thread; it is restored at the end of the block, also after an error.
"""

import contextlib
import threading
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

from torch import Tensor, nn
from torch.utils._pytree import tree_flatten, tree_unflatten

from workbench.speed.prefix_cache.cut import Cut

_NONE = object()
ReplaceArguments = Callable[[list[Any]], list[Any]]  # leaves of the entry's arguments -> leaves that replace them


class _ReachedError(BaseException):
    """Stops a forward pass at the entry. It is a BaseException, so that no `except Exception` in a model catches it."""

    def __init__(self, value: Tensor) -> None:
        super().__init__()
        self.value = value


@contextlib.contextmanager
def patched(
    model: nn.Module, cut: Cut, rows: int, time: int, replace_arguments: ReplaceArguments, *, fill: float = 0.0
) -> Iterator[None]:
    """Let the model run from the cut on within the block.

    Args:
        model: The model. It is changed only within the block.
        cut: The cut.
        rows: Number of rows in the batch that will run.
        time: Positions per row; 0 if rows are not sequences.
        replace_arguments: Replaces the arguments of the entry's first call.
        fill: Number that the stand-ins are filled with.
    """
    with contextlib.ExitStack() as changes:
        device = next(model.parameters()).device
        for path, stand_in in cut.skipped.items():
            output = stand_in.build(rows, time, fill, device)
            changes.enter_context(_replaced_forward(model.get_submodule(path), lambda *_, output=output, **__: output))
        changes.enter_context(_replaced_arguments(model, model.get_submodule(cut.entry), replace_arguments))
        yield


@contextlib.contextmanager
def _replaced_forward(module: nn.Module, forward: Callable[..., Any]) -> Iterator[None]:
    """Replace the module's forward within the block, for this thread.

    It writes to `vars` because nn.Module's `__setattr__` is slow.
    """
    own = vars(module).get("forward", _NONE)  # other libraries may have put a forward there
    original, thread = module.forward, threading.get_ident()
    vars(module)["forward"] = lambda *args, **kwargs: (
        forward(*args, **kwargs) if threading.get_ident() == thread else original(*args, **kwargs)
    )
    try:
        yield
    finally:
        if own is _NONE:
            del vars(module)["forward"]
        else:
            vars(module)["forward"] = own


@contextlib.contextmanager
def _replaced_arguments(model: nn.Module, entry: nn.Module, replace_arguments: ReplaceArguments) -> Iterator[None]:
    """Replace the arguments of the entry's first call in each run of the model within the block, for this thread."""
    thread, is_first = threading.get_ident(), [True]

    def begin(module: nn.Module, args: Any) -> None:
        is_first[0] = is_first[0] or threading.get_ident() == thread

    def enter(module: nn.Module, args: Any, kwargs: Any) -> Any:
        if threading.get_ident() != thread or not is_first[0]:
            return None
        is_first[0] = False
        leaves, spec = tree_flatten((args, kwargs))
        return tree_unflatten(replace_arguments(leaves), spec)

    hooks = [model.register_forward_pre_hook(begin), entry.register_forward_pre_hook(enter, with_kwargs=True)]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def replace_activations(cut: Cut, value: Tensor) -> ReplaceArguments:
    """Return a function that puts this value in place of the activations among the entry's arguments."""
    return lambda leaves: [value if index in cut.slots else leaf for index, leaf in enumerate(leaves)]


@contextlib.contextmanager
def start_at_cut(model: nn.Module, cut: Cut, value: Tensor, *, rows: int, time: int) -> Iterator[None]:
    """Let the model start at the cut with these activations within the block.

    If the upper part is a chain of modules (`cut.tail`), only these modules run.
    """
    if not cut.tail:
        with patched(model, cut, rows, time, replace_activations(cut, value)):
            yield
        return
    chain = [model.get_submodule(path) for path in cut.tail]

    def forward(*args: Any, **kwargs: Any) -> Any:
        output = value
        for module in chain:
            output = module(output)
        return SimpleNamespace(logits=output)

    with _replaced_forward(model, forward):
        yield


def activations_at_cut(model: nn.Module, cut: Cut, run: Callable[[], Any]) -> Tensor:
    """Return the activations at the cut. `run` runs the model from its inputs and is stopped at the cut.

    Raises:
        RuntimeError: `run` did not call the entry.
    """

    def take(leaves: list[Any]) -> list[Any]:
        raise _ReachedError(leaves[cut.slots[0]])

    with _replaced_arguments(model, model.get_submodule(cut.entry), take):
        try:
            run()
        except _ReachedError as reached:
            return reached.value
    raise RuntimeError(f"{cut.entry} was not reached")


@contextlib.contextmanager
def capture_at_cut(model: nn.Module, cut: Cut) -> Iterator[list[Tensor]]:
    """Yield a list to which each run within the block appends the activations at the cut; the model runs to its end."""
    found: list[Tensor] = []

    def capture(leaves: list[Any]) -> list[Any]:
        found.append(leaves[cut.slots[0]].clone())  # the upper part may change it in place
        return leaves

    with _replaced_arguments(model, model.get_submodule(cut.entry), capture):
        yield found

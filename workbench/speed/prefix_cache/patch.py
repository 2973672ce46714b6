"""Runs a model without what lies below a cut, or stops it at the cut to take what would cross it.

For the time of one call, and for its thread, the modules below the cut give a stand-in, and the entry is handed the
value that was kept. Everything else is the model's own forward: masks, positions, whatever its authors thought of.
Afterwards, and after an error too, the model is as it was.
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
HandOver = Callable[[list[Any]], list[Any]]  # leaves of the entry's arguments -> those it is called with


class _ReachedError(BaseException):
    """Ends a forward pass at the entry; no `except Exception` of a model may hold it up."""

    def __init__(self, value: Tensor) -> None:
        super().__init__()
        self.value = value


@contextlib.contextmanager
def patched(
    model: nn.Module, cut: Cut, rows: int, time: int, *, hand_over: HandOver, fill: float = 0.0
) -> Iterator[None]:
    """Let the model run from the cut upwards within the block.

    Args:
        model: Changed for the time of the block only.
        cut: Where.
        rows: Of the batch that will be run.
        time: Places of each of its rows; 0 where they have none.
        hand_over: What the entry gets in place of its arguments, at its first call.
        fill: What stand-ins are full of.
    """
    with contextlib.ExitStack() as changes:
        device = next(model.parameters()).device
        for path, stand_in in cut.skipped.items():
            made = stand_in.made(rows, time, fill, device)
            changes.enter_context(_replacing(model.get_submodule(path), lambda *_, made=made, **__: made))
        changes.enter_context(_handing(model, model.get_submodule(cut.entry), hand_over))
        yield


@contextlib.contextmanager
def _replacing(module: nn.Module, forward: Callable[..., Any]) -> Iterator[None]:
    """Let the module do this in place of its forward within the block, for this thread; not by nn.Module's slow way."""
    own = vars(module).get("forward", _NONE)  # as other libraries put one there
    usual, mine = module.forward, threading.get_ident()
    vars(module)["forward"] = lambda *args, **kwargs: (
        forward(*args, **kwargs) if threading.get_ident() == mine else usual(*args, **kwargs)
    )
    try:
        yield
    finally:
        if own is _NONE:
            del vars(module)["forward"]
        else:
            vars(module)["forward"] = own


@contextlib.contextmanager
def _handing(model: nn.Module, entry: nn.Module, hand_over: HandOver) -> Iterator[None]:
    """Let the entry's first call in each run of the model be one with what `hand_over` makes of its arguments."""
    mine, is_next = threading.get_ident(), [True]

    def begin(module: nn.Module, args: Any) -> None:
        is_next[0] = is_next[0] or threading.get_ident() == mine

    def enter(module: nn.Module, args: Any, kwargs: Any) -> Any:
        if threading.get_ident() != mine or not is_next[0]:
            return None
        is_next[0] = False
        leaves, spec = tree_flatten((args, kwargs))
        return tree_unflatten(hand_over(leaves), spec)

    hooks = [model.register_forward_pre_hook(begin), entry.register_forward_pre_hook(enter, with_kwargs=True)]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def giving(cut: Cut, value: Tensor) -> HandOver:
    """Return what hands the entry this value where the frozen blocks' would have come."""
    return lambda leaves: [value if place in cut.slots else leaf for place, leaf in enumerate(leaves)]


@contextlib.contextmanager
def begun(model: nn.Module, cut: Cut, value: Tensor, *, rows: int, time: int) -> Iterator[None]:
    """Let the model begin at the cut, with this value crossing it, within the block.

    Where the rest is a plain chain of modules, only they run.
    """
    if not cut.tail:
        with patched(model, cut, rows, time, hand_over=giving(cut, value)):
            yield
        return
    chain = [model.get_submodule(path) for path in cut.tail]

    def forward(*args: Any, **kwargs: Any) -> Any:
        found = value
        for module in chain:
            found = module(found)
        return SimpleNamespace(logits=found)

    with _replacing(model, forward):
        yield


def reached(model: nn.Module, cut: Cut, run: Callable[[], Any]) -> Tensor:
    """Return what would cross the cut in a run, which is ended there; the model runs from its very beginning."""

    def take(leaves: list[Any]) -> list[Any]:
        raise _ReachedError(leaves[cut.slots[0]])

    with _handing(model, model.get_submodule(cut.entry), take):
        try:
            run()
        except _ReachedError as reached:
            return reached.value
    raise RuntimeError(f"{cut.entry} was not reached")


@contextlib.contextmanager
def watched(model: nn.Module, cut: Cut, take: Callable[[Tensor], Any]) -> Iterator[None]:
    """Have what crosses the cut within the block taken as well, while the model runs to its end."""

    def pass_on(leaves: list[Any]) -> list[Any]:
        take(leaves[cut.slots[0]].clone())  # what is above may change it in place
        return leaves

    with _handing(model, model.get_submodule(cut.entry), pass_on):
        yield

"""Finds where a model can be cut: below the cut nothing learns, so what crosses it can be computed once and kept.

Found from the model itself. Two small real batches are run, and it is noted which module ran when. The *entry* is the
largest module around the first thing of the first learning block that runs; whatever is over before the entry starts
need not run again. That nothing but the entry reads what it gives is shown with poison: the modules below give NaN in
place of numbers, the entry is handed the true values, and the answer must be the true one. Those of the entry's
arguments that come as NaN are what has to be kept.

A model that can't be cut (a value that flows around the entry, sizes that hang together in no plain way) is refused
with the reason. Left out: the keeping (shelf.py), and cuts through the middle of a block.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten

from workbench.models.blocks import Block
from workbench.speed.prefix_cache.cut import ROWS, TIME, Cut, Shape, Size, StandIn, UncuttableError
from workbench.speed.prefix_cache.prove_cut import Search as Search
from workbench.speed.prefix_cache.prove_cut import Trial as Trial
from workbench.speed.prefix_cache.record_calls import Calls, Tape, record

# Without weights and without chance, so that what they give can be kept as well as what they take.
_PLAIN = (nn.Identity, nn.Flatten, nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AvgPool2d, nn.MaxPool2d)


def find(model: nn.Module, blocks: Sequence[Block], first: int, trials: tuple[Trial, Trial]) -> Cut:
    """Return the cut below block `first`.

    Args:
        model: In eval mode; it is left as it was.
        blocks: As found on it.
        first: Index of the lowest block that is computed.
        trials: Two batches of different rows and, where rows differ in length, of different time.

    Raises:
        UncuttableError: Something above the cut reads what is below otherwise than through its first module.
    """
    small = record(model, trials[0].run)
    entry = _entry(model, blocks, first, small)
    tapes = (small, record(model, trials[1].run, watched=model.get_submodule(entry)))
    found = {path: _stand_in(model.get_submodule(path), tapes, trials) for path in _over_before(model, entry, tapes[1])}
    skipped = {path: stand_in for path, stand_in in found.items() if stand_in is not None}
    search = Search(model, trials[1], tapes[1], Cut(blocks[first].name, entry, (), skipped, Shape((), torch.float32)))
    cut = search.widest({path for path in skipped if _holds_block(path, blocks[:first])})
    shape = _shape(small.calls[model.get_submodule(entry)].leaves[cut.slots[0]], tapes[1].given[cut.slots[0]], trials)
    if shape is None or shape.axis(ROWS) is None:
        raise UncuttableError(f"what reaches {cut.boundary} has no place of its own for each row")
    cut = search.narrowed(replace(cut, shape=shape))
    if cut.shape.axis(TIME) is None:  # else masks may be left out of a batch without padding, and needed in another
        cut = replace(cut, tail=_tail(model, entry, tapes[1]))
    search.check_above(cut)
    return cut


def _tail(model: nn.Module, entry: str, tape: Tape) -> tuple[str, ...]:
    """Return the paths of modules that, each fed by the one before, make the logits from what crosses; or ()."""
    paths = {module: path for path, module in model.named_modules()}
    logits, calls = getattr(tape.calls[model].output, "logits", None), tape.calls
    module, found = model.get_submodule(entry), [entry]
    while len(calls[module].given) == 1 and calls[module].is_single:
        if (value := calls[module].output) is logits:
            return tuple(found)
        readers = [m for m, call in calls.items() if call.first > calls[module].first and _reads(call, value)]
        if not isinstance(value, Tensor) or not readers:
            break
        module = min(readers, key=lambda reader: calls[reader].first)
        found.append(paths[module])
    return ()


def _reads(call: Calls, value: Any) -> bool:
    return bool(call.given) and call.given[0] is value


def _entry(model: nn.Module, blocks: Sequence[Block], first: int, tape: Tape) -> str:
    """Return the path of the largest module around the first thing of the block that runs."""
    below = {inner for block in blocks[:first] for inner in _modules(model, block)}
    starts = {tape.calls[m].first: m for m in _modules(model, blocks[first]) if m in tape.calls and _matters(m)}
    if not starts:
        raise UncuttableError(f"{blocks[first].name} does not run as a module of its own")
    leaf = next(path for path, module in model.named_modules() if module is starts[min(starts)])
    around = _around(leaf)
    entry = next(path for path in around if _is_whole(model.get_submodule(path), below, tape))
    for path in around[: around.index(entry)]:
        if any(parameter.requires_grad for parameter in model.get_submodule(path).parameters(recurse=False)):
            raise UncuttableError(f"a weight of {path or 'the model'} learns that is in no module of the blocks")
    return entry


def _modules(model: nn.Module, block: Block) -> list[nn.Module]:
    return [inner for path in block.modules for inner in model.get_submodule(path).modules()]


def _around(path: str) -> list[str]:
    """Return the paths from the model itself ("") down to this one."""
    parts = path.split(".")
    return ["", *(".".join(parts[: depth + 1]) for depth in range(len(parts)))]


def _matters(module: nn.Module) -> bool:
    """Whether a module may learn or draw: one with weights, or a leaf that is not known to be harmless."""
    has_weights = any(True for _ in module.parameters(recurse=False))
    return has_weights or not (any(True for _ in module.children()) or isinstance(module, _PLAIN))


def _is_whole(module: nn.Module, below: set[nn.Module], tape: Tape) -> bool:
    """Whether a module was called and holds nothing of the blocks below."""
    return module in tape.calls and not any(inner in below for inner in module.modules())


def _over_before(model: nn.Module, entry: str, tape: Tape) -> list[str]:
    """Return the paths of the largest modules all of whose calls were over before the entry was called."""
    start = tape.calls[model.get_submodule(entry)].first
    found: list[str] = []

    def walk(module: nn.Module, path: str) -> None:
        last = max((tape.calls[inner].last for inner in module.modules() if inner in tape.calls), default=start)
        if path and module in tape.calls and last < start and not entry.startswith(f"{path}."):
            found.append(path)
        else:
            for name, child in module.named_children():
                walk(child, f"{path}.{name}" if path else name)

    walk(model, "")
    return found


def _holds_block(path: str, blocks: Sequence[Block]) -> bool:
    """Whether a module holds one of the repeated blocks, or is in one."""
    inner = [module for block in blocks if block.kind == "block" for module in block.modules]
    return any(f"{a}.".startswith(f"{b}.") for one in inner for a, b in ((one, path), (path, one)))


def _stand_in(module: nn.Module, tapes: Sequence[Tape], trials: tuple[Trial, Trial]) -> StandIn | None:
    """Return what can stand in for the output of a module; None if its form hangs on more than the batch's sizes."""
    if any(module not in tape.calls or not tape.calls[module].is_single for tape in tapes):
        return None
    (small, spec), (large, other) = (tree_flatten(tape.calls[module].output) for tape in tapes)
    pairs = [_leaf(one, two, trials) for one, two in zip(small, large, strict=False)]
    return StandIn(tuple(leaf for leaf, _ in pairs), spec) if spec == other and all(ok for _, ok in pairs) else None


def _leaf(one: Any, two: Any, trials: tuple[Trial, Trial]) -> tuple[Any, bool]:
    """Return what stands in for a leaf of an output, and whether anything can."""
    if isinstance(one, Tensor) and isinstance(two, Tensor):
        shape = _shape(one, two, trials)
        return shape, shape is not None
    return one, isinstance(one, int | float | str | bool | None) and one == two


def _shape(one: Tensor, two: Tensor, trials: tuple[Trial, Trial]) -> Shape | None:
    """Return the form of a tensor from what it was for two batches; None if there is no telling."""
    rows, time = tuple(trial.rows for trial in trials), tuple(trial.time for trial in trials)
    sizes: list[Size] = []
    for pair in zip(one.shape, two.shape, strict=False):
        if pair == rows and ROWS not in sizes:
            sizes.append(ROWS)
        elif pair[0] != pair[1] and pair != time:
            return None
        else:
            sizes.append(pair[0] if pair[0] == pair[1] else TIME)
    return Shape(tuple(sizes), one.dtype) if one.ndim == two.ndim and one.dtype == two.dtype else None

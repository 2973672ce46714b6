"""Finds where a model can be cut. Everything below the cut is frozen, so its activations can be computed once.

The search knows no architectures. It runs two small real batches and records when each module runs. The *entry* is the
largest module that contains the first module of the lowest trainable block and nothing of the blocks below. Modules
that finish before the entry starts can be skipped. A test with NaN shows that only the entry reads their outputs: the
skipped modules return NaN, the entry receives the true values, and the logits must not change. The arguments of the
entry that arrive as NaN are the activations to cache.

UncuttableError gives the reason if a model can't be cut, for example because a value bypasses the entry.

Left out: storing activations (store.py), and cuts inside a block.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten

from workbench.models.blocks import Block
from workbench.speed.prefix_cache.cut import ROWS, TIME, Cut, Shape, Size, StandIn, UncuttableError
from workbench.speed.prefix_cache.prove_cut import ProbeBatches, Prover
from workbench.speed.prefix_cache.record_calls import Recording, record

# These modules have no weights and no randomness, so their outputs can be cached as well as their inputs.
_PLAIN = (nn.Identity, nn.Flatten, nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AvgPool2d, nn.MaxPool2d)


def find(model: nn.Module, blocks: Sequence[Block], first: int, batches: ProbeBatches) -> Cut:
    """Return the cut below block `first`.

    Args:
        model: The model in eval mode. It is not changed.
        blocks: Its blocks.
        first: Index of the lowest block above the cut.
        batches: Two batches that differ in the number of rows and, if rows can differ in length, in sequence length.

    Raises:
        UncuttableError: The model can't be cut here; for example, a module above the cut reads a value from below the
            cut that does not pass through the entry.
    """
    small = record(model, batches[0].run)
    entry = _entry(model, blocks, first, small)
    large = record(model, batches[1].run, watched=model.get_submodule(entry))
    paths = _finished_before(model, entry, large)
    found = {path: _stand_in(model.get_submodule(path), (small, large), batches) for path in paths}
    skipped = {path: stand_in for path, stand_in in found.items() if stand_in is not None}
    prover = Prover(model, batches[1], large, Cut(blocks[first].name, entry, (), skipped, Shape((), torch.float32)))
    cut = prover.skip_most({path for path in skipped if _holds_block(path, blocks[:first])})
    shape = _shape(small.calls[model.get_submodule(entry)].leaves[cut.slots[0]], large.inputs[cut.slots[0]], batches)
    if shape is None or shape.axis(ROWS) is None:
        raise UncuttableError(f"the input of {cut.boundary} has no dimension for the rows of the batch")
    cut = prover.narrow_to_first(replace(cut, shape=shape))
    if cut.shape.axis(TIME) is None:  # for sequences, this batch may not show that modules also read a mask
        cut = replace(cut, tail=_tail(model, entry, large))
    prover.check_above(cut)
    return cut


def _tail(model: nn.Module, entry: str, recording: Recording) -> tuple[str, ...]:
    """Return the paths of the chain of modules that computes the logits from the entry on; () if it is no chain."""
    paths = {module: path for path, module in model.named_modules()}
    logits, calls = getattr(recording.calls[model].output, "logits", None), recording.calls
    module, found = model.get_submodule(entry), [entry]
    while len(calls[module].arguments) == 1 and calls[module].is_single:
        if (value := calls[module].output) is logits:
            return tuple(found)
        later = {m: call for m, call in calls.items() if call.first > calls[module].first}
        readers = [m for m, call in later.items() if call.arguments and call.arguments[0] is value]
        if not isinstance(value, Tensor) or not readers:
            break
        module = min(readers, key=lambda reader: calls[reader].first)
        found.append(paths[module])
    return ()


def _entry(model: nn.Module, blocks: Sequence[Block], first: int, recording: Recording) -> str:
    """Return the path of the largest module that has the block's first running module and no module from below."""
    below = {inner for block in blocks[:first] for inner in _modules(model, block)}
    calls = recording.calls
    starts = {calls[m].first: m for m in _modules(model, blocks[first]) if m in calls and _may_train_or_draw(m)}
    if not starts:
        raise UncuttableError(f"{blocks[first].name} does not run as a module")
    leaf = next(path for path, module in model.named_modules() if module is starts[min(starts)])
    ancestors = _path_prefixes(leaf)
    entry = next(path for path in ancestors if _is_above(model.get_submodule(path), below, recording))
    for path in ancestors[: ancestors.index(entry)]:
        if any(parameter.requires_grad for parameter in model.get_submodule(path).parameters(recurse=False)):
            raise UncuttableError(f"a trainable weight of {path or 'the model'} is in no module of the blocks")
    return entry


def _modules(model: nn.Module, block: Block) -> list[nn.Module]:
    return [inner for path in block.modules for inner in model.get_submodule(path).modules()]


def _path_prefixes(path: str) -> list[str]:
    """Return the paths from the model itself ("") down to this one."""
    parts = path.split(".")
    return ["", *(".".join(parts[: depth + 1]) for depth in range(len(parts)))]


def _may_train_or_draw(module: nn.Module) -> bool:
    """Whether a module may have trainable weights or use random numbers: it has weights, or is an unknown leaf."""
    has_weights = any(True for _ in module.parameters(recurse=False))
    return has_weights or not (any(True for _ in module.children()) or isinstance(module, _PLAIN))


def _is_above(module: nn.Module, below: set[nn.Module], recording: Recording) -> bool:
    """Whether a module was called and contains no module of the blocks below."""
    return module in recording.calls and not any(inner in below for inner in module.modules())


def _finished_before(model: nn.Module, entry: str, recording: Recording) -> list[str]:
    """Return the paths of the largest modules whose calls all finished before the entry was called."""
    calls = recording.calls
    start = calls[model.get_submodule(entry)].first
    found: list[str] = []

    def walk(module: nn.Module, path: str) -> None:
        last = max((calls[inner].last for inner in module.modules() if inner in calls), default=start)
        if path and module in calls and last < start and not entry.startswith(f"{path}."):
            found.append(path)
        else:
            for name, child in module.named_children():
                walk(child, f"{path}.{name}" if path else name)

    walk(model, "")
    return found


def _holds_block(path: str, blocks: Sequence[Block]) -> bool:
    """Whether a module contains a module of the repeated blocks, or is inside one."""
    inner = [module for block in blocks if block.kind == "block" for module in block.modules]
    return any(f"{a}.".startswith(f"{b}.") for one in inner for a, b in ((one, path), (path, one)))


def _stand_in(module: nn.Module, recordings: Sequence[Recording], batches: ProbeBatches) -> StandIn | None:
    """Return a stand-in for the output of a module; None if its shape depends on more than the sizes of the batch."""
    if any(module not in recording.calls or not recording.calls[module].is_single for recording in recordings):
        return None
    (small, spec), (large, other) = (tree_flatten(recording.calls[module].output) for recording in recordings)
    pairs = [_leaf(one, two, batches) for one, two in zip(small, large, strict=False)]
    return StandIn(tuple(leaf for leaf, _ in pairs), spec) if spec == other and all(ok for _, ok in pairs) else None


def _leaf(one: Any, two: Any, batches: ProbeBatches) -> tuple[Any, bool]:
    """Return the stand-in for one leaf of an output, and whether there is one."""
    if isinstance(one, Tensor) and isinstance(two, Tensor):
        shape = _shape(one, two, batches)
        return shape, shape is not None
    return one, isinstance(one, int | float | str | bool | None) and one == two


def _shape(one: Tensor, two: Tensor, batches: ProbeBatches) -> Shape | None:
    """Return the shape of a tensor from its shapes in two batches; None if they do not determine it."""
    rows, time = tuple(batch.rows for batch in batches), tuple(batch.time for batch in batches)
    sizes: list[Size] = []
    for pair in zip(one.shape, two.shape, strict=False):
        if pair == rows and ROWS not in sizes:
            sizes.append(ROWS)
        elif pair[0] != pair[1] and pair != time:
            return None
        else:
            sizes.append(pair[0] if pair[0] == pair[1] else TIME)
    return Shape(tuple(sizes), one.dtype) if one.ndim == two.ndim and one.dtype == two.dtype else None

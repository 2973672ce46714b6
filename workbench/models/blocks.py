"""Divides any backbone into blocks: the embeddings or stem, each repeated block, and the head.

There is no list of known architectures: `repeats` finds the repeated modules in the model itself. All other modules
are assigned by the order in which they run: before the first block, to the next block, or after the last one. The
order comes from one traced forward pass; if tracing fails, the order of registration is used. A model without repeated
modules is divided at its children.

Left out: models whose blocks depend on the input.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from torch import nn

    from workbench.models.repeats import Order, Unit

Kind = Literal["embeddings", "block", "head"]


@dataclass(frozen=True)
class Block:
    """A part of a model that is trainable or frozen as a whole.

    Attributes:
        name: "embeddings" or "stem", "block 1" and so on, "head".
        kind: Kind of the block, independent of its name.
        modules: Paths of the largest modules that are entirely in the block.
        parameters: Names of its parameters, as in `named_parameters`; a tied one is in every block that uses it.
        size: Number of scalars in these parameters.
    """

    name: str
    kind: Kind
    modules: tuple[str, ...]
    parameters: tuple[str, ...]
    size: int


def find(model: "nn.Module") -> tuple[Block, ...]:
    """Return the blocks of the model in the order in which they run.

    Every parameter is in at least one block, and in exactly one unless it is shared. The model is not changed.

    Args:
        model: A transformers model or any other module; it runs once on a tiny input.
    """
    from workbench.models import repeats
    from workbench.models.trace import trace

    order = repeats.Order(model, trace(model))
    units = repeats.find(model, order)
    if units:
        return tuple(_blocks(model, _assign_around(units, model, order), _names(model, units, order)))
    indices, names = _assign_children(model, order)
    return tuple(_blocks(model, indices, names))


def _names(model: "nn.Module", units: "list[Unit]", order: "Order") -> list[str]:
    shared = [" (shared)" if order.is_shared(unit.module) else "" for unit in units]
    return [_name_of_first(model), *(f"block {i}{note}" for i, note in enumerate(shared, 1)), "head"]


def _name_of_first(model: "nn.Module") -> str:
    from torch import nn

    if hasattr(model, "main_input_name"):
        return "stem" if model.main_input_name == "pixel_values" else "embeddings"
    return "embeddings" if any(isinstance(module, nn.Embedding) for module in model.modules()) else "stem"


def _pieces(model: "nn.Module") -> "Iterator[nn.Module]":
    """Yield the modules with parameters of their own or without children; together they are the whole model."""
    for module in model.modules():
        if not any(True for _ in module.children()) or any(True for _ in module.parameters(recurse=False)):
            yield module


def _assign_around(units: "list[Unit]", model: "nn.Module", order: "Order") -> "dict[nn.Module, int]":
    """Return the block index of each piece: 0 before the units, i in the ith unit, len(units) + 1 after them."""
    from torch import nn

    indices = {module: i for i, unit in enumerate(units, 1) for module in unit.module.modules()}
    parents = {child: module for module in model.modules() for child in module.children()}
    for piece in _pieces(model):
        if piece in indices:
            continue
        if isinstance(piece, nn.Embedding):  # position tables belong to the embeddings, wherever they are read
            indices[piece] = 0
        else:
            indices[piece] = _index_by_order(piece, units, parents, order)
    return indices


def _index_by_order(
    piece: "nn.Module", units: "list[Unit]", parents: "Mapping[nn.Module, nn.Module]", order: "Order"
) -> int:
    time = order.start_around(piece, parents, [unit.module for unit in units])
    starts = [unit.start for unit in units]
    if time is None:  # never called as a module: use the order of registration
        time, starts = order.registered[piece], [order.registered[unit.module] for unit in units]
    before = sum(start < time for start in starts)
    if before == 0:
        return 0
    mates = [i for i, unit in enumerate(units) if unit.stage is not unit.module and piece in set(unit.stage.modules())]
    if mates:  # the other pieces of a stage stay in the stage
        return min(max(before, mates[0]), mates[-1]) + 1
    return before + 1


def _assign_children(model: "nn.Module", order: "Order") -> tuple["dict[nn.Module, int]", list[str]]:
    """Return block indices and names for a model without repeated modules: one block per child with a weight matrix."""
    from torch import nn

    tops = sorted(_weighted_children(model) or [model], key=order.of)
    first = 0 if any(isinstance(m, nn.Embedding) for m in tops[0].modules()) else 1
    within = {module: i for i, top in enumerate(tops, first) for module in top.modules()}
    starts = [order.of(top) for top in tops]
    last = first + len(tops) - 1
    indices: dict[nn.Module, int] = {}
    for piece in _pieces(model):
        before = sum(start < order.of(piece) for start in starts) + first - 1
        is_norm = bool({*piece.parameters(), *piece.buffers()})  # a norm joins the block before it, dropout the next
        indices[piece] = within.get(piece, min(max(before if is_norm else before + 1, first), last))
    return indices, ["embeddings", *(f"block {i}" for i in range(1, last)), "head"]


def _weighted_children(model: "nn.Module") -> "list[nn.Module]":
    from torch import nn

    found: list[nn.Module] = []
    for child in model.children():
        if not any(parameter.ndim > 1 for parameter in child.parameters()):
            continue
        found += _weighted_children(child) if isinstance(child, nn.Sequential) else [child]
    if len(found) == 1 and not any(p.ndim > 1 for p in model.parameters(recurse=False)):
        return _weighted_children(found[0]) or found
    return found


def _blocks(model: "nn.Module", indices: "Mapping[nn.Module, int]", names: list[str]) -> Iterator[Block]:
    first_names = {parameter: name for name, parameter in model.named_parameters()}
    members: list[dict[nn.Parameter, str]] = [{} for _ in names]
    for module in _pieces(model):
        for parameter in module.parameters(recurse=False):
            members[indices[module]][parameter] = first_names[parameter]
    paths: list[list[str]] = [[] for _ in names]
    _collect_paths(model, "", indices, paths)
    for index, (name, own) in enumerate(zip(names, members, strict=True)):
        if own:
            kind: Kind = "head" if name == "head" else "block" if name.startswith("block") else "embeddings"
            size = sum(parameter.numel() for parameter in own)
            yield Block(name, kind, tuple(paths[index]), tuple(own.values()), size)


def _collect_paths(module: "nn.Module", path: str, indices: "Mapping[nn.Module, int]", paths: list[list[str]]) -> None:
    """Add to `paths` the largest modules that are entirely in one block."""
    here = {indices[piece] for piece in _pieces(module)}
    if len(here) == 1:
        paths[here.pop()].append(path)
        return
    for name, child in module.named_children():
        _collect_paths(child, f"{path}.{name}" if path else name, indices, paths)

"""Finds the repeated modules of a model: the layers of a transformer, the residual blocks of a convolutional network.

They are the children of the largest outermost list (`ModuleList` or `Sequential`) of composite modules of the same
class, and of related lists (such as the decoder's list in an encoder-decoder). If these children are stages, the
modules inside the stages are used. A stage contains a chain: a list of modules in which the output of one is the input
of the next. Experts of a mixture run in parallel, and the convolutions of a residual layer end in a sum, so neither is
a chain. Children that all have the same size are not stages.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import accumulate, pairwise

from torch import nn

from workbench.models.trace import Call

SIDE_SHARE = 0.2  # minimum size of a second list of other classes, relative to the largest list


@dataclass(frozen=True)
class Unit:
    """A repeated module, the stage that contains it (or the module itself), and its position in the running order."""

    module: nn.Module
    stage: nn.Module
    start: int


@dataclass(frozen=True)
class _List:
    owner: nn.Module  # the module that has the list, and whose forward runs it
    children: tuple[nn.Module, ...]

    @property
    def size(self) -> int:
        return sum(_size(child) for child in self.children)


class Order:
    """The order in which modules run: from the trace, else the order of registration."""

    def __init__(self, model: nn.Module, calls: Mapping[nn.Module, Call] | None) -> None:
        self.calls = calls
        self.registered = {module: index for index, module in enumerate(model.modules())}

    def of(self, module: nn.Module) -> int:
        """Return the start of the module, or of the first module inside it; -1 if it never runs."""
        if self.calls is None:
            return self.registered[module]
        return min((self.calls[inner].start for inner in module.modules() if inner in self.calls), default=-1)

    def start_around(
        self, piece: nn.Module, parents: Mapping[nn.Module, nn.Module], units: list[nn.Module]
    ) -> int | None:
        """Return the start of the piece, or of the smallest called module around it without units; None if none."""
        holders = {parent for unit in units for parent in _ancestors(unit, parents)}
        for module in (piece, *_ancestors(piece, parents)):
            if module in holders:
                return None
            if self.calls is not None and module in self.calls:
                return self.calls[module].start
        return None

    def is_shared(self, module: nn.Module) -> bool:
        """Whether the module runs more than once in one forward pass."""
        return self.calls is not None and module in self.calls and self.calls[module].count > 1

    def is_chain(self, owner: nn.Module, children: tuple[nn.Module, ...]) -> bool:
        """Whether each child's output is the next one's input, and the last output is used in or after the owner."""
        calls = self.calls
        if calls is None or any(child not in calls for child in children):
            return False
        if any(not calls[a].outputs & calls[b].inputs for a, b in pairwise(children)):
            return False
        if owner not in calls:  # a plain list has no forward of its own
            return True
        last = calls[children[-1]]
        readers = [calls[m].inputs for m in owner.modules() if m in calls and calls[m].start > last.start]
        return any(last.outputs & values for values in (calls[owner].outputs, *readers))


def find(model: nn.Module, order: Order) -> list[Unit]:
    """Return the repeated modules in the order in which they run; an empty list if there are none."""
    lists = [found for found in _lists(model, model) if any(order.of(child) >= 0 for child in found.children)]
    if not lists:
        return []
    largest = max(lists, key=lambda found: found.size)
    chosen = [found for found in lists if found is largest or _goes_with(found, largest, order)]
    chosen.sort(key=lambda found: min(order.of(child) for child in found.children))
    pairs = [(module, stage) for found in chosen for stage in found.children for module in _inside(stage, found, order)]
    # a module that did not run is placed after its neighbour
    starts = accumulate((order.of(module) for module, _ in pairs), max)
    return [Unit(module, stage, start) for (module, stage), start in zip(pairs, starts, strict=True)]


def _goes_with(other: _List, largest: _List, order: Order) -> bool:
    here, there = ([order.of(child) for child in found.children] for found in (largest, other))
    if min(here) < max(there) and min(there) < max(here):
        return False  # their children alternate, as patch embeddings and stages do
    is_alike = bool({type(child) for child in other.children} & {type(child) for child in largest.children})
    return is_alike or other.size >= SIDE_SHARE * largest.size


def _inside(stage: nn.Module, found: _List, order: Order) -> tuple[nn.Module, ...]:
    """Return the blocks in a stage, or the module itself if it is a block."""
    is_even = len(found.children) > 1 and len({_size(child) for child in found.children}) == 1
    if is_even and not isinstance(stage, (nn.ModuleList, nn.Sequential)):
        return (stage,)
    chains = [found for found in _lists(stage, stage) if order.is_chain(found.owner, found.children)]
    return max(chains, key=lambda found: found.size).children if chains else (stage,)


def _lists(module: nn.Module, owner: nn.Module) -> Iterator[_List]:
    """Yield each outermost list of composite modules of the same class."""
    children = tuple(child for child in module.children() if _size(child))
    if isinstance(module, (nn.ModuleList, nn.Sequential)) and children:
        most = max(Counter(type(child) for child in children).values())
        if (most > 1 or len(children) == 1) and all(_is_composite(child) for child in children):
            yield _List(owner, children)
            return
    for child in children:
        yield from _lists(child, module)


def _is_composite(module: nn.Module) -> bool:
    return any(_size(child) for child in module.children())


def _size(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _ancestors(module: nn.Module, parents: Mapping[nn.Module, nn.Module]) -> Iterator[nn.Module]:
    while module in parents:
        module = parents[module]
        yield module

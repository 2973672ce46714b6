"""Computes only what is read: where the logits read the first place of each row alone, so does what follows attention.

A classifier that reads its [CLS] token needs the keys and values of every place of the last block, but its attention's
output, its feed-forward part and what comes after for that token alone: three quarters of the block are saved, and no
number changes but for rounding. Found from the model itself: module by module, what the last block gives in the first
place must stay as it is where the module is handed that place only; answers and gradients of the whole model decide.

Dropout then draws for the places that are left, another draw of the same distribution; cached or not, it is the same.

Left out: all but the last block, and blocks that autograd runs once more on its way back (activation checkpointing).
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.utils._pytree import tree_flatten, tree_map

from workbench.baseline.blocks import Block
from workbench.seeding import seeded
from workbench.transfer.proving import is_close, slopes
from workbench.transfer.recording import record

Run = Callable[[], Tensor]  # runs the model on a real batch and returns its logits
Given = tuple[tuple[Any, ...], dict[str, Any]]  # arguments of a call


@dataclass(frozen=True)
class Narrowing:
    """Which modules of the last block are handed the first place of each row only.

    Attributes:
        block: Path of the last block.
        paths: Of the modules.
    """

    block: str
    paths: tuple[str, ...]

    @contextlib.contextmanager
    def applied(self, model: nn.Module) -> Iterator[None]:
        """Let the modules see the first place only within the block."""
        with _narrowed(model, self.paths):
            yield


def find(model: nn.Module, blocks: Sequence[Block], runs: Sequence[Run]) -> Narrowing | None:
    """Return what can be narrowed in the last block; None if nothing can.

    Args:
        model: In eval mode; it is left as it was.
        blocks: As found on it.
        runs: Some on different batches, with padding and without; the answer must be the same in each.
    """
    middle = [block for block in blocks if block.kind == "block"]
    if not middle or len(middle[-1].modules) != 1:
        return None
    path = middle[-1].modules[0]
    block = model.get_submodule(path)
    tape = record(model, runs[0])
    if block not in tape.calls or not tape.calls[block].is_single or _places(tape.calls[block].output) is None:
        return None
    if any(isinstance(module, _NormBase) for module in block.modules()) or _reads_beyond_first(block, runs[0]):
        return None
    given = [_given(block, run) for run in runs]
    inner = {module: name for name, module in block.named_modules() if name and module in tape.calls}
    order = sorted(inner, key=lambda module: tape.calls[module].first)
    found = _narrowable(block, [inner[module] for module in order], given)
    paths = tuple(f"{path}.{name}" for name in found)
    if not paths or not all(_is_same(model, paths, run) for run in runs) or not _learns(model, block, paths, runs[0]):
        return None
    return Narrowing(path, paths)


def _narrowable(block: nn.Module, names: Sequence[str], given: Sequence[Given]) -> list[str]:
    """Return the outermost modules, in the order in which they run, that the first place is enough for."""
    true = [_first_of(block, each) for each in given]
    found: list[str] = []
    for name in names:
        if any(name.startswith(f"{outer}.") for outer in found):
            continue
        with contextlib.suppress(Exception), _narrowed(block, (*found, name)) as counts:  # many want every place
            given_first = [_first_of(block, each) for each in given]
            if counts[-1] and all(is_close(one, other) for one, other in zip(given_first, true, strict=True)):
                found.append(name)
    return found


@contextlib.contextmanager
def _narrowed(model: nn.Module, paths: Sequence[str]) -> Iterator[list[int]]:
    """Hand the modules the first place only within the block; yield how often each had more than that one."""
    counts = [0] * len(paths)

    def hook(at: int) -> Callable[..., Given]:
        def first_only(leaf: Any) -> Any:
            if not _has_places(leaf) or leaf.shape[1] == 1:
                return leaf
            counts[at] += 1
            return leaf.narrow(1, 0, 1)

        return lambda module, args, kwargs: (tree_map(first_only, args), tree_map(first_only, kwargs))

    with contextlib.ExitStack() as hooks:
        for at, path in enumerate(paths):
            handle = model.get_submodule(path).register_forward_pre_hook(hook(at), with_kwargs=True)
            hooks.callback(handle.remove)
        yield counts


def _has_places(leaf: Any) -> bool:
    return isinstance(leaf, Tensor) and leaf.ndim == 3 and leaf.is_floating_point()  # (rows, places, features)


def _places(output: Any) -> Tensor | None:
    """Return the first thing a block gives that has places."""
    return next((leaf for leaf in tree_flatten(output)[0] if _has_places(leaf)), None)


def _first_of(block: nn.Module, given: Given) -> Tensor:
    with torch.no_grad():
        places = _places(block(*given[0], **given[1]))
    return torch.empty(0) if places is None else places[:, 0]


def _given(block: nn.Module, run: Run) -> Given:
    """Return what the block is given in a run."""
    found: list[Given] = []

    def take(module: nn.Module, args: Any, kwargs: Any) -> None:
        found.append((args, kwargs))

    hook = block.register_forward_pre_hook(take, with_kwargs=True)
    try:
        with torch.no_grad():
            run()
    finally:
        hook.remove()
    return found[0]


def _reads_beyond_first(block: nn.Module, run: Run) -> bool:
    """Whether any logit has a slope in what the block gives in a place other than the first."""
    probes: list[Tensor] = []

    def probe(leaf: Any) -> Any:
        if not _has_places(leaf):
            return leaf
        probes.append(leaf.detach().requires_grad_(True))
        return probes[-1]

    hook = block.register_forward_hook(lambda module, args, output: tree_map(probe, output))
    try:
        with torch.enable_grad():
            found = slopes(run(), probes)
    finally:
        hook.remove()
    first, *others = found
    if first is None or any(other is not None for other in others):
        return True
    return not first.any() or bool(first.narrow(1, 1, first.shape[1] - 1).any())


def _is_same(model: nn.Module, paths: Sequence[str], run: Run) -> bool:
    """Whether answers, and gradients of what learns, are the same narrowed."""
    learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
    with torch.enable_grad():
        whole = run()
        with _narrowed(model, paths):
            answer = run()
        pairs = zip(slopes(answer, learning), slopes(whole, learning), strict=True)
    is_answer_same = is_close(answer.detach(), whole.detach())
    return is_answer_same and all(
        one is other if one is None or other is None else is_close(one, other, tolerance=1e-4) for one, other in pairs
    )


def _learns(model: nn.Module, block: nn.Module, paths: Sequence[str], run: Run) -> bool:
    """Whether the block can be narrowed where it trains and the way back starts once the hooks are gone."""
    learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
    modes = [(module, module.training) for module in block.modules()]
    block.train()
    try:
        with seeded(0, next(model.parameters()).device), torch.enable_grad():
            with _narrowed(model, paths):
                answer = run()
            slopes(answer, learning)
    except Exception:  # torch tells of other shapes in many ways
        return False
    finally:
        for module, mode in modes:
            module.training = mode
    return True

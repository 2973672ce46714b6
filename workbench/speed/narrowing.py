"""Gives the modules of the last block only the first position of their inputs, and finds which modules need no more.

The modules are found from the model itself. Each module of the last block is tried with only the first position of its
inputs, and remains so if the first position of the block's output is unchanged. At the end, the logits and the
gradients of the whole model are compared.

Left out: all other blocks, and blocks that run again in the backward pass (activation checkpointing).
"""

import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.utils._pytree import tree_flatten, tree_map

from workbench.models.blocks import Block
from workbench.seeding import seeded
from workbench.speed.prefix_cache.prove_cut import gradients, is_close

Run = Callable[[], Tensor]  # runs the model on a real batch and returns its logits
Arguments = tuple[tuple[Any, ...], dict[str, Any]]  # positional and keyword arguments of a call


@contextlib.contextmanager
def narrowed(model: nn.Module, paths: Sequence[str]) -> Iterator[list[int]]:
    """Give the modules only the first position of their inputs within the block, for this thread.

    Yields:
        How many inputs of each module had more than one position so far.
    """
    counts, thread = [0] * len(paths), threading.get_ident()

    def hook(number: int) -> Callable[..., Arguments]:
        def first_only(leaf: Any) -> Any:
            if not _has_positions(leaf) or leaf.shape[1] == 1 or threading.get_ident() != thread:
                return leaf
            counts[number] += 1
            return leaf.narrow(1, 0, 1)

        return lambda module, args, kwargs: (tree_map(first_only, args), tree_map(first_only, kwargs))

    with contextlib.ExitStack() as hooks:
        for number, path in enumerate(paths):
            handle = model.get_submodule(path).register_forward_pre_hook(hook(number), with_kwargs=True)
            hooks.callback(handle.remove)
        yield counts


def _has_positions(leaf: Any) -> bool:
    return isinstance(leaf, Tensor) and leaf.ndim == 3 and leaf.is_floating_point()  # (rows, positions, features)


@dataclass(frozen=True)
class _Recording:
    """What happened in the last block during a run of the whole model.

    Attributes:
        calls: Arguments of each call of the block.
        order: Names of the modules in the block, in the order of their first calls.
        logits: The logits.
        gradients: Gradients of the trainable parameters.
        is_first_read: Whether the model reads the first position of the block's first output, and nothing else of it.
    """

    calls: Sequence[Arguments]
    order: Sequence[str]
    logits: Tensor
    gradients: Sequence[Tensor | None]
    is_first_read: bool


def find(model: nn.Module, blocks: Sequence[Block], runs: Sequence[Run]) -> tuple[str, ...]:
    """Return the paths of the modules in the last block that need only the first position; () if there are none.

    Args:
        model: The model in eval mode. It is not changed.
        blocks: Its blocks.
        runs: Runs of the model on different batches, with and without padding.
    """
    middle = [block for block in blocks if block.kind == "block"]
    if not middle or len(middle[-1].modules) != 1:
        return ()
    path = middle[-1].modules[0]
    block = model.get_submodule(path)
    if any(isinstance(module, _NormBase) for module in block.modules()):  # its statistics are those of a whole batch
        return ()
    with _all_trainable(block):
        return _find(model, block, path, runs)


@contextlib.contextmanager
def _all_trainable(block: nn.Module) -> Iterator[None]:
    """Make all parameters trainable within the `with` block, because they may become trainable later in the run."""
    frozen = [p for p in block.parameters() if not p.requires_grad and p.is_floating_point()]
    for parameter in frozen:
        parameter.requires_grad_(True)
    try:
        yield
    finally:
        for parameter in frozen:
            parameter.requires_grad_(False)


def _find(model: nn.Module, block: nn.Module, path: str, runs: Sequence[Run]) -> tuple[str, ...]:
    recordings: list[_Recording] = []
    for run in runs:
        recordings.append(_record(model, block, run))
        if len(recordings[-1].calls) != 1 or not recordings[-1].is_first_read:
            return ()
    names = _narrowable(block, recordings[0].order, [recording.calls[0] for recording in recordings])
    paths = tuple(f"{path}.{name}" for name in names)
    is_same = paths and all(_is_same(model, paths, run, whole) for run, whole in zip(runs, recordings, strict=True))
    return paths if is_same and _can_train(model, block, paths, runs[0]) else ()


def _record(model: nn.Module, block: nn.Module, run: Run) -> _Recording:
    """Run the whole model and record what happens in its last block."""
    names = {module: name for name, module in block.named_modules()}
    calls, order, outputs = list[Arguments](), dict[str, None](), list[Tensor]()

    def enter(module: nn.Module, args: Any, kwargs: Any) -> None:
        if module is block:
            calls.append((args, kwargs))
        else:
            order[names[module]] = None

    def probe(leaf: Any) -> Any:
        if not _has_positions(leaf):
            return leaf
        outputs.append(leaf if leaf.requires_grad else leaf.detach().requires_grad_())
        return outputs[-1]

    with contextlib.ExitStack() as hooks:
        for module in names:
            hooks.callback(module.register_forward_pre_hook(enter, with_kwargs=True).remove)
        hooks.callback(block.register_forward_hook(lambda module, args, output: tree_map(probe, output)).remove)
        with torch.enable_grad():
            logits = run()
    trainable = _trainable(model)
    found = gradients(logits, [*trainable, *outputs])
    is_first_read = _is_first_read(found[len(trainable) :])
    return _Recording(calls, [*order], logits.detach(), found[: len(trainable)], is_first_read)


def _is_first_read(by_outputs: Sequence[Tensor | None]) -> bool:
    """Whether the gradients are zero for all outputs of the block except the first position of the first output."""
    if not by_outputs or by_outputs[0] is None or any(gradient is not None for gradient in by_outputs[1:]):
        return False
    first, rest = by_outputs[0][:, :1], by_outputs[0][:, 1:]
    return bool(first.any()) and not rest.any()


def _trainable(model: nn.Module) -> list[nn.Parameter]:
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


def _narrowable(block: nn.Module, names: Sequence[str], calls: Sequence[Arguments]) -> list[str]:
    """Return the outermost modules, in the order in which they run, for which the first position is enough.

    The parts of an adapted layer are left out: their outputs are added, so one of them can't have fewer positions.
    """
    expected = [_first_position(block, arguments) for arguments in calls]
    adapted = [name for name in names if isinstance(block.get_submodule(name), BaseTunerLayer)]
    found: list[str] = []
    for name in names:
        if any(name.startswith(f"{outer}.") for outer in (*found, *adapted)):
            continue
        with contextlib.suppress(Exception), narrowed(block, (*found, name)) as counts:  # many need every position
            pairs = zip(calls, expected, strict=True)
            if all(is_close(_first_position(block, arguments), true) and counts[-1] for arguments, true in pairs):
                found.append(name)
    return found


def _first_position(block: nn.Module, arguments: Arguments) -> Tensor:
    """Return the first position of the block's first output with positions; an empty tensor if there is none."""
    with torch.no_grad():
        leaves = tree_flatten(block(*arguments[0], **arguments[1]))[0]
    return next((leaf[:, 0] for leaf in leaves if _has_positions(leaf)), torch.empty(0))


def _is_same(model: nn.Module, paths: Sequence[str], run: Run, whole: _Recording) -> bool:
    """Whether the logits and the gradients of trainable parameters are the same with the modules narrowed."""
    with torch.enable_grad():
        with narrowed(model, paths):
            logits = run()
        pairs = zip(gradients(logits, _trainable(model)), whole.gradients, strict=True)
    return is_close(logits.detach(), whole.logits) and all(
        one is other if one is None or other is None else is_close(one, other, tolerance=1e-4) for one, other in pairs
    )


def _can_train(model: nn.Module, block: nn.Module, paths: Sequence[str], run: Run) -> bool:
    """Whether the narrowed block runs in training mode, and its backward pass runs after the hooks are removed."""
    modes = [(module, module.training) for module in block.modules()]
    block.train()
    try:
        with seeded(0, next(model.parameters()).device), torch.enable_grad():
            with narrowed(model, paths):
                logits = run()
            gradients(logits, _trainable(model))
    except Exception:  # torch reports differing shapes with different exceptions
        return False
    finally:
        for module, mode in modes:
            module.training = mode
    return True

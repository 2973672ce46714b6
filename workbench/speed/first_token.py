"""Computes only what is read: where the logits read the first place of each row alone, so does what follows attention.

A classifier that reads its [CLS] token needs the keys and values of every place of the last block, but its attention's
output, its feed-forward part and what comes after for that token alone: three quarters of the block are saved, and no
number changes but for rounding. Found from the model itself: module by module, what the last block gives in the first
place must stay as it is where the module is handed that place only; answers and gradients of the whole model decide.

Dropout then draws for the places that are left, another draw of the same distribution; cached or not, it is the same.

Left out: all but the last block, and blocks that autograd runs once more on its way back (activation checkpointing).
"""

import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.utils._pytree import tree_flatten, tree_map

from workbench.events import Event
from workbench.models.blocks import Block
from workbench.seeding import seeded
from workbench.speed.prefix_cache.prove_cut import gradients, is_close
from workbench.speed.prefix_cache.rows import KEPT
from workbench.tasks.examples import Batch
from workbench.training.learner import Learner
from workbench.training.shortcut import Shortcut

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


class FirstToken(Shortcut):
    """Computes only the first position of the last block where the model reads no other.

    Attributes:
        narrowing: What of the last block is narrowed; None where nothing is, or as long as that is not known.
    """

    def __init__(self) -> None:
        self.narrowing: Narrowing | None = None
        self._is_known = False

    def prepare(self, learner: Learner, splits: Sequence[str]) -> Iterator[Event]:
        """Find out once what can be narrowed, with padding and without."""
        if not self._is_known:
            self.narrowing, self._is_known = _found_in(learner), True
        yield from ()

    @contextlib.contextmanager
    def running(self, learner: Learner, batch: Batch) -> Iterator[Batch]:
        """Narrow the last block while the model runs, unless no block runs: a cached head needs no inputs."""
        if self.narrowing is None or not batch.keys() - {"labels", KEPT}:
            yield batch
            return
        with self.narrowing.applied(learner.model):
            yield batch


def _found_in(learner: Learner) -> Narrowing | None:
    if not learner.task.names_classes:
        return None
    model, train = learner.model.eval(), learner.train
    lengths = train.lengths
    short = min(range(len(train)), key=lengths.__getitem__)
    longer = min(range(len(train)), key=lambda index: (lengths[index] == lengths[short], lengths[index]))
    made = [learner.settings.moved(train.padded(few), learner.device) for few in ([short, longer], [longer])]
    try:
        runs = [lambda batch=batch: learner.task.score(model, batch)[0] for batch in made]
        return find(model, learner.backbone.blocks, runs)
    except Exception:  # a stranger's model may do anything when it is looked at, and can train as usual
        return None


@dataclass(frozen=True)
class _Seen:
    """What was seen of the last block while the whole model ran.

    Attributes:
        given: What each of its calls was given.
        order: Names of the modules in it, as they first ran.
        answer: The logits.
        slopes: Of what learns.
        is_first_read: Whether the first place of what it gives is read above it, and no other.
    """

    given: Sequence[Given]
    order: Sequence[str]
    answer: Tensor
    slopes: Sequence[Tensor | None]
    is_first_read: bool


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
    if any(isinstance(module, _NormBase) for module in block.modules()):  # the rows of a batch see each other there
        return None
    with _all_learning(block):
        return _found(model, block, path, runs)


@contextlib.contextmanager
def _all_learning(block: nn.Module) -> Iterator[None]:
    """Have all of the block learn meanwhile: it may do so later in the run."""
    resting = [p for p in block.parameters() if not p.requires_grad and p.is_floating_point()]
    for parameter in resting:
        parameter.requires_grad_(True)
    try:
        yield
    finally:
        for parameter in resting:
            parameter.requires_grad_(False)


def _found(model: nn.Module, block: nn.Module, path: str, runs: Sequence[Run]) -> Narrowing | None:
    seen: list[_Seen] = []
    for run in runs:
        seen.append(_look(model, block, run))
        if len(seen[-1].given) != 1 or not seen[-1].is_first_read:
            return None
    found = _narrowable(block, seen[0].order, [each.given[0] for each in seen])
    paths = tuple(f"{path}.{name}" for name in found)
    is_same = paths and all(_is_same(model, paths, run, each) for run, each in zip(runs, seen, strict=True))
    return Narrowing(path, paths) if is_same and _learns(model, block, paths, runs[0]) else None


def _look(model: nn.Module, block: nn.Module, run: Run) -> _Seen:
    """Run the model whole and see what its last block does."""
    names = {module: name for name, module in block.named_modules()}
    given, order, places = list[Given](), dict[str, None](), list[Tensor]()

    def enter(module: nn.Module, args: Any, kwargs: Any) -> None:
        if module is block:
            given.append((args, kwargs))
        else:
            order[names[module]] = None

    def probe(leaf: Any) -> Any:
        if not _has_places(leaf):
            return leaf
        places.append(leaf if leaf.requires_grad else leaf.detach().requires_grad_())
        return places[-1]

    with contextlib.ExitStack() as hooks:
        for module in names:
            hooks.callback(module.register_forward_pre_hook(enter, with_kwargs=True).remove)
        hooks.callback(block.register_forward_hook(lambda module, args, output: tree_map(probe, output)).remove)
        with torch.enable_grad():
            answer = run()
    learning = _learning(model)
    found = gradients(answer, [*learning, *places])
    return _Seen(given, [*order], answer.detach(), found[: len(learning)], _is_first_read(found[len(learning) :]))


def _is_first_read(by_places: Sequence[Tensor | None]) -> bool:
    """Whether of all slopes in what a block gives, only those in the first place of the first thing are not zero."""
    if not by_places or by_places[0] is None or any(slope is not None for slope in by_places[1:]):
        return False
    (first, rest) = by_places[0][:, :1], by_places[0][:, 1:]
    return bool(first.any()) and not rest.any()


def _learning(model: nn.Module) -> list[nn.Parameter]:
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


def _narrowable(block: nn.Module, names: Sequence[str], given: Sequence[Given]) -> list[str]:
    """Return the outermost modules, in the order in which they run, that the first place is enough for."""
    true = [_first_of(block, each) for each in given]
    found: list[str] = []
    for name in names:
        if any(name.startswith(f"{outer}.") for outer in found):
            continue
        with contextlib.suppress(Exception), _narrowed(block, (*found, name)) as counts:  # many want every place
            pairs = zip(given, true, strict=True)
            if all(is_close(_first_of(block, each), first) and counts[-1] for each, first in pairs):
                found.append(name)
    return found


@contextlib.contextmanager
def _narrowed(model: nn.Module, paths: Sequence[str]) -> Iterator[list[int]]:
    """Hand the modules the first place only within the block, for this thread; yield how often each had more."""
    counts, mine = [0] * len(paths), threading.get_ident()

    def hook(at: int) -> Callable[..., Given]:
        def first_only(leaf: Any) -> Any:
            if not _has_places(leaf) or leaf.shape[1] == 1 or threading.get_ident() != mine:
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


def _is_same(model: nn.Module, paths: Sequence[str], run: Run, whole: _Seen) -> bool:
    """Whether answers, and gradients of what learns, are the same narrowed."""
    with torch.enable_grad():
        with _narrowed(model, paths):
            answer = run()
        pairs = zip(gradients(answer, _learning(model)), whole.slopes, strict=True)
    return is_close(answer.detach(), whole.answer) and all(
        one is other if one is None or other is None else is_close(one, other, tolerance=1e-4) for one, other in pairs
    )


def _learns(model: nn.Module, block: nn.Module, paths: Sequence[str], run: Run) -> bool:
    """Whether the block can be narrowed where it trains and the way back starts once the hooks are gone."""
    modes = [(module, module.training) for module in block.modules()]
    block.train()
    try:
        with seeded(0, next(model.parameters()).device), torch.enable_grad():
            with _narrowed(model, paths):
                answer = run()
            gradients(answer, _learning(model))
    except Exception:  # torch tells of other shapes in many ways
        return False
    finally:
        for module, mode in modes:
            module.training = mode
    return True

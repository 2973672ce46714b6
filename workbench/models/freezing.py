"""Decides which blocks are trainable, counts their parameters, and freezes the rest of the model.

A frozen block stays bit-identical, norm statistics included, and its dropout is off. A parameter that two blocks share,
such as an output layer tied to the embeddings, is trainable only if every block that uses it is. Left out: the
optimizer, which must get only parameters that require a gradient, and unfreezing on a schedule.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from workbench.errors import PlanError, counted, nearest
from workbench.models import lora
from workbench.models.blocks import Block
from workbench.plan.choices import Transfer

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True)
class Counts:
    """Numbers of parameters (of single weights, not of tensors).

    Attributes:
        trainable: Trainable parameters, adapters included.
        total: All parameters, adapters included.
        by_block: Block name -> trainable parameters; a shared one counts in the first block that uses it.
        notes: What the user should know about them, in sentences.
    """

    trainable: int
    total: int
    by_block: Mapping[str, int]
    notes: tuple[str, ...] = ()


def resolve(blocks: Sequence[Block], choice: Transfer) -> tuple[str, ...]:
    """Return the names of the trainable blocks, in the order of the blocks.

    With adapters the embeddings stay frozen, and so does a head whose output layer is tied to them.

    Raises:
        PlanError: A block is unknown, there are fewer blocks than asked for, or nothing would be trainable.
    """
    asked = chosen(blocks, choice.trainable)
    if choice.method == "lora":
        shared = _shared(blocks)
        adapted = [b.name for b in blocks if b.kind == "block" or (b.kind == "head" and not shared & {*b.parameters})]
        trainable = tuple(name for name in asked if name in adapted)
        reason = "LoRA has adapters only for the blocks between embeddings and head"
        hint = f"choose trainable={_some_last(blocks)!r} or 'all'"
    else:
        trainable = asked if _learning(blocks, asked) else ()
        reason = "its weights are shared with blocks that are frozen"
        hint = f"choose trainable={_some_last(blocks)!r}, or 'all' with method='lora'"
    if not trainable:
        named = choice.trainable if isinstance(choice.trainable, str) else ", ".join(choice.trainable)
        raise PlanError(f"with {named!r} nothing would be trained: {reason}", hint=hint)
    return trainable


def _some_last(blocks: Sequence[Block]) -> str:
    """Return a choice that trains some blocks between embeddings and head: "last 2", or as many as there are."""
    return f"last {min(2, sum(block.kind == 'block' for block in blocks))}"


def chosen(blocks: Sequence[Block], trainable: str | tuple[str, ...]) -> tuple[str, ...]:
    """Return the names of the blocks that `trainable` of a plan names, whether they can be trained or not.

    Raises:
        PlanError: A block is unknown, or there are fewer blocks than asked for.
    """
    names = tuple(block.name for block in blocks)
    middle = [block.name for block in blocks if block.kind == "block"]
    heads = [block.name for block in blocks if block.kind == "head"]
    if trainable == "all":
        return names
    if trainable == "head":
        return tuple(heads)
    if isinstance(trainable, str):
        number = int(trainable.removeprefix("last "))
        if number > len(middle):
            raise PlanError(
                f"{trainable!r} asks for {counted(number, 'block')}; this backbone has {len(middle)}",
                hint=f"use 'last {len(middle)}', or 'all' for the embeddings too",
            )
        return (*middle[len(middle) - number :], *heads)
    for name in trainable:
        if name not in names:
            raise PlanError(f"this backbone has no block {name!r}", hint=nearest(name, names))
    return tuple(name for name in names if name in trainable)


def _shared(blocks: Iterable[Block]) -> set[str]:
    """Return the names of the parameters that more than one block uses."""
    users = Counter(name for block in blocks for name in block.parameters)
    return {name for name, number in users.items() if number > 1}


def _learning(blocks: Sequence[Block], trainable: Sequence[str]) -> set[str]:
    """Return the names of the trainable parameters: those of trainable blocks that no frozen block uses."""
    frozen = {name for block in blocks if block.name not in trainable for name in block.parameters}
    return {name for block in blocks if block.name in trainable for name in block.parameters} - frozen


def changeable(model: "nn.Module", blocks: Sequence[Block], learnt: Sequence[str]) -> "dict[str, Tensor]":
    """Return by name every tensor that may differ from the backbone once these blocks have been trainable.

    In a model with adapters, these are the adapters and the head's parameters; else all parameters of the blocks. The
    buffers of the blocks, such as norm statistics, may differ too.
    """
    prefixes = tuple(f"{path}." for block in blocks if block.name in learnt for path in block.modules)
    is_adapted = any(lora.is_adapter(name) for name, _ in model.named_parameters())
    own = _learning(blocks, [b.name for b in blocks if b.name in learnt and (not is_adapted or b.kind == "head")])
    kept = model.state_dict(keep_vars=True)
    adapters = {n for n, _ in model.named_parameters() if lora.is_adapter(n) and n.startswith(prefixes)}
    names = adapters | {n for n, _ in model.named_parameters() if not lora.is_adapter(n) and lora.own_name(n) in own}
    names |= {name for name, _ in model.named_buffers() if name.startswith(prefixes)}
    return {name: tensor for name, tensor in kept.items() if name in names}


def _own_weights(blocks: Sequence[Block], choice: Transfer) -> set[str]:
    """Return the names of the model's own trainable parameters; with LoRA, only those of the head."""
    trainable = resolve(blocks, choice)
    if choice.method == "lora":
        trainable = tuple(block.name for block in blocks if block.name in trainable and block.kind == "head")
    return _learning(blocks, trainable)


def _adapted_blocks(blocks: Sequence[Block], choice: Transfer) -> list[Block]:
    if choice.method != "lora":
        return []
    trainable = resolve(blocks, choice)
    return [block for block in blocks if block.name in trainable and block.kind == "block"]


def count(model: "nn.Module", blocks: Sequence[Block], choice: Transfer) -> Counts:
    """Return the numbers of parameters for this choice; the model, which may have adapters, is not changed.

    Raises:
        PlanError: As `resolve`.
    """
    sizes = {lora.own_name(name): p.numel() for name, p in model.named_parameters() if not lora.is_adapter(name)}
    own = _own_weights(blocks, choice)
    by_block: dict[str, int] = {}
    counted: set[str] = set()
    for block in blocks:
        new = own & {*block.parameters} - counted
        by_block[block.name] = sum(sizes[name] for name in new)
        counted |= new
    adapters = 0
    for block in _adapted_blocks(blocks, choice):
        size = sum(lora.adapter_size(layer, choice.lora_rank) for layer in lora.targets(model, [block]).values())
        by_block[block.name] += size
        adapters += size
    trainable, total = sum(by_block.values()), sum(sizes.values()) + adapters
    return Counts(trainable, total, by_block, _notes(blocks, choice, f"{trainable:,} of {total:,} parameters"))


def _notes(blocks: Sequence[Block], choice: Transfer, counted: str) -> tuple[str, ...]:
    """Return what to know about a head without adapters and about tied weights; `counted` tells how many it trains."""
    if choice.method == "lora" and not _adapted_blocks(blocks, choice):
        some = _some_last(blocks)
        return (f"LoRA has no effect here: the head trains its own weights; choose {some!r} or 'all' for adapters",)
    asked, shared = chosen(blocks, choice.trainable), _shared(blocks)
    users = [block for block in blocks if shared & {*block.parameters}]
    trained = [block for block in users if block.name in asked]
    names = " and ".join(block.name for block in users)
    if choice.method == "lora" and any(block.kind == "head" for block in trained):
        return (f"the weights of {names} are tied, so they are frozen and only the adapters are trained",)
    if choice.method == "lora" or len(trained) in (0, len(users)):
        return ()
    tied = "the output weights are tied to the embeddings"
    if [block.kind for block in blocks if block.name in asked] == ["head"]:
        return (f"{tied}, so the head alone trains {counted}: choose {_some_last(blocks)!r}, or 'all' with LoRA",)
    return (f"{tied}: unfreeze {names} to train them",)


def freeze(
    model: "nn.Module", blocks: Sequence[Block], choice: Transfer, *, seed: int = 0, adapted: Iterable[str] = ()
) -> None:
    """Set which parameters require a gradient, and insert adapters into the trainable blocks if the choice is LoRA.

    Call it again when the choice changes: existing adapters stay, frozen if their block is.

    Args:
        model: Changed in place; new adapters have no effect yet, so its outputs stay the same.
        blocks: Its blocks, found before adapters were inserted.
        choice: Which blocks are trainable, and how.
        seed: Seed of new adapters; the global generator is not changed.
        adapted: Names of further blocks that get frozen adapters: those that were trainable before.

    Raises:
        PlanError: As `resolve`, or no layer of the blocks can have an adapter.
    """
    own, learning = _own_weights(blocks, choice), _adapted_blocks(blocks, choice)
    if learning:
        wanted = [
            block for block in blocks if block in learning or (block.name in set(adapted) and block.kind == "block")
        ]
        lora.inject(model, lora.targets(model, wanted), choice, seed=seed)
    prefixes = tuple(f"{path}." for block in learning for path in block.modules)
    for name, parameter in model.named_parameters():
        is_learning = name.startswith(prefixes) if lora.is_adapter(name) else lora.own_name(name) in own
        parameter.requires_grad_(is_learning)


def train_mode(model: "nn.Module", blocks: Sequence[Block], trainable: Iterable[str]) -> None:
    """Put trainable blocks into training mode and frozen ones into eval mode (norm statistics fixed, dropout off).

    A module that contains several blocks is in training mode only if all of them are trainable. Norms in blocks with
    adapters stay in eval mode.

    Args:
        model: Its modes are changed in place.
        blocks: Its blocks.
        trainable: Names of the trainable blocks, from `resolve`.
    """
    model.train()
    frozen = [path for block in blocks if block.name not in set(trainable) for path in block.modules]
    for path in frozen:
        model.get_submodule(path).eval()
        for ancestor in _ancestors(path):
            model.get_submodule(ancestor).training = False
    for norm in lora.resting_norms(model, [block for block in blocks if block.name in set(trainable)]):
        norm.eval()


def _ancestors(path: str) -> list[str]:
    """Return the paths of the modules around `path`, the model itself ("") first.

    >>> _ancestors("bert.encoder.layer")
    ['', 'bert', 'bert.encoder']
    """
    parts = path.split(".")
    return [".".join(parts[:depth]) for depth in range(len(parts))] if path else []

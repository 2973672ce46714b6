"""Decides which blocks learn, counts what that trains, and makes the model so.

Frozen means bit-identical: weights, norm statistics, and no dropout inside. A parameter that two blocks share (an
output layer tied to the embeddings) learns only if every block that uses it does. Left out: the optimizer, which must
be given only what requires a gradient, and unfreezing on a schedule.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from workbench.errors import PlanError, nearest
from workbench.models import lora
from workbench.models.blocks import Block
from workbench.plan.choices import Transfer

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True)
class Counts:
    """How many scalars learn.

    Attributes:
        trainable: Scalars that learn, adapters included.
        total: Scalars in all, adapters included.
        by_block: Block name -> scalars that learn in it; a shared one counts in the first block that uses it.
        notes: What the user should know about them, in sentences.
    """

    trainable: int
    total: int
    by_block: Mapping[str, int]
    notes: tuple[str, ...] = ()


def resolve(blocks: Sequence[Block], choice: Transfer) -> tuple[str, ...]:
    """Return the names of the blocks that learn, in the order of the blocks.

    With adapters the embeddings rest, and so does a head whose output layer is tied to them.

    Raises:
        PlanError: An unknown block, more blocks than there are, or nothing left that could learn.
    """
    asked = _asked(blocks, choice.trainable)
    if choice.method == "lora":
        shared = _shared(blocks)
        adapted = [b.name for b in blocks if b.kind == "block" or (b.kind == "head" and not shared & {*b.parameters})]
        trainable = tuple(name for name in asked if name in adapted)
        reason = "adapters go into the blocks between embeddings and head"
    else:
        trainable = asked if _learning(blocks, asked) else ()
        reason = "its weights are shared with blocks that are frozen"
    if not trainable:
        chosen = choice.trainable if isinstance(choice.trainable, str) else ", ".join(choice.trainable)
        raise PlanError(f"with {chosen!r} nothing would learn: {reason}", hint="'last 2', 'all', or name a block")
    return trainable


def _asked(blocks: Sequence[Block], trainable: str | tuple[str, ...]) -> tuple[str, ...]:
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
                f"{trainable!r} asks for {number} blocks; this backbone has {len(middle)}",
                hint=f"'last {len(middle)}', or 'all' for the embeddings too",
            )
        return (*middle[len(middle) - number :], *heads)
    for name in trainable:
        if name not in names:
            raise PlanError(f"this backbone has no block {name!r}", hint=nearest(name, names))
    return tuple(name for name in names if name in trainable)


def _shared(blocks: Iterable[Block]) -> set[str]:
    """Return the parameters that more than one block uses."""
    users = Counter(name for block in blocks for name in block.parameters)
    return {name for name, number in users.items() if number > 1}


def _learning(blocks: Sequence[Block], trainable: Sequence[str]) -> set[str]:
    """Return the parameters that learn: those of the trainable blocks which no frozen block uses."""
    frozen = {name for block in blocks if block.name not in trainable for name in block.parameters}
    return {name for block in blocks if block.name in trainable for name in block.parameters} - frozen


def changeable(model: "nn.Module", blocks: Sequence[Block], learnt: Sequence[str]) -> "dict[str, Tensor]":
    """Return by name every tensor that can differ from the backbone where these blocks learn or learnt.

    Beside adapters only the head's own parameters can; the buffers of a block, such as norm statistics, move with it.
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
    """Return the parameters of the model itself that learn; under LoRA only the head's do."""
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
    """Return what would learn with this choice; the model is not touched, and may have adapters already.

    Raises:
        PlanError: As `resolve`.
    """
    sizes = lora.sizes_without_adapters(model)
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
    return Counts(sum(by_block.values()), sum(sizes.values()) + adapters, by_block, _notes(blocks, choice))


def _notes(blocks: Sequence[Block], choice: Transfer) -> tuple[str, ...]:
    shared = _shared(blocks)
    asked = _asked(blocks, choice.trainable)
    users = [block for block in blocks if shared & {*block.parameters}]
    names = " and ".join(block.name for block in users)
    if choice.method == "lora" and any(block.kind == "head" and block.name in asked for block in users):
        return (f"the weights of {names} are tied, so they rest and only the adapters learn",)
    if choice.method == "weights" and 0 < sum(block.name in asked for block in users) < len(users):
        return (f"the output weights are tied to the embeddings: unfreeze {names} to train them",)
    return ()


def freeze(
    model: "nn.Module", blocks: Sequence[Block], choice: Transfer, *, seed: int = 0, adapted: Iterable[str] = ()
) -> None:
    """Set which parameters require a gradient, and put adapters into the trainable blocks if the choice says so.

    To be called again when the choice changes: adapters that are there stay, and rest where their block is frozen.

    Args:
        model: Changed in place; adapters start at zero effect, so its outputs stay as they are.
        blocks: As found on the model before.
        choice: Which blocks learn, and how.
        seed: Of new adapters; the global generator is left as it was.
        adapted: Names of further blocks that get adapters, which rest: those that learnt once.

    Raises:
        PlanError: As `resolve`, or a block has no layer that an adapter fits.
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
    """Put what learns into training mode and everything frozen into eval mode, norm statistics and dropout included.

    A module that holds several blocks trains only if all of them do. Beside adapters, norms keep their statistics.

    Args:
        model: Changed in place, modes only.
        blocks: As found on the model.
        trainable: Names of the blocks that learn, from `resolve`.
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

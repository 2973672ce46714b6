"""The network of a backbone as the layers panel shows it: which blocks a choice names, and which of them it trains."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from widgets import unfreezing, wording
from workbench.errors import PlanError
from workbench.plan.choices import Transfer

if TYPE_CHECKING:
    from workbench.models import Backbone, Block

USUAL_BLOCKS = 12  # of a backbone that is being loaded and not in the catalog


def outline(name: str) -> int:
    """Return how many blocks a backbone of that name may have, for the places that are kept free while it is loaded."""
    from workbench.models import catalog

    entry = catalog.find(name)
    return 2 + (entry.blocks if entry and entry.blocks else USUAL_BLOCKS)  # embeddings and head


def chosen(blocks: "Sequence[Block]", choice: Transfer) -> set[str]:
    """Return the blocks that a choice names, none if it is invalid. LoRA has no adapters for some of them."""
    from workbench.models import freezing

    try:
        return {*freezing.chosen(blocks, choice.trainable)}
    except PlanError:
        return set()


def trained(blocks: "Sequence[Block]", choice: Transfer) -> set[str]:
    """Return the blocks that a choice trains, none if it is invalid."""
    from workbench.models import freezing

    try:
        return {*freezing.resolve(blocks, choice)}
    except PlanError:
        return set()


def check(backbone: "Backbone | None", choice: Transfer) -> None:
    """Check that a choice trains something of the backbone, if that is loaded.

    Raises:
        PlanError: It does not, or names unknown blocks.
    """
    from workbench.models import freezing

    if backbone is not None:
        freezing.resolve(backbone.blocks, choice)


def last(backbone: "Backbone | None", number: Any) -> str:
    """Return the choice of so many last blocks.

    Raises:
        PlanError: The backbone, if it is loaded, has not so many.
    """
    blocks = sum(block.kind == "block" for block in backbone.blocks) if backbone is not None else 0
    if not isinstance(number, int) or number < 1 or (blocks and number > blocks):
        upper = f" to {blocks}" if blocks else ""
        raise PlanError(f"the number of last blocks is {number!r}; it must be a whole number from 1{upper}")
    return f"last {number}"


def toggled(backbone: "Backbone", choice: Transfer, name: str) -> Transfer:
    """Return the choice with a block frozen that was trainable, or the other way round.

    Raises:
        PlanError: Every block would be frozen, or LoRA has no adapters for this one.
    """
    every = [block.name for block in backbone.blocks]
    wanted = chosen(backbone.blocks, choice) ^ {name}
    names = tuple(block for block in every if block in wanted)
    if not names:
        raise PlanError("with every block frozen nothing would be trained", hint="leave at least one trainable")
    changed = replace(choice, trainable=unfreezing.shortest(names, every))
    check(backbone, changed)
    if (name in trained(backbone.blocks, choice)) == (name in trained(backbone.blocks, changed)):
        what = f"LoRA has no adapters for {name}: the block stays frozen"
        raise PlanError(what, hint="switch LoRA off to train its own weights")
    return changed


def describe(block: "Block", choice: Transfer, *, named: set[str], trainable: set[str]) -> dict[str, Any]:
    """Return a block as the page draws it.

    Args:
        block: The block.
        choice: The choice of the layers.
        named: The blocks that the choice names.
        trainable: Those that it trains.
    """
    is_trainable = block.name in trainable
    return {
        "name": block.name,
        "kind": block.kind,
        "size": block.size,
        "size_words": wording.count(block.size),
        "is_trainable": is_trainable,
        "has_adapter": is_trainable and choice.method == "lora" and block.kind == "block",
        "has_no_adapter": bool(trainable) and block.name in named - trainable,
    }


def counted(backbone: "Backbone", choice: Transfer) -> dict[str, Any]:
    """Return how many parameters a choice trains, in words, and notes about it. Raises PlanError if it is invalid."""
    from workbench.models import freezing

    counts = freezing.count(backbone.model, backbone.blocks, choice)
    percent = 100 * counts.trainable / max(counts.total, 1)
    digits = f"{percent:.0f}" if percent >= 10 else f"{percent:.2g}"
    return {
        "counts": f"{wording.count(counts.trainable)} of {wording.count(counts.total)} ({digits} %)",
        "notes": [wording.in_labels(note) for note in counts.notes],
    }

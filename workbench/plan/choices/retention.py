"""Practice 5: the section of a plan with methods against forgetting."""

from dataclasses import dataclass
from typing import Literal

from workbench.plan.choices.blocks import BLOCKS, check_blocks
from workbench.plan.fields import Choice, setting

UnfreezeOn = Literal["steps", "plateau"]


@dataclass(frozen=True, kw_only=True)
class Retention(Choice):
    """Practice 5: methods against forgetting. Progressive unfreezing: Howard & Ruder 2018, arXiv 1801.06146."""

    unfreeze_to: str | tuple[str, ...] | None = setting(
        None,
        text=BLOCKS,
        none="off",
        takes_effect="in a fork",
        help="Progressive unfreezing: training begins with the trainable blocks, and one more block becomes trainable "
        "at a time, from the top, up to these.",
    )
    unfreeze_every: int | None = setting(
        None,
        low=1,
        high=10**9,
        unit="steps",
        none="evenly",
        takes_effect="in a fork",
        help="Steps from one unfrozen block to the next; evenly: over the first two thirds of the run.",
    )
    unfreeze_on: UnfreezeOn = setting(
        "steps",
        takes_effect="in a fork",
        help="Whether the next block is unfrozen after some steps, or when the validation rows show no improvement (a "
        "plateau).",
    )
    unfreeze_patience: int = setting(
        1,
        low=1,
        high=10**6,
        unit="evaluations",
        takes_effect="in a fork",
        help="On a plateau: so many evaluations in a row without improvement of the stop metric unfreeze the next "
        "block.",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.unfreeze_to is not None:
            check_blocks("unfreeze_to", self.unfreeze_to)

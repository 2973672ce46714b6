"""Practice 3: the section of a plan with what is trainable, and how."""

from dataclasses import dataclass
from typing import Literal

from workbench.plan.choices.blocks import BLOCKS, check_blocks
from workbench.plan.fields import Choice, Switch, setting

Method = Literal["weights", "lora"]


@dataclass(frozen=True, kw_only=True)
class Transfer(Choice):
    """Practice 3: which blocks are trainable, and whether training changes their weights or low-rank adapters."""

    trainable: str | tuple[str, ...] = setting(
        "head",
        text=BLOCKS,
        takes_effect="at the next step",
        touches=("trainable",),
        help="The blocks that training changes; all others are frozen and stay as they are, bit for bit.",
    )
    method: Method = setting(
        "weights",
        help="Whether training changes the weights of the trainable blocks, or small adapters beside them (LoRA).",
    )
    lora_rank: int = setting(
        8, low=1, high=512, unit="rank", help="Size of the LoRA adapters: a higher rank can learn more and costs more."
    )
    lora_alpha: float = setting(
        16.0,
        low=0.1,
        high=1024,
        unit="scale × rank",
        help="Strength of the LoRA adapters: what they add is multiplied by this number divided by the rank.",
    )
    lora_dropout: float = setting(
        0.0,
        low=0.0,
        high=0.9,
        unit="probability",
        help="Share of the inputs of the LoRA adapters that is set to zero at random in training, against overfitting.",
    )
    prefix_cache: Switch = setting(
        "auto",
        help="Keeps what the lowest frozen blocks compute, so that later epochs, evaluations and runs can reuse it.",
    )
    cache_memory_mb: int | None = setting(
        None,
        low=0,
        high=10**7,
        unit="MB in memory",
        none="¼ of free",
        help="What the frozen blocks compute is kept in memory up to this size, and on disk beyond it.",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        check_blocks("trainable", self.trainable)

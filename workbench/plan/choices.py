"""The sections of a plan, one for each group of practices. Each field has its unit and its range."""

import re
import typing
from dataclasses import dataclass
from typing import Literal

from workbench.errors import PlanError
from workbench.plan import block_words
from workbench.plan.fields import Choice, setting
from workbench.untrusted import shown

TaskName = Literal["text-classification", "language-modeling", "image-classification"]
Method = Literal["weights", "lora"]
Schedule = Literal["constant", "linear", "cosine"]
Batching = Literal["by length", "shuffled"]
Switch = Literal["auto", "off"]
Precision = Literal["auto", "fp32", "bf16"]
Device = Literal["auto", "cpu", "cuda", "mps"]
SaveModel = Literal["best", "last", "none"]
StopMode = Literal["auto", "min", "max"]
UnfreezeOn = Literal["steps", "plateau"]

TASKS: tuple[TaskName, ...] = typing.get_args(TaskName)


def check_blocks(name: str, value: str | tuple[str, ...]) -> None:
    """Check that a field names blocks: 'head', 'all', 'last 2' or a list of block names.

    Raises:
        PlanError: It names none of these.
    """
    if isinstance(value, str) and not re.fullmatch(r"head|all|last [1-9]\d{0,3}", value):
        raise PlanError(
            f"{name} is {shown(value)}; expected 'head', 'all', 'last 2' or a list of block names",
            hint=block_words.meant(value),
        )
    if not value:
        raise PlanError(f"{name} is empty; expected at least one block", hint="use 'head', or name a block")


@dataclass(frozen=True, kw_only=True)
class Baseline(Choice):
    """Practice 1: the pretrained model to start from."""

    backbone: str = setting("minilm-l6", touches=("model",))  # name in the catalog, hub id, or local folder


@dataclass(frozen=True, kw_only=True)
class Data(Choice):
    """The rows: where they are, which columns are used, and how they are split."""

    source: str = setting("sentiment:movies", touches=("rows",))  # pack, file or folder
    task: TaskName | None = setting(None, touches=("rows",))  # None: guessed from the columns
    text_column: str | None = setting(None, touches=("rows",))  # None: guessed, and shown to the user
    label_column: str | None = setting(None, touches=("rows",))  # None: guessed, and shown to the user
    group_column: str | None = setting(None, touches=("rows",))  # all rows of a group are in the same split
    # a stratified sample of this size; None: all rows
    max_rows: int | None = setting(None, low=10, high=10**9, unit="rows", touches=("rows",))
    # longer texts are truncated, or cut into windows for language modeling
    max_length: int = setting(128, low=4, high=131_072, unit="tokens", touches=("examples",))
    # tokens of a window that are repeated from the previous one as context, without scoring them again
    window_overlap: int = setting(1, low=1, high=131_071, unit="tokens", touches=("examples",))
    # None: the image size of the backbone
    image_size: int | None = setting(None, low=8, high=1024, unit="pixels a side", touches=("examples",))
    validation_fraction: float = setting(0.15, low=0.01, high=0.5, unit="of rows", touches=("rows",))
    test_fraction: float = setting(0.15, low=0.0, high=0.5, unit="of rows", touches=("rows",))
    split_seed: int = setting(0, low=0, high=2**31 - 1, unit="seed", touches=("rows",))


@dataclass(frozen=True, kw_only=True)
class Transfer(Choice):
    """Practice 3: which blocks are trainable, and whether training changes their weights or low-rank adapters."""

    # "head", "last 2", "all", or the names of blocks
    trainable: str | tuple[str, ...] = setting("head", takes_effect="at the next step", touches=("trainable",))
    method: Method = "weights"
    lora_rank: int = setting(8, low=1, high=512, unit="rank")
    lora_alpha: float = setting(16.0, low=0.1, high=1024, unit="scale × rank")
    lora_dropout: float = setting(0.0, low=0.0, high=0.9, unit="probability")
    prefix_cache: Switch = "auto"  # whether the activations of the lowest frozen blocks are computed once and cached
    # None: a quarter of the free memory
    cache_memory_mb: int | None = setting(None, low=0, high=10**7, unit="MB in memory")

    def __post_init__(self) -> None:
        super().__post_init__()
        check_blocks("trainable", self.trainable)


@dataclass(frozen=True, kw_only=True)
class Tuning(Choice):
    """Practice 4: the hyperparameters of the optimizer and of the training loop."""

    # the peak, reached after warm-up
    learning_rate: float = setting(1e-3, low=1e-8, high=10.0, unit="per step", takes_effect="at the next step")
    batch_size: int = setting(32, low=1, high=65_536, unit="rows", takes_effect="in a fork", touches=("order",))
    # at most this many tokens a batch, in place of batch_size rows; None: batch_size rows
    batch_tokens: int | None = setting(
        None, low=1, high=10**9, unit="tokens a batch", takes_effect="in a fork", touches=("order",)
    )
    # whether a batch has rows of similar length, which saves padding, or random rows
    batching: Batching = setting("by length", takes_effect="in a fork", touches=("order",))
    # language models: whether windows are put end to end in place of padding, without attention between them
    packing: Switch = "auto"
    accumulation_steps: int = setting(
        1, low=1, high=4096, unit="batches a step", takes_effect="in a fork", touches=("order",)
    )
    epochs: float = setting(3.0, low=0.001, high=10_000, unit="passes over the rows", takes_effect="in a fork")
    # upper limit; None: epochs alone determine the number of steps
    max_steps: int | None = setting(None, low=1, high=10**9, unit="steps", takes_effect="in a fork")
    schedule: Schedule = setting("cosine", takes_effect="in a fork")
    warmup_fraction: float = setting(0.06, low=0.0, high=1.0, unit="of steps", takes_effect="in a fork")
    # applied to matrices only
    weight_decay: float = setting(
        0.01, low=0.0, high=1.0, unit="per step × rate", takes_effect="in a fork", touches=("trainable",)
    )
    # None: no clipping
    clip_norm: float | None = setting(1.0, low=1e-6, high=1e6, unit="L2 norm of the gradient", takes_effect="in a fork")
    # None: the backbone's own dropout
    dropout: float | None = setting(
        None, low=0.0, high=0.95, unit="probability", takes_effect="in a fork", touches=("trainable",)
    )
    precision: Precision = "auto"
    device: Device = "auto"
    seed: int = setting(0, low=0, high=2**31 - 1, unit="seed", touches=("model", "order"))


@dataclass(frozen=True, kw_only=True)
class Retention(Choice):
    """Practice 5: methods against forgetting. Progressive unfreezing: Howard & Ruder 2018, arXiv 1801.06146."""

    # the blocks that are trainable at the end; they are unfrozen one at a time from the top; None: no unfreezing
    unfreeze_to: str | tuple[str, ...] | None = setting(None, takes_effect="in a fork")
    # interval between two blocks; None: evenly over the first two thirds of the run
    unfreeze_every: int | None = setting(None, low=1, high=10**9, unit="steps", takes_effect="in a fork")
    # "plateau": unfreeze a block when `stop_metric` has not improved for `unfreeze_patience` evaluations
    unfreeze_on: UnfreezeOn = setting("steps", takes_effect="in a fork")
    unfreeze_patience: int = setting(1, low=1, high=10**6, unit="evaluations", takes_effect="in a fork")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.unfreeze_to is not None:
            check_blocks("unfreeze_to", self.unfreeze_to)


@dataclass(frozen=True, kw_only=True)
class Monitoring(Choice):
    """Practice 6: how often the run is evaluated, when it stops early, and what it leaves on disk."""

    # None: ten evaluations per run
    evaluate_every: int | None = setting(None, low=1, high=10**9, unit="steps", takes_effect="at the next step")
    evaluation_rows: int | None = setting(None, low=1, high=10**9, unit="rows")  # None: as many as take about a second
    # the metric on the validation rows that decides which step is the best; None: the loss
    stop_metric: str | None = setting(None, takes_effect="in a fork")
    # this many evaluations without improvement end the run; None: the run never stops early
    stop_patience: int | None = setting(None, low=0, high=10**6, unit="evaluations", takes_effect="in a fork")
    # an evaluation is an improvement only if it is better than the best one by more than this
    stop_min_delta: float = setting(0.0, low=0.0, high=1e6, unit="of the metric", takes_effect="in a fork")
    # whether low or high values are good; auto: known from the name of the metric
    stop_mode: StopMode = setting("auto", takes_effect="in a fork")
    # None: at each evaluation
    checkpoint_every: int | None = setting(None, low=1, high=10**9, unit="steps", takes_effect="in a fork")
    # how many of the newest checkpoints are kept besides the best one; None: all
    keep_last: int | None = setting(2, low=1, high=10**9, unit="checkpoints", takes_effect="in a fork")
    # which weights are saved at the end, as a plain transformers model
    save_model: SaveModel = setting("best", takes_effect="in a fork")

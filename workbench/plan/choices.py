"""The Plan: frozen data that says everything a run needs, and nothing else.

A panel, three lines of code, the command line and a sweep all build the same Plan and so start the same run. Every
field has its unit in its metadata and is checked when the plan is created, not in epoch 3. Field names are unique
across the sections, so `plan.change(learning_rate=1e-4)` needs no path.

A plan contains no objects such as models, tables or callbacks, on purpose. So it can be written as JSON, sent by mail
and read back, and reading a stranger's plan runs no code of theirs.
"""

import dataclasses
import json
import operator
import os
import re
import typing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Self

from workbench.errors import PlanError, nearest
from workbench.plan.checking import known_only, without_repeats
from workbench.plan.fields import Choice, Touched, setting, touched_by
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
            hint=nearest(value, ["head", "all", "last 1", "last 2", "last 4"]),
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


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Everything a run needs. A plan is immutable; `change` returns a new one.

    Examples:
        >>> Plan().change(learning_rate=1e-4, trainable="last 2").tuning.learning_rate
        0.0001
    """

    baseline: Baseline = field(default_factory=Baseline)
    data: Data = field(default_factory=Data)
    transfer: Transfer = field(default_factory=Transfer)
    tuning: Tuning = field(default_factory=Tuning)
    retention: Retention = field(default_factory=Retention)
    monitoring: Monitoring = field(default_factory=Monitoring)

    def __post_init__(self) -> None:
        for entry in dataclasses.fields(self):
            kind = typing.cast("type[Choice]", entry.type)
            if not isinstance(getattr(self, entry.name), kind):
                raise PlanError(f"{entry.name} is {shown(getattr(self, entry.name))}; expected a {kind.__name__}")

    def change(self, /, **changes: Any) -> Self:
        """Return a plan with these fields changed; fields are named without their section.

        Raises:
            PlanError: A field is unknown (the message gives the nearest known one), or a value is invalid.
        """
        by_section: dict[str, dict[str, Any]] = {}
        for name, value in changes.items():
            if name not in SECTION_OF:
                raise PlanError(f"a plan has no field {shown(name)}", hint=nearest(name, SECTION_OF))
            by_section.setdefault(SECTION_OF[name], {})[name] = value
        return dataclasses.replace(
            self, **{s: dataclasses.replace(getattr(self, s), **fields) for s, fields in by_section.items()}
        )

    def with_absolute_paths(self) -> Self:
        """Return the plan with absolute paths for the files and folders that exist on this machine.

        A run may be executed later, by a process with another working directory.
        """
        places = {"source": self.data.source, "backbone": self.baseline.backbone}
        return self.change(**{name: _absolute(place) for name, place in places.items()})

    def touching(self, what: Touched) -> tuple[tuple[str, Any], ...]:
        """Return (name, value) of the fields that affect `what`, for example the rows or the model."""
        return tuple((name, value) for name, value in self.flat().items() if what in touched_by(FIELDS[name]))

    def flat(self) -> dict[str, Any]:
        """Return name -> value of every field, without the sections."""
        return {name: getattr(getattr(self, section), name) for name, section in SECTION_OF.items()}

    def differences(self, other: "Plan") -> dict[str, tuple[Any, Any]]:
        """Return the fields that differ, as name -> (value here, value in `other`)."""
        mine, theirs = self.flat(), other.flat()
        return {name: (mine[name], theirs[name]) for name in mine if mine[name] != theirs[name]}

    def to_json(self) -> str:
        """Return the plan as JSON text, from which `from_json` makes an equal plan."""
        return json.dumps(dataclasses.asdict(self), indent=2, ensure_ascii=False, allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read a plan; sections and fields that are missing get their defaults.

        Raises:
            PlanError: The text is not a JSON object, a section or field is unknown, or a value is invalid.
        """
        try:
            tree = json.loads(text, object_pairs_hook=without_repeats)
        except PlanError:
            raise
        except (ValueError, TypeError, RecursionError) as error:
            raise PlanError(f"the plan is not JSON: {error}", hint="write one with Plan().to_json()") from None
        return cls.from_dict(tree)

    @classmethod
    def from_dict(cls, tree: Any) -> Self:
        """Make a plan from nested dictionaries, as `from_json` does from JSON text."""
        sections = {entry.name: entry.type for entry in dataclasses.fields(cls)}
        known_only("a plan", tree, sections)
        return cls(**{name: _section(name, sections[name], body) for name, body in tree.items()})


def _absolute(place: str) -> str:
    """Return the absolute path if `place` looks like a file or folder and exists; anything else is a name."""
    is_place = "/" in place or os.sep in place or Path(place).suffix != ""
    return str(Path(place).resolve()) if is_place and Path(place).exists() else place


def _section(name: str, kind: Any, body: Any) -> Any:
    known_only(f"the section {name!r}", body, {entry.name for entry in dataclasses.fields(kind)})
    return kind(**body)


FIELDS: dict[str, "dataclasses.Field[Any]"] = {  # name of a field -> its dataclass field, which has the metadata
    entry.name: entry
    for section in dataclasses.fields(Plan)
    for entry in dataclasses.fields(section.type)  # type: ignore[arg-type]
}
SECTION_OF: dict[str, str] = {  # name of a field -> name of its section
    entry.name: section.name
    for section in dataclasses.fields(Plan)
    for entry in dataclasses.fields(section.type)  # type: ignore[arg-type]
}
LIVE_FIELDS = tuple(name for name, entry in FIELDS.items() if entry.metadata.get("takes_effect") == "at the next step")
FORK_FIELDS = (  # what a fork can change at any step: it affects only the steps that follow
    *LIVE_FIELDS,
    *(name for name, entry in FIELDS.items() if entry.metadata.get("takes_effect") == "in a fork"),
)
_ORDER = operator.attrgetter(*(name for name, entry in FIELDS.items() if "order" in touched_by(entry)))


def order_of(choice: Tuning) -> tuple[Any, ...]:
    """Return the values that determine the order of the batches."""
    return tuple(_ORDER(choice))

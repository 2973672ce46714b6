"""The Plan: frozen data that says everything a run needs, and nothing else.

A panel, three lines of code, the command line and a sweep all build the same Plan and so start the same run. Every
field has its unit beside it and is checked when the plan is made, not in epoch 3. Field names are unique across the
sections, so `plan.change(learning_rate=1e-4)` needs no path.

Left out on purpose: anything that is an object (models, tables, callbacks). A plan can be written as JSON, mailed and
read back, and reading one from a stranger runs nothing.
"""

import dataclasses
import json
import os
import re
import typing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Self

from workbench.errors import PlanError, nearest
from workbench.plan.checking import in_range, known_only, typed, without_repeats
from workbench.untrusted import shown

Task = Literal["text-classification", "language-modeling", "image-classification"]
Method = Literal["weights", "lora"]
Schedule = Literal["constant", "linear", "cosine"]
Batching = Literal["by length", "shuffled"]
Switch = Literal["auto", "off"]
Precision = Literal["auto", "fp32", "bf16"]
Device = Literal["auto", "cpu", "cuda", "mps"]
SaveModel = Literal["best", "last", "none"]

TASKS: tuple[Task, ...] = typing.get_args(Task)


LIVE = "at the next step"  # what a run under way obeys; anything else waits for the next run


def live(default: Any) -> Any:
    """Return a dataclass field that a run under way obeys from its next step on."""
    return field(default=default, metadata={"takes_effect": LIVE})


def within(low: float, high: float, *, unit: str, takes_effect: str = "at the next run", default: Any) -> Any:
    """Return a dataclass field whose value must lie in [low, high]; the unit is shown beside it in the panel."""
    metadata = {"low": low, "high": high, "unit": unit, "takes_effect": takes_effect}
    return field(default=default, metadata=metadata)


class Choice:
    """Base of the sections of a plan: checks each field's type and range when it is made."""

    def __post_init__(self) -> None:
        hints = typing.get_type_hints(type(self))
        for entry in dataclasses.fields(self):  # type: ignore[arg-type]
            value = typed(entry.name, getattr(self, entry.name), hints[entry.name])
            object.__setattr__(self, entry.name, in_range(entry, value))


@dataclass(frozen=True, kw_only=True)
class Baseline(Choice):
    """Practice 1: the pretrained model that everything starts from."""

    backbone: str = "minilm-l6"  # name in the catalog, hub id, or local folder


@dataclass(frozen=True, kw_only=True)
class Data(Choice):
    """What is learnt from: where the rows are, which columns count, and how they are split."""

    source: str = "sentiment:movies"  # pack, file or folder
    task: Task | None = None  # None: told by the columns
    text_column: str | None = None  # None: guessed, and shown
    label_column: str | None = None  # None: guessed, and shown
    group_column: str | None = None  # rows of one group never land in two splits
    max_rows: int | None = within(10, 10**9, unit="rows", default=None)  # a stratified sample; None: every row
    max_length: int = within(4, 131_072, unit="tokens", default=128)  # longer texts are cut (or windowed)
    window_overlap: int = within(1, 131_071, unit="tokens", default=1)  # that the next window reads again, unscored
    image_size: int | None = within(8, 1024, unit="pixels a side", default=None)  # None: what the backbone wants
    validation_fraction: float = within(0.01, 0.5, unit="of rows", default=0.15)
    test_fraction: float = within(0.0, 0.5, unit="of rows", default=0.15)
    split_seed: int = within(0, 2**31 - 1, unit="seed", default=0)


@dataclass(frozen=True, kw_only=True)
class Transfer(Choice):
    """Practice 3: which blocks learn, and whether their own weights do or low-rank adapters beside them."""

    trainable: str | tuple[str, ...] = live("head")  # "head", "last 2", "all", or the names of blocks
    method: Method = "weights"
    lora_rank: int = within(1, 512, unit="rank", default=8)
    lora_alpha: float = within(0.1, 1024, unit="scale × rank", default=16.0)
    lora_dropout: float = within(0.0, 0.9, unit="probability", default=0.0)
    prefix_cache: Switch = "auto"  # whether what the lowest frozen blocks give is computed once and kept
    cache_memory_mb: int | None = within(0, 10**7, unit="MB in memory", default=None)  # None: a quarter of what is free

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.trainable, str) and not re.fullmatch(r"head|all|last [1-9]\d{0,3}", self.trainable):
            raise PlanError(
                f"trainable is {shown(self.trainable)}; expected 'head', 'all', 'last 2' or a list of block names",
                hint=nearest(self.trainable, ["head", "all", "last 1", "last 2", "last 4"]),
            )
        if not self.trainable:
            raise PlanError("trainable is empty, so nothing would learn", hint="'head', or name at least one block")


@dataclass(frozen=True, kw_only=True)
class Tuning(Choice):
    """Practice 4: the hyperparameters of the optimizer and of the loop."""

    learning_rate: float = within(1e-8, 10.0, unit="per step", takes_effect=LIVE, default=1e-3)  # peak, after warm-up
    batch_size: int = within(1, 65_536, unit="rows", default=32)
    batch_tokens: int | None = within(1, 10**9, unit="tokens a batch", default=None)  # None: batch_size rows
    batching: Batching = "by length"  # rows of like length together, so that little is padding; or at random
    packing: Switch = "auto"  # language models: windows end to end in place of padding, each blind to the others
    accumulation_steps: int = within(1, 4096, unit="batches a step", default=1)
    epochs: float = within(0.001, 10_000, unit="passes over the rows", default=3.0)
    max_steps: int | None = within(1, 10**9, unit="steps", default=None)  # at most; None: told by epochs alone
    schedule: Schedule = "cosine"
    warmup_fraction: float = within(0.0, 1.0, unit="of steps", default=0.06)
    weight_decay: float = within(0.0, 1.0, unit="per step × rate", default=0.01)  # matrices only
    clip_norm: float | None = within(1e-6, 1e6, unit="L2 norm of the gradient", default=1.0)  # None: no clipping
    dropout: float | None = within(0.0, 0.95, unit="probability", default=None)  # None: the backbone's own
    precision: Precision = "auto"
    device: Device = "auto"
    seed: int = within(0, 2**31 - 1, unit="seed", default=0)


@dataclass(frozen=True, kw_only=True)
class Monitoring(Choice):
    """Practice 6: what is measured while the run goes on, and what is kept of it."""

    evaluate_every: int | None = within(1, 10**9, unit="steps", takes_effect=LIVE, default=None)  # None: ten a run
    evaluation_rows: int | None = within(1, 10**9, unit="rows", default=None)  # None: what takes about a second
    checkpoint_every: int | None = within(1, 10**9, unit="steps", default=None)  # None: at each evaluation
    keep_last: int | None = within(1, 10**9, unit="checkpoints", default=2)  # beside the best one; None: all
    save_model: SaveModel = "best"  # whose weights are written at the end, as plain transformers reads them


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Everything a run needs. Made once, never changed; `change` returns a new one.

    Examples:
        >>> Plan().change(learning_rate=1e-4, trainable="last 2").tuning.learning_rate
        0.0001
    """

    baseline: Baseline = field(default_factory=Baseline)
    data: Data = field(default_factory=Data)
    transfer: Transfer = field(default_factory=Transfer)
    tuning: Tuning = field(default_factory=Tuning)
    monitoring: Monitoring = field(default_factory=Monitoring)

    def __post_init__(self) -> None:
        for entry in dataclasses.fields(self):
            kind = typing.cast("type[Choice]", entry.type)
            if not isinstance(getattr(self, entry.name), kind):
                raise PlanError(f"{entry.name} is {shown(getattr(self, entry.name))}; expected a {kind.__name__}")

    def change(self, /, **changes: Any) -> Self:
        """Return a plan with these fields changed, each named without its section.

        Raises:
            PlanError: An unknown field (the nearest known one is named) or a value that can't be.
        """
        by_section: dict[str, dict[str, Any]] = {}
        for name, value in changes.items():
            if name not in SECTION_OF:
                raise PlanError(f"a plan has no field {shown(name)}", hint=nearest(name, SECTION_OF))
            by_section.setdefault(SECTION_OF[name], {})[name] = value
        return dataclasses.replace(
            self, **{s: dataclasses.replace(getattr(self, s), **fields) for s, fields in by_section.items()}
        )

    def anchored(self) -> Self:
        """Return the plan with files and folders of this machine named by their whole paths.

        What runs somewhere else, or later, may have another folder to begin from.
        """
        places = {"source": self.data.source, "backbone": self.baseline.backbone}
        return self.change(**{name: _anchored(place) for name, place in places.items()})

    def flat(self) -> dict[str, Any]:
        """Return every field by its own name, sections left out."""
        return {name: getattr(getattr(self, section), name) for name, section in SECTION_OF.items()}

    def differences(self, other: "Plan") -> dict[str, tuple[Any, Any]]:
        """Return what differs: field -> (here, there)."""
        mine, theirs = self.flat(), other.flat()
        return {name: (mine[name], theirs[name]) for name in mine if mine[name] != theirs[name]}

    def to_json(self) -> str:
        """Return the plan as JSON text that `from_json` reads back to an equal plan."""
        return json.dumps(dataclasses.asdict(self), indent=2, ensure_ascii=False, allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read a plan; sections and fields left out take their defaults.

        Raises:
            PlanError: Not JSON, not an object, an unknown section or field, or a value that can't be.
        """
        try:
            tree = json.loads(text, object_pairs_hook=without_repeats)
        except PlanError:
            raise
        except (ValueError, TypeError, RecursionError) as error:
            raise PlanError(f"the plan is not JSON: {error}", hint="Plan().to_json() shows the form") from None
        return cls.from_dict(tree)

    @classmethod
    def from_dict(cls, tree: Any) -> Self:
        """Build a plan from nested dictionaries, as `from_json` does."""
        sections = {entry.name: entry.type for entry in dataclasses.fields(cls)}
        known_only("a plan", tree, sections)
        return cls(**{name: _section(name, sections[name], body) for name, body in tree.items()})


def _anchored(place: str) -> str:
    """Return the whole path of what is written as a file or folder and is there; anything else is a name."""
    is_place = "/" in place or os.sep in place or Path(place).suffix != ""
    return str(Path(place).resolve()) if is_place and Path(place).exists() else place


def _section(name: str, kind: Any, body: Any) -> Any:
    known_only(f"the section {name!r}", body, {entry.name for entry in dataclasses.fields(kind)})
    return kind(**body)


SECTION_OF: dict[str, str] = {  # field -> section of the plan it lives in
    entry.name: section.name
    for section in dataclasses.fields(Plan)
    for entry in dataclasses.fields(section.type)  # type: ignore[arg-type]
}
FIELDS: dict[str, "dataclasses.Field[Any]"] = {  # field -> its dataclass field, with range and unit in .metadata
    entry.name: entry
    for section in dataclasses.fields(Plan)
    for entry in dataclasses.fields(section.type)  # type: ignore[arg-type]
}
LIVE_FIELDS: tuple[str, ...] = tuple(
    name for name, entry in FIELDS.items() if entry.metadata.get("takes_effect") == LIVE
)

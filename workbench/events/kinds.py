"""The events of a run, as frozen data.

Each event says something that has happened, and when. A log of events (one JSON object per line) can be replayed into
any panel without training. The bus (bus.py) delivers events to subscribers.
"""

import time as clock
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from workbench.events.sentences import sentence


@dataclass(frozen=True, kw_only=True)
class Event:
    """Base class of the events; `time` is in seconds since the epoch."""

    time: float = field(default_factory=clock.time, compare=False)

    @property
    def kind(self) -> str:
        """The name of the event in the log: its class name."""
        return type(self).__name__

    def __str__(self) -> str:
        """Return the event as one short line; `repr` gives all fields."""
        return sentence(self)


@dataclass(frozen=True, kw_only=True)
class StageStarted(Event):
    """The next stage of the preparation has started: data, backbone, encoding, training."""

    stage: str  # description for the user


@dataclass(frozen=True, kw_only=True)
class RunStarted(Event):
    """The preparation is complete and training starts."""

    task: str
    steps: int  # optimizer steps of the run in total
    first_step: int = 0  # steps taken before; greater than 0 for a resumed run
    trainable_parameters: int
    total_parameters: int
    rows: int  # training examples (windows, for a language model)
    device: str
    precision: str  # fp32 | bf16
    baseline: Mapping[str, float]  # metrics of the trivial baseline on the validation rows
    baseline_name: str  # description of that baseline
    settings: tuple[str, ...] = ()  # how the run computes and why, in short sentences
    notes: tuple[str, ...] = ()  # for the user: rows that were left out, truncated texts, dropout without effect


@dataclass(frozen=True, kw_only=True)
class StepEnded(Event):
    """An optimizer step was taken; `step` is 1-based. The loss is that before the update of the weights."""

    step: int
    epoch: float  # passes over the training rows so far; every step of an epoch counts the same
    loss: float  # nats per target, over all accumulated batches
    targets: int  # number of targets in the loss
    rows: int
    learning_rate: float
    gradient_norm: float  # L2, before clipping
    seconds: float = field(compare=False)  # wall time of the step


@dataclass(frozen=True, kw_only=True)
class EvaluationProgressed(Event):
    """An evaluation is in progress; `loss` is the loss over the rows so far."""

    step: int
    split: str
    loss: float  # nats per target
    rows_done: int
    rows: int


@dataclass(frozen=True, kw_only=True)
class EvaluationEnded(Event):
    """The model was evaluated on held-out rows after `step` steps; step 0 is before training."""

    step: int
    split: str  # validation | test
    metrics: Mapping[str, float]  # loss (nats per target), perplexity or accuracy, macro_f1, weighted_f1
    rows: int
    targets: int
    seconds: float = field(compare=False)
    best: bool = False  # whether this is the best evaluation of the run so far


@dataclass(frozen=True, kw_only=True)
class WeightsMoved(Event):
    """How far training has moved each block that is or was trainable from its weights before training."""

    step: int
    by_block: Mapping[str, float]  # L2 norm of the change / L2 norm of the weights before
    rms_by_block: Mapping[str, float] = field(default_factory=dict)  # blocks of zeros: root mean square of the change


@dataclass(frozen=True, kw_only=True)
class FrozenMoved(Event):
    """The hash of a frozen tensor has changed, so the run's promise that frozen blocks stay the same is broken."""

    step: int
    tensors: tuple[str, ...]
    blocks: tuple[str, ...]  # the blocks that contain them


@dataclass(frozen=True, kw_only=True)
class CacheProgressed(Event):
    """The activations of the frozen blocks are being computed, once for all epochs."""

    step: int
    split: str  # train | validation
    rows_done: int
    rows: int
    seconds_left: float | None = None
    loss: float | None = None  # nats per target over the rows so far, if the model computed the loss as well


@dataclass(frozen=True, kw_only=True)
class CacheReady(Event):
    """From the next step on the activations of the frozen blocks below `boundary` are read from the cache."""

    step: int
    split: str  # train | validation
    boundary: str  # the first block that every step computes
    rows: int
    size_bytes: int
    budget_bytes: int = 0  # how much of the cache may be in memory
    place: str  # memory | disk
    seconds: float  # that it took to compute or to load the cache
    reused: bool = False  # whether another run had computed it
    advanced_from: str = ""  # boundary of the earlier cache that this one was computed from, if any


@dataclass(frozen=True, kw_only=True)
class CacheRefused(Event):
    """The activations are not cached, for the reason `what`; only the last digits of numbers depend on that."""

    step: int
    what: str


@dataclass(frozen=True, kw_only=True)
class PlanAdjusted(Event):
    """The plan of the run changed after `step` steps; the next step is the first with the new values."""

    step: int
    before: Mapping[str, Any]  # field of the plan -> value
    after: Mapping[str, Any]
    scheduled: bool = False  # known when the run started: changes of a fork, and later changes of its parent
    by: str = ""  # name of the tactic that made the change; "" for a person
    steps: int = field(default=0, compare=False)  # optimizer steps of the run in total, from now on; 0 in old logs


@dataclass(frozen=True, kw_only=True)
class ChangeRefused(Event):
    """A requested change of the plan is not possible; the run continues without it."""

    step: int
    what: str
    hint: str = ""
    scheduled: bool = False


@dataclass(frozen=True, kw_only=True)
class CheckpointSaved(Event):
    """A checkpoint was saved to disk, after the hashes of the frozen tensors were checked."""

    step: int
    folder: str  # relative to the run folder
    size_bytes: int
    best: bool
    frozen_tensors: int = 0  # number of frozen tensors and buffers that are bit-identical to the start
    kept: tuple[int, ...] = ()  # steps of all checkpoints that exist now
    kept_bytes: int = 0  # their total size on disk


@dataclass(frozen=True, kw_only=True)
class CheckpointFailed(Event):
    """A checkpoint could not be written; earlier checkpoints are kept, and training continues."""

    step: int
    what: str
    hint: str = ""


@dataclass(frozen=True, kw_only=True)
class CheckpointRefused(Event):
    """A damaged checkpoint was skipped; the run continues from an older one, or from the backbone."""

    step: int
    what: str


@dataclass(frozen=True, kw_only=True)
class ModelSaved(Event):
    """A model was saved to disk as a plain transformers model."""

    step: int
    which: str  # best | last
    folder: str  # relative to the run folder
    size_bytes: int
    load: str  # Python code that loads it; the name `folder` stands for its path


@dataclass(frozen=True, kw_only=True)
class RunForked(Event):
    """This run starts where `parent` was after `step` steps. It is the first event of a fork."""

    parent: str
    step: int
    changes: Mapping[str, Any]  # field of the plan -> value in the fork


@dataclass(frozen=True, kw_only=True)
class ReplayDiverged(Event):
    """Repeated steps gave other numbers than the log, because of another machine, thread count or version."""

    step: int
    what: str


@dataclass(frozen=True, kw_only=True)
class RunPaused(Event):
    """The run is paused after this step; nothing is lost."""

    step: int


@dataclass(frozen=True, kw_only=True)
class RunResumed(Event):
    """The run continues from this step."""

    step: int


@dataclass(frozen=True, kw_only=True)
class RunEnded(Event):
    """The run has ended for the given reason, and its model is usable."""

    step: int
    reason: str  # completed | stopped by the user | …
    best_step: int | None = None
    best_loss: float | None = None  # nats per target, on the validation rows


@dataclass(frozen=True, kw_only=True)
class RunFailed(Event):
    """The run has failed; what it saved to disk stays usable."""

    step: int
    what: str
    hint: str = ""
    traceback: str = ""
    rows: tuple[int, ...] = ()  # the training examples that caused the failure, if any
    is_interruption: bool = False  # its notebook or program went away, as at a restart of the kernel
    never_loaded: bool = False  # what the plan names could not be loaded, so there is nothing to resume


@dataclass(frozen=True, kw_only=True)
class PlanChanged(Event):
    """The session has a new plan; `fields` are the names that changed."""

    fields: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class RunChosen(Event):
    """The session now shows another run; all events of that run follow. Published on the bus only, never logged."""

    name: str


@dataclass(frozen=True, kw_only=True)
class RunsOverlaid(Event):
    """The curves of these runs are now drawn over those of the shown one. Published on the bus only, never logged."""

    names: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class PreparationEnded(Event):
    """The session has loaded a part of what its plan names, or has failed to."""

    part: str  # data | backbone | examples, in this order
    what: str = ""  # why it failed; empty if it succeeded
    hint: str = ""
    traceback: str = ""  # of an unexpected error


KINDS: dict[str, type[Event]] = {kind.__name__: kind for kind in Event.__subclasses__()}

"""The facts of a run, as frozen data.

Every event is a past-tense fact with the time it became true. An event log (one JSON object a line) replays into any
panel with no training. Bus (bus.py) passes them on.
"""

import dataclasses
import functools
import re
import time as clock
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from workbench.errors import RunError, nearest
from workbench.untrusted import Reader, reader, shown, to_json


@dataclass(frozen=True, kw_only=True)
class Event:
    """A fact; `time` is in seconds since the epoch."""

    time: float = field(default_factory=clock.time, compare=False)

    @property
    def kind(self) -> str:
        """The name the event has in the log: its class name."""
        return type(self).__name__


@dataclass(frozen=True, kw_only=True)
class StageStarted(Event):
    """The run went on to its next stage of preparation: data, backbone, encoding, training."""

    stage: str  # in words, for the panel


@dataclass(frozen=True, kw_only=True)
class RunStarted(Event):
    """Everything is in place and the first step is next."""

    task: str
    steps: int  # optimizer steps that the run will take
    first_step: int = 0  # steps already taken: above 0 for a resumed run
    trainable_parameters: int
    total_parameters: int
    rows: int  # training examples (windows, for a language model)
    device: str
    precision: str  # fp32 | bf16
    baseline: Mapping[str, float]  # metrics of the trivial baseline on the validation rows
    baseline_name: str  # what that baseline does, in words
    settings: tuple[str, ...] = ()  # how it computes, and what was measured of that, a short sentence each
    notes: tuple[str, ...] = ()  # what the user should know: rows left out, texts cut, dropout that has no place


@dataclass(frozen=True, kw_only=True)
class StepEnded(Event):
    """One optimizer step was taken (1-based). The loss was measured before the weights moved."""

    step: int
    epoch: float  # passes over the training rows so far, each step counted alike
    loss: float  # nats per target, over the whole accumulation window
    targets: int  # targets the loss was counted over
    rows: int
    learning_rate: float
    gradient_norm: float  # L2, before clipping
    seconds: float = field(compare=False)  # wall time of the step


@dataclass(frozen=True, kw_only=True)
class EvaluationProgressed(Event):
    """An evaluation is under way; `loss` is over the rows so far."""

    step: int
    split: str
    loss: float  # nats per target
    rows_done: int
    rows: int


@dataclass(frozen=True, kw_only=True)
class EvaluationEnded(Event):
    """The model was measured on held-out rows after `step` steps; step 0 is before any training."""

    step: int
    split: str  # validation | test
    metrics: Mapping[str, float]  # loss (nats per target), perplexity or accuracy, macro_f1, weighted_f1
    rows: int
    targets: int
    seconds: float = field(compare=False)
    best: bool = False  # the lowest loss of this run so far


@dataclass(frozen=True, kw_only=True)
class WeightsMoved(Event):
    """How far training has moved each block that learns or has learnt, from where it was before it did."""

    step: int
    by_block: Mapping[str, float]  # L2 norm of the change / L2 norm of the weights before
    rms_by_block: Mapping[str, float] = field(default_factory=dict)  # blocks of zeros: root mean square of the change


@dataclass(frozen=True, kw_only=True)
class FrozenMoved(Event):
    """Something frozen is not what it was: its hash differs, so nothing the run says of it can be trusted."""

    step: int
    tensors: tuple[str, ...]
    blocks: tuple[str, ...]  # where they are


@dataclass(frozen=True, kw_only=True)
class CacheProgressed(Event):
    """What the frozen blocks give is being computed, once for all epochs."""

    step: int
    split: str  # train | validation
    rows_done: int
    rows: int
    seconds_left: float | None = None
    loss: float | None = None  # nats per target over the rows so far, where the model answered them on the way


@dataclass(frozen=True, kw_only=True)
class CacheReady(Event):
    """From the next step on the frozen blocks below `boundary` are not computed any more: what they give is at hand."""

    step: int
    split: str  # train | validation
    boundary: str  # the first block that is computed at each step
    rows: int
    size_bytes: int
    budget_bytes: int = 0  # what may be kept in memory
    place: str  # memory | disk
    seconds: float  # that it took to have it
    reused: bool = False  # another run had computed it
    advanced_from: str = ""  # the boundary of an earlier one that only the blocks between were run on


@dataclass(frozen=True, kw_only=True)
class CacheRefused(Event):
    """The frozen blocks are computed at each step, and why; the numbers are the same but for their last digits."""

    step: int
    what: str


@dataclass(frozen=True, kw_only=True)
class PlanAdjusted(Event):
    """Choices of the run under way changed after `step` steps; the step that follows is the first to obey them."""

    step: int
    before: Mapping[str, Any]  # field of the plan -> value
    after: Mapping[str, Any]
    scheduled: bool = False  # it was known when the run began: a fork's own changes, and those its parent made later
    by: str = ""  # name of the tactic that made it; "" for a person


@dataclass(frozen=True, kw_only=True)
class ChangeRefused(Event):
    """A change of the run under way could not be made; the run goes on as it was."""

    step: int
    what: str
    hint: str = ""
    scheduled: bool = False


@dataclass(frozen=True, kw_only=True)
class CheckpointSaved(Event):
    """Everything that can differ from the backbone is safely on disk, and what is frozen was hashed once more."""

    step: int
    folder: str  # relative to the run folder
    size_bytes: int
    best: bool
    frozen_tensors: int = 0  # frozen tensors and buffers found bit-identical to the start
    kept: tuple[int, ...] = ()  # steps of all checkpoints there are now
    kept_bytes: int = 0  # what they take on disk together


@dataclass(frozen=True, kw_only=True)
class CheckpointFailed(Event):
    """A checkpoint could not be written; the earlier ones stay, and training goes on."""

    step: int
    what: str
    hint: str = ""


@dataclass(frozen=True, kw_only=True)
class CheckpointRefused(Event):
    """A checkpoint that is not as it was written was passed over; an older one, or the backbone, is taken."""

    step: int
    what: str


@dataclass(frozen=True, kw_only=True)
class ModelSaved(Event):
    """A model lies on disk as plain transformers reads it."""

    step: int
    which: str  # best | last
    folder: str  # relative to the run folder
    size_bytes: int
    load: str  # Python that loads it, `folder` standing for its path


@dataclass(frozen=True, kw_only=True)
class RunForked(Event):
    """This run begins where `parent` was after `step` steps; first in the log of a fork."""

    parent: str
    step: int
    changes: Mapping[str, Any]  # field of the plan -> value, where the fork differs from there on


@dataclass(frozen=True, kw_only=True)
class ReplayDiverged(Event):
    """Repeating logged steps gave other numbers: another machine, number of threads, or version."""

    step: int
    what: str


@dataclass(frozen=True, kw_only=True)
class RunPaused(Event):
    """The run waits after this step; nothing is lost."""

    step: int


@dataclass(frozen=True, kw_only=True)
class RunResumed(Event):
    """The run goes on from this step."""

    step: int


@dataclass(frozen=True, kw_only=True)
class RunEnded(Event):
    """The run is over and its model is usable; `reason` says how it came to its end."""

    step: int
    reason: str  # completed | stopped by the user | …
    best_step: int | None = None
    best_loss: float | None = None  # nats per target, on the validation rows


@dataclass(frozen=True, kw_only=True)
class RunFailed(Event):
    """The run broke off; what is on disk stays usable."""

    step: int
    what: str
    hint: str = ""
    traceback: str = ""
    rows: tuple[int, ...] = ()  # training examples of the batch that did it, where one did


@dataclass(frozen=True, kw_only=True)
class PlanChanged(Event):
    """The session has a new plan; `fields` are the names that changed."""

    fields: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class RunChosen(Event):
    """The session shows another run from now on; all of its events follow. Told on the bus only."""

    name: str


@dataclass(frozen=True, kw_only=True)
class PreparationEnded(Event):
    """The session has loaded its "backbone" or its "data", or could not (`what` then says why)."""

    part: str  # data | backbone | examples, in this order
    what: str = ""  # empty: it worked
    hint: str = ""
    traceback: str = ""  # of an error that nobody foresaw


KINDS: dict[str, type[Event]] = {kind.__name__: kind for kind in Event.__subclasses__()}


def to_dict(event: Event) -> dict[str, Any]:
    """Return the event as a JSON-ready object; numbers that JSON lacks become "nan", "inf" or "-inf"."""
    values = vars(event)
    return {"event": event.kind, **{name: to_json(values[name]) for name in _names(event.kind)}}


@functools.cache
def _names(kind: str) -> tuple[str, ...]:
    return tuple(entry.name for entry in dataclasses.fields(KINDS[kind]))


def from_dict(tree: Mapping[str, Any]) -> Event:
    """Read an event back, whoever wrote it.

    Raises:
        RunError: An unknown kind of event, fields that do not fit it, or a place outside the run folder.
    """
    body = dict(tree) if isinstance(tree, Mapping) else {}
    kind = body.pop("event", None)
    if not isinstance(kind, str) or kind not in KINDS:
        raise RunError(f"the log has an unknown event {shown(kind)}", hint=nearest(shown(kind), KINDS))
    readers = _readers(kind)
    try:
        event = KINDS[kind](**{name: readers[name](value) for name, value in body.items()})
    except (KeyError, TypeError, ValueError, OverflowError, RecursionError) as error:
        reason = f"no field {error}" if isinstance(error, KeyError) else str(error)
        raise RunError(f"the log has a {kind} that can't be read: {reason[:200]}") from None
    for name in _PLACES & body.keys():
        if not _is_inside(body[name]):
            raise RunError(f"the log has a {kind} whose {name} is {shown(body[name])}, outside the run folder")
    return event


@functools.cache
def _readers(kind: str) -> dict[str, Reader]:
    return {name: reader(hint) for name, hint in typing.get_type_hints(KINDS[kind]).items()}


_PLACES = {"folder", "parent"}  # fields that name something on disk, relative to the run or beside it


def _is_inside(place: str) -> bool:
    return ".." not in re.split(r"[/\\]", place) and not re.match(r"[/\\~]|$", place) and ":" not in place

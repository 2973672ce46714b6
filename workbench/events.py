"""The facts of a run, as frozen data, and the Bus that passes them on.

Every event is a past-tense fact with the time it became true. An event log (one JSON object a line) replays into any
panel with no training. Watchers subscribe to a Bus and can't change what they watch: an error in one is kept and
logged, and never reaches the run.
"""

import dataclasses
import logging
import math
import time as clock
import typing
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from workbench.errors import RunError, nearest


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


@dataclass(frozen=True, kw_only=True)
class FrozenMoved(Event):
    """Something frozen is not what it was: its hash differs, so nothing the run says of it can be trusted."""

    step: int
    tensors: tuple[str, ...]
    blocks: tuple[str, ...]  # where they are


@dataclass(frozen=True, kw_only=True)
class PlanAdjusted(Event):
    """Choices of the run under way changed after `step` steps; the step that follows is the first to obey them."""

    step: int
    before: Mapping[str, Any]  # field of the plan -> value
    after: Mapping[str, Any]
    scheduled: bool = False  # it was known when the run began: a fork's own changes, and those its parent made later


@dataclass(frozen=True, kw_only=True)
class ChangeRefused(Event):
    """A change of the run under way could not be made; the run goes on as it was."""

    step: int
    what: str
    hint: str = ""


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
    body = {entry.name: _to_json(getattr(event, entry.name)) for entry in dataclasses.fields(event)}
    return {"event": event.kind, **body}


def from_dict(tree: Mapping[str, Any]) -> Event:
    """Read an event back.

    Raises:
        RunError: An unknown kind of event, or fields that do not fit it.
    """
    body = dict(tree)
    kind = body.pop("event", None)
    if kind not in KINDS:
        raise RunError(f"the log has an unknown event {kind!r}", hint=nearest(str(kind), KINDS))
    hints = typing.get_type_hints(KINDS[kind])
    try:
        return KINDS[kind](**{name: _from_json(value, hints[name]) for name, value in body.items()})
    except (KeyError, TypeError, ValueError) as error:
        raise RunError(f"the log has a {kind} that can't be read: {error}") from None


def _to_json(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, Mapping):
        return {key: _to_json(item) for key, item in value.items()}
    return list(value) if isinstance(value, tuple) else value


def _from_json(value: Any, hint: Any) -> Any:
    if isinstance(value, Mapping):
        inner = typing.get_args(hint)[-1] if typing.get_args(hint) else Any
        return {key: _from_json(item, inner) for key, item in value.items()}
    if isinstance(value, list):
        return tuple(value)
    return float(value) if float in (hint, *typing.get_args(hint)) and value is not None else value


Watcher = Callable[[Event], None]


class Bus:
    """Passes each event to every watcher, in the order they subscribed."""

    def __init__(self) -> None:
        self._watchers: dict[int, Watcher] = {}
        self._next = 0
        self.errors: deque[tuple[Event, Exception]] = deque(maxlen=20)  # what watchers raised last; the run went on

    def subscribe(self, watcher: Watcher) -> Callable[[], None]:
        """Call `watcher(event)` for every event from now on; return the function that ends it.

        Raises:
            TypeError: `watcher` can't be called.
        """
        if not callable(watcher):
            raise TypeError(f"a watcher is a function of one event; got {watcher!r}")
        key = self._next = self._next + 1
        self._watchers[key] = watcher
        return lambda: self._watchers.pop(key, None) and None

    def publish(self, event: Event) -> None:
        """Tell every watcher; one that fails is noted in `errors` and the others still hear."""
        for watcher in list(self._watchers.values()):
            try:
                watcher(event)
            except Exception as error:
                if not self.errors:  # the first tells it all, and there may be thousands
                    logging.getLogger("workbench").exception("a watcher failed at %s", event.kind)
                self.errors.append((event, error))

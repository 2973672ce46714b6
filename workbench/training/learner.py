"""A model on its way: the one object that a step reads and writes.

Holds how a batch is scored, so that training and measuring count the same nats. It takes no step itself.
"""

import contextlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.optim import Optimizer

from workbench.events import Event
from workbench.models import Backbone, fingerprints, freezing, lora
from workbench.models.copy_on_write import later_copy
from workbench.plan.choices import Plan
from workbench.speed.first_token import Narrowing
from workbench.speed.prefix_cache.rows import KEPT, Reuse, crossing
from workbench.tasks import Task, cross_entropy
from workbench.tasks.examples import Batch, Examples
from workbench.training.settings import Settings


class Tactic(Protocol):
    """Something that changes training, only through what these two hooks return."""

    def penalty(self, model: nn.Module) -> Tensor | None:
        """Return a scalar added to the objective of the next step and left out of the logged loss."""

    def stop_reason(self, event: Event) -> str | None:
        """Return why the run should end after this event, or nothing to go on."""


@dataclass
class Learner:
    """A model on its way: all that a step reads and writes. `build` makes one.

    Attributes:
        step: Optimizer steps taken so far.
        best_step: The step with the lowest validation loss so far; 0 is the model before any training.
        best_loss: That loss, in nats per target.
        measured_step: The step of the last evaluation, so that a resumed run neither repeats nor skips one.
        decided_step: The step at which it was last decided whether to measure; later changes of the plan don't count.
        adjusted: How often the plan changed since the run began.
        learnt: Names of the blocks that learn or once learnt in this run.
        joined: Parameter -> steps taken when it began to learn, for those that learn now.
        origin: Own parameters and buffers of the model as they were before they learnt, by name.
        frozen: Hash of every frozen tensor and buffer, taken when it was frozen.
        reuse: What the frozen lowest blocks give, where that is at hand; see prefix.py.
        reuse_of: What that was decided for.
        narrowing: What of the last block is computed for the first place of each row only; see transfer/narrowing.py.
    """

    backbone: Backbone
    task: Task
    train: Examples
    validation: Examples
    plan: Plan
    trainable: tuple[str, ...]  # names of blocks
    device: torch.device
    settings: Settings
    optimizer: Optimizer
    notes: tuple[str, ...] = ()
    step: int = 0
    best_step: int | None = None
    best_loss: float = math.inf
    measured_step: int | None = None
    decided_step: int | None = None
    adjusted: int = 0
    learnt: tuple[str, ...] = ()
    joined: dict[str, int] = field(default_factory=dict)
    origin: dict[str, Tensor] = field(default_factory=dict)
    frozen: dict[str, str] = field(default_factory=dict)
    reuse: Reuse | None = None
    reuse_of: tuple[Any, ...] | None = None
    narrowing: Narrowing | None = None
    metrics: tuple[Any, ...] = ()  # evaluate.Metric objects beside those of the task
    tactics: Sequence[Tactic] = field(default_factory=tuple)
    is_whole: bool = True  # False while the optimizer is half-way through its parameters
    training_norms: tuple[nn.Module, ...] = ()  # norms whose running statistics move in a step
    _counted: tuple[Plan, Examples, tuple[int, int]] | None = None
    _modes: list[tuple[nn.Module, bool]] | None = None  # each module, and whether it is in training mode in a step

    @property
    def model(self) -> nn.Module:
        """The model that learns."""
        model: nn.Module = self.backbone.model
        return model

    @property
    def precision(self) -> str:
        """The number format of the arithmetic: fp32 | bf16."""
        return self.settings.precision

    @property
    def windows_per_epoch(self) -> int:
        """Optimizer steps in one pass over the training examples."""
        return self._extent()[0]

    @property
    def steps(self) -> int:
        """Optimizer steps that the whole run takes."""
        return self._extent()[1]

    def _extent(self) -> tuple[int, int]:
        """Return the steps of an epoch and of the run: asked for many times a step, counted once a plan."""
        known = self._counted
        if known is None or known[0] is not self.plan or known[1] is not self.train:
            extent = (windows_in(self.plan, self.train), steps_in(self.plan, self.train))
            known = self._counted = (self.plan, self.train, extent)
        return known[2]

    @property
    def evaluate_every(self) -> int:
        """Steps between two evaluations; ten a run unless the plan says."""
        return self.plan.monitoring.evaluate_every or max(1, math.ceil(self.steps / 10))

    @property
    def is_due(self) -> bool:
        """Whether the model is to be measured before the next step: at the start, now and then, and at the end."""
        is_time = self.step % self.evaluate_every == 0 or self.step == self.steps
        return is_time and self.step not in (self.measured_step, self.decided_step)

    @property
    def learning(self) -> dict[str, nn.Parameter]:
        """The parameters that learn now, by name."""
        return {name: parameter for name, parameter in self.model.named_parameters() if parameter.requires_grad}

    def batch(self, examples: Examples, indices: Sequence[int]) -> Batch:
        """Return these examples as one batch, with what the frozen blocks give for them if that is at hand."""
        rows = self.reuse.of(examples) if self.reuse else None
        if self.reuse is None or rows is None:
            return examples.batch(indices)
        batch = examples.labelled(indices) if self.reuse.cut.tail else examples.outlined(indices)
        return {**batch, KEPT: crossing(rows, self.reuse.cut, indices, batch)}

    def narrowed(self) -> contextlib.AbstractContextManager[None]:
        """Return the context in which the last block computes only what is read, as far as that is known."""
        return self.narrowing.applied(self.model) if self.narrowing else contextlib.nullcontext()

    def note_freezing(self, learnt: Sequence[str] = ()) -> None:
        """Take in which parameters learn now: when they joined, where they started, and the hash of all others.

        What was frozen before keeps the hash that was taken then.
        """
        learning = self.learning
        self.joined = {name: self.joined.get(name, self.step) for name in learning}
        known = {*self.trainable, *self.learnt, *learnt}
        self.learnt = tuple(block.name for block in self.backbone.blocks if block.name in known)
        for name, tensor in freezing.changeable(self.model, self.backbone.blocks, self.learnt).items():
            if name not in self.origin and not lora.is_adapter(name):
                self.origin[name] = later_copy(tensor)
        tensors = fingerprints.frozen_tensors(self.model, self.backbone.blocks, self.trainable)
        new = fingerprints.fingerprints({name: tensor for name, tensor in tensors.items() if name not in self.frozen})
        self.frozen = {name: self.frozen.get(name) or new[name] for name in tensors}

    def moved_though_frozen(self) -> tuple[str, ...]:
        """Return the names of the frozen tensors and buffers that are not what they were."""
        tensors = fingerprints.frozen_tensors(self.model, self.backbone.blocks, self.trainable)
        now = fingerprints.fingerprints(tensors)
        return tuple(name for name in self.frozen if now.get(name) != self.frozen[name])

    def forget_modes(self) -> None:
        """Look anew at the next step which modules train: the blocks that learn have changed."""
        self._modes = None

    def enter_training(self) -> None:
        """Put trainable blocks into training mode and frozen ones into eval mode, whoever changed that since."""
        if self._modes is None:
            freezing.train_mode(self.model, self.backbone.blocks, self.trainable)
            self._modes = [(module, module.training) for module in self.model.modules()]
            self.training_norms = tuple(module for module, trains in self._modes if trains and _has_statistics(module))
        for module, is_training in self._modes:  # walking the blocks at each step would cost a millisecond
            if module.training is not is_training:  # to look is 30 times as fast as to set
                module.training = is_training


def _has_statistics(module: nn.Module) -> bool:
    return isinstance(module, _NormBase) and module.track_running_stats


def windows_in(plan: Plan, examples: Examples) -> int:
    """Return the optimizer steps in one pass over these training examples."""
    return examples.windows(plan.tuning)


def steps_in(plan: Plan, examples: Examples) -> int:
    """Return the optimizer steps that a run over these training examples takes."""
    by_epochs = max(1, math.ceil(plan.tuning.epochs * windows_in(plan, examples) - 1e-9))  # 0.07 × 100 is above 7
    return min(by_epochs, plan.tuning.max_steps or by_epochs)


def score(learner: Learner, batch: Batch) -> tuple[Tensor, Tensor]:
    """Return logits (targets, classes) and true classes (targets,) in the run's precision."""
    with _ready(learner, batch) as moved:
        return learner.task.score(learner.model, moved)


def counted_nats(learner: Learner, batch: Batch) -> tuple[Tensor, int]:
    """Return the summed cross-entropy, a scalar in nats that can be learnt from, and over how many targets it is."""
    with _ready(learner, batch) as moved:
        return learner.task.nats(learner.model, moved)


@contextlib.contextmanager
def _ready(learner: Learner, batch: Batch) -> Iterator[Batch]:
    """Yield the batch on the learner's device, with its model in the run's precision, begun at the cut if there is one.

    Where nothing was kept of the batch, the model runs from its inputs.
    """
    moved, kept = learner.settings.moved, batch.get(KEPT)
    with learner.settings.autocast(learner.device):
        if kept is None or learner.reuse is None:
            with learner.narrowed():
                yield moved({name: value for name, value in batch.items() if name != KEPT}, learner.device)
            return
        inputs = {name: value.to(learner.device) for name, value in batch.items() if name != KEPT}
        narrowed = contextlib.nullcontext() if learner.reuse.cut.tail else learner.narrowed()  # it then does not run
        with narrowed, learner.reuse.standing_in(learner.model, moved({KEPT: kept}, learner.device)[KEPT], inputs):
            yield inputs


def summed_nats(logits: Tensor, targets: Tensor) -> Tensor:
    """Return the summed cross-entropy, a scalar in nats, exact to 1e-6 a target whatever the logits came in."""
    return cross_entropy.summed(logits, targets)

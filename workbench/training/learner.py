"""The learner: a model in training, with everything that a training step reads and writes.

It also scores batches, so that training and evaluation compute the loss in the same way. It takes no step itself, and
only modules of `training/` assign to its fields.
"""

import contextlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.optim import Optimizer

from workbench.models import Backbone, fingerprints, freezing, lora
from workbench.models.copy_on_write import later_copy
from workbench.plan.plan import Plan
from workbench.tasks import Task
from workbench.tasks.examples import Batch, Examples
from workbench.training.progress import Progress
from workbench.training.settings import Settings

if TYPE_CHECKING:
    from workbench.training.shortcut import Shortcut
    from workbench.training.tactics import Tactic


@dataclass
class Learner:
    """A model in training. `build` makes one.

    Attributes:
        backbone: The model, its preprocessor and its blocks.
        trainable: Names of the blocks that are trainable now.
        progress: Steps taken, the best step, and the rest of what a checkpoint keeps besides tensors.
        notes: Sentences for the user about the data and the plan.
        origin: Name -> value before training, of the model's own parameters that are or were trainable and of the
            buffers of their blocks.
        frozen: Name of every frozen parameter and buffer -> its hash, computed when it was frozen.
        metrics: `evaluate.Metric` objects that are computed besides the metrics of the task.
        tactics: One object of each kind of tactic.
        shortcuts: Objects that make steps cheaper.
        is_consistent: False while an optimizer step or a change of the plan is half done.
        training_norms: Norm layers whose running statistics a training step updates.
    """

    backbone: Backbone
    task: Task
    train: Examples
    validation: Examples
    plan: Plan
    trainable: tuple[str, ...]
    device: torch.device
    settings: Settings
    optimizer: Optimizer
    progress: Progress = field(default_factory=Progress)
    notes: tuple[str, ...] = ()
    origin: dict[str, Tensor] = field(default_factory=dict)
    frozen: dict[str, str] = field(default_factory=dict)
    metrics: tuple[Any, ...] = ()
    tactics: "Sequence[Tactic]" = ()
    shortcuts: "Sequence[Shortcut]" = ()
    is_consistent: bool = True
    training_norms: tuple[nn.Module, ...] = ()
    # plan, examples, and the steps of an epoch and of the run that were computed for these two
    _step_counts: tuple[Plan, Examples, int, int] | None = None
    _modes: list[tuple[nn.Module, bool]] | None = None  # each module, and whether a step uses it in training mode

    @property
    def model(self) -> nn.Module:
        """The model."""
        model: nn.Module = self.backbone.model
        return model

    @property
    def step(self) -> int:
        """Optimizer steps taken so far."""
        return self.progress.step

    @property
    def precision(self) -> str:
        """The number format of the arithmetic: fp32 | bf16."""
        return self.settings.precision

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps in one pass over the training examples."""
        return self._counts()[2]

    @property
    def steps(self) -> int:
        """Optimizer steps of the run in total."""
        return self._counts()[3]

    def _counts(self) -> tuple[Plan, Examples, int, int]:
        """Count the steps once per plan, because every step reads them several times."""
        known = self._step_counts
        if known is None or known[0] is not self.plan or known[1] is not self.train:
            per_epoch, steps = steps_per_epoch(self.plan, self.train), steps_in(self.plan, self.train)
            known = self._step_counts = (self.plan, self.train, per_epoch, steps)
        return known

    @property
    def steps_per_stage(self) -> int:
        """Optimizer steps for which the present blocks stay trainable, as far as that is known."""
        known = (tactic.steps_per_stage(self) for tactic in self.tactics)
        return min((steps for steps in known if steps is not None), default=self.steps)

    @property
    def evaluate_every(self) -> int:
        """Steps between two evaluations; by default so that a run has ten evaluations."""
        return self.plan.monitoring.evaluate_every or max(1, math.ceil(self.steps / 10))

    @property
    def is_due(self) -> bool:
        """Whether an evaluation is due before the next step: at the start, after every interval, and at the end."""
        is_time = self.step % self.evaluate_every == 0 or self.step == self.steps
        return is_time and self.step not in (self.progress.evaluated_step, self.progress.decided_step)

    @property
    def metric_names(self) -> tuple[str, ...]:
        """Names of the task's own metrics."""
        return tuple(self.task.metrics(0.0, (), ()))

    @property
    def trainable_parameters(self) -> dict[str, nn.Parameter]:
        """The parameters that are trainable now, by name."""
        return {name: parameter for name, parameter in self.model.named_parameters() if parameter.requires_grad}

    def batch(self, examples: Examples, indices: Sequence[int]) -> Batch:
        """Return these examples as one batch on the learner's device, from a shortcut if one has them ready."""
        for shortcut in self.shortcuts:
            if (ready := shortcut.batch(self, examples, indices)) is not None:
                return ready
        return self.settings.to_device(examples.batch(indices), self.device)

    def note_freezing(self, trained: Sequence[str] = ()) -> None:
        """Record which parameters are trainable and since when, their values before training, and hashes of the rest.

        A tensor that was frozen before keeps its hash from then.
        """
        progress, since = self.progress, self.progress.trainable_since
        progress.trainable_since = {name: since.get(name, self.step) for name in self.trainable_parameters}
        known = {*self.trainable, *progress.trained, *trained}
        progress.trained = tuple(block.name for block in self.backbone.blocks if block.name in known)
        for name, tensor in freezing.changeable(self.model, self.backbone.blocks, progress.trained).items():
            if name not in self.origin and not lora.is_adapter(name):
                self.origin[name] = later_copy(tensor)
        tensors = fingerprints.frozen_tensors(self.model, self.backbone.blocks, self.trainable)
        new = fingerprints.hashes({name: tensor for name, tensor in tensors.items() if name not in self.frozen})
        self.frozen = {name: self.frozen.get(name) or new[name] for name in tensors}

    def changed_frozen_tensors(self) -> tuple[str, ...]:
        """Return the names of the frozen tensors and buffers that have changed."""
        tensors = fingerprints.frozen_tensors(self.model, self.backbone.blocks, self.trainable)
        now = fingerprints.hashes(tensors)
        return tuple(name for name in self.frozen if now.get(name) != self.frozen[name])

    def add_notes(self, notes: Sequence[str]) -> None:
        """Add sentences for the user."""
        self.notes = (*self.notes, *notes)

    def invalidate(self) -> None:
        """Discard what was derived from the set of trainable blocks, because that has changed."""
        self._modes = None
        for shortcut in self.shortcuts:
            shortcut.invalidate()

    def enter_training(self) -> None:
        """Set training mode in trainable blocks and eval mode in frozen ones; a user may have changed the modes."""
        if self._modes is None:
            freezing.train_mode(self.model, self.backbone.blocks, self.trainable)
            self._modes = [(module, module.training) for module in self.model.modules()]
            self.training_norms = tuple(module for module, trains in self._modes if trains and _has_statistics(module))
        for module, is_training in self._modes:  # calling train() on all blocks in each step would take a millisecond
            if module.training is not is_training:  # reading the attribute is 30 times as fast as setting it
                module.training = is_training


def _has_statistics(module: nn.Module) -> bool:
    return isinstance(module, _NormBase) and module.track_running_stats


def steps_per_epoch(plan: Plan, examples: Examples) -> int:
    """Return the optimizer steps in one pass over these training examples."""
    return examples.steps_per_epoch(plan.tuning)


def steps_in(plan: Plan, examples: Examples) -> int:
    """Return the optimizer steps of a run over these training examples."""
    # 1e-9: in floating point 0.07 × 100 is above 7
    by_epochs = max(1, math.ceil(plan.tuning.epochs * steps_per_epoch(plan, examples) - 1e-9))
    return min(by_epochs, plan.tuning.max_steps or by_epochs)


def score(learner: Learner, batch: Batch) -> tuple[Tensor, Tensor]:
    """Return logits (targets, classes) and true classes (targets,), computed in the run's precision."""
    with _running(learner, batch) as inputs:
        return learner.task.score(learner.model, inputs)


def counted_nats(learner: Learner, batch: Batch) -> tuple[Tensor, int]:
    """Return the summed cross-entropy in nats, a scalar with a gradient, and the number of targets."""
    with _running(learner, batch) as inputs:
        return learner.task.nats(learner.model, inputs)


@contextlib.contextmanager
def _running(learner: Learner, batch: Batch) -> Iterator[Batch]:
    """Yield the model's inputs; within the block the run's precision and all shortcuts are active."""
    with learner.settings.autocast(learner.device), contextlib.ExitStack() as shortcuts:
        for shortcut in learner.shortcuts:
            batch = shortcuts.enter_context(shortcut.running(learner, batch))
        yield batch

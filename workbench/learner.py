"""A model on its way: the one object that a step reads and writes.

Holds how a batch is scored, so that training and measuring count the same nats. It takes no step itself.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer

from workbench import transfer, tuning
from workbench.baseline import Backbone
from workbench.choices import Plan
from workbench.errors import PlanError
from workbench.events import Event
from workbench.tasks import TABLE, Task
from workbench.tasks.examples import Batch, Examples


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
    """

    backbone: Backbone
    task: Task
    train: Examples
    validation: Examples
    plan: Plan
    trainable: tuple[str, ...]  # names of blocks
    device: torch.device
    precision: str  # fp32 | bf16
    optimizer: Optimizer
    notes: tuple[str, ...] = ()
    step: int = 0
    best_step: int | None = None
    best_loss: float = math.inf
    measured_step: int | None = None
    tactics: Sequence[Tactic] = field(default_factory=tuple)
    is_whole: bool = True  # False while the optimizer is half-way through its parameters
    _modes: list[tuple[nn.Module, bool]] | None = None  # each module, and whether it is in training mode in a step

    @property
    def model(self) -> nn.Module:
        """The model that learns."""
        model: nn.Module = self.backbone.model
        return model

    @property
    def windows_per_epoch(self) -> int:
        """Optimizer steps in one pass over the training examples."""
        batches = math.ceil(len(self.train) / self.plan.tuning.batch_size)
        return math.ceil(batches / self.plan.tuning.accumulation_steps)

    @property
    def steps(self) -> int:
        """Optimizer steps that the whole run takes."""
        exact = self.plan.tuning.epochs * self.windows_per_epoch
        by_epochs = max(1, math.ceil(exact - 1e-9))  # 0.07 × 100 is a hair above 7
        return min(by_epochs, self.plan.tuning.max_steps or by_epochs)

    @property
    def evaluate_every(self) -> int:
        """Steps between two evaluations; ten a run unless the plan says."""
        return self.plan.monitoring.evaluate_every or max(1, math.ceil(self.steps / 10))

    @property
    def is_due(self) -> bool:
        """Whether the model is to be measured before the next step: at the start, now and then, and at the end."""
        is_time = self.step % self.evaluate_every == 0 or self.step == self.steps
        return is_time and self.measured_step != self.step

    def enter_training(self) -> None:
        """Put trainable blocks into training mode and frozen ones into eval mode, whoever changed that since."""
        if self._modes is None:
            transfer.train_mode(self.model, self.backbone.blocks, self.trainable)
            self._modes = [(module, module.training) for module in self.model.modules()]
        for module, is_training in self._modes:  # walking the blocks at each step would cost a millisecond
            module.training = is_training


def build(backbone: Backbone, train: Examples, validation: Examples, plan: Plan) -> Learner:
    """Return a learner at step 0: blocks frozen, adapters in place, dropout set, model on its device.

    The model of `backbone` is changed in place.

    Raises:
        PlanError: The plan asks for a block, device or dropout that is not there, or there is nothing to learn from.
    """
    if not len(train) or not len(validation):
        raise PlanError(
            f"{len(train)} training and {len(validation)} validation examples; expected at least one each",
            hint="more rows, or texts of at least two tokens",
        )
    task, choice = TABLE[backbone.task], plan.tuning
    device = tuning.choose_device(choice.device)
    notes = (*backbone.notes, *train.notes, *adapt(backbone, plan))
    backbone.model.to(device)
    return Learner(
        backbone,
        task,
        train,
        validation.sample(plan.monitoring.evaluation_rows or task.evaluation_rows, seed=plan.data.split_seed),
        plan,
        transfer.resolve(backbone.blocks, plan.transfer),
        device,
        tuning.choose_precision(choice.precision, device, pays=task.prefers_bf16),
        tuning.build_optimizer(backbone.model, choice),
        notes,
    )


def adapt(backbone: Backbone, plan: Plan) -> tuple[str, ...]:
    """Freeze blocks, put adapters in and set the dropout, in place; return what the user should know of it.

    Raises:
        PlanError: The plan asks for a block that is not there, or nothing would learn.
    """
    transfer.apply(backbone.model, backbone.blocks, plan.transfer, seed=plan.tuning.seed)
    if (dropout := plan.tuning.dropout) is None:
        return ()
    trainable = transfer.resolve(backbone.blocks, plan.transfer)
    resting = tuple(f"{path}." for block in backbone.blocks if block.name not in trainable for path in block.modules)
    places = [place for place in tuning.set_dropout(backbone.model, dropout) if not f"{place}.".startswith(resting)]
    return () if places else (f"dropout {dropout:g} changes nothing: what learns has no place for it",)


def score(learner: Learner, batch: Batch) -> tuple[Tensor, Tensor]:
    """Return logits (targets, classes) and true classes (targets,) in the run's precision."""
    moved = {name: value.to(learner.device) for name, value in batch.items()}
    with torch.autocast(learner.device.type, torch.bfloat16, enabled=learner.precision == "bf16"):
        return learner.task.score(learner.model, moved)


def summed_nats(logits: Tensor, targets: Tensor) -> Tensor:
    """Return the summed cross-entropy, a scalar in nats, counted in fp32 whatever the logits came in."""
    return F.cross_entropy(logits.float(), targets, reduction="sum")

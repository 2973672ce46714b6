"""The peers: the default Hugging Face Trainer (`trainer`), and the Trainer with its best settings (`trainer-best`).

Each gets a copy of the same weights, with the same frozen blocks and adapters as ours, and the same rows, learning
rate, schedule, clipping and number of steps. `trainer` takes the rows in our order, which is as random as its own, so
that the loss curves can be compared step by step. `trainer-best`, the "tuned" Trainer, adds `group_by_length`, bf16 if
it is faster on this machine, and for images channels_last and pixels that are computed in advance.

Doubts are decided in favour of the peer: it evaluates, saves and logs nothing; torch pads its batches, which is faster
than the stock collator. Dropout is 0 on both sides. Frozen blocks with norm statistics stay in eval mode, so that the
statistics don't change. The clock starts when the Trainer begins to train and stops after its last step.
"""

import gc
import itertools
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import transformers as tf
from ours import Result
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import Dataset, Sampler

from workbench.models import Backbone, freezing
from workbench.plan.plan import Plan
from workbench.runs.preparation import Preparation
from workbench.tasks import cross_entropy
from workbench.tasks.examples import IGNORED, Examples
from workbench.training.build import adapt
from workbench.training.device import choose_device, has_bf16

Rows = Sequence[dict[str, Any]]


@dataclass(frozen=True)
class Setting:
    """The settings of a Trainer.

    Attributes:
        is_best: Whether to use its best settings instead of the defaults.
        precision: "fp32" or "bf16".
        epochs: The order of the rows in each epoch; by default the Trainer's own.
        last_step: The step after which to stop; by default the last step of the plan.
        is_exact: Whether to compute the loss in float64 like ours, which takes time.
    """

    is_best: bool = False
    precision: str = "fp32"
    epochs: Sequence[Sequence[int]] = field(default=(), repr=False)
    last_step: int | None = None
    is_exact: bool = False


def train(plan: Plan, preparation: Preparation, setting: Setting, *, rows: Rows | None = None) -> Result:
    """Train the plan with the Trainer and return the result.

    Args:
        plan: The plan; its batching and precision are replaced by those of the setting.
        preparation: Holds the rows, weights and examples.
        setting: The settings of the Trainer.
        rows: The result of `trainer_rows`, if it was computed before.
    """
    backbone = preparation.own_backbone(plan)
    adapt(backbone, plan)
    keep_frozen_norms(backbone, plan)
    if setting.is_best and backbone.task == "image-classification":
        backbone.model.to(memory_format=torch.channels_last)
    examples, _ = preparation.examples(plan)
    rows = trainer_rows(examples, backbone, is_best=setting.is_best) if rows is None else rows
    clock = Clock(setting.last_step)
    with tempfile.TemporaryDirectory(prefix="trainer-") as folder:
        trainer = Recording(
            backbone.model,
            tf.TrainingArguments(folder, **arguments(plan, setting, task=backbone.task)),
            data_collator=_collate(backbone),
            train_dataset=rows,
            callbacks=[clock],
        )
        trainer.remove_callback(tf.PrinterCallback)  # only the table is printed
        trainer.setting, trainer.losses, trainer.targets = setting, [], 0
        gc.collect()
        trainer.train()
    return Result(clock.seconds, [loss.item() for loss in trainer.losses], trainer.targets, backbone)


def arguments(plan: Plan, setting: Setting, *, task: str) -> dict[str, Any]:
    """Return the TrainingArguments."""
    choice = plan.tuning
    is_grouped = setting.is_best and task != "image-classification"
    return {
        **({"train_sampling_strategy": "group_by_length"} if is_grouped else {}),
        "save_strategy": "no",
        "logging_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "learning_rate": choice.learning_rate,
        "lr_scheduler_type": choice.schedule,
        "weight_decay": choice.weight_decay,
        "max_grad_norm": choice.clip_norm or 0.0,
        "per_device_train_batch_size": choice.batch_size,
        "num_train_epochs": choice.epochs,
        "max_steps": choice.max_steps or -1,
        "seed": choice.seed,
        "bf16": setting.precision == "bf16",
        "use_cpu": not torch.cuda.is_available(),
        "remove_unused_columns": False,
    }


def faster_precision(plan: Plan, preparation: Preparation, *, steps: int, rows: Rows | None = None) -> str:
    """Return "bf16" or "fp32", whichever is faster for the tuned Trainer on this machine; this also warms it up.

    bf16 is not tried on a processor that only emulates it, which is a hundred times slower.
    """
    taken: dict[str, float] = {}
    can_both = has_bf16(choose_device(plan.tuning.device))
    for precision in ("fp32", "bf16") * 2 if can_both else ("fp32",):
        setting = Setting(is_best=True, precision=precision, last_step=steps)
        seconds = train(plan, preparation, setting, rows=rows).seconds
        taken[precision] = min(seconds, taken.get(precision, seconds))
    return min(taken, key=taken.__getitem__)


class Recording(tf.Trainer):
    """A Trainer that takes the rows in a fixed order and stores the loss of each step in full precision."""

    setting: Setting
    losses: list[Tensor]
    targets: int

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        if self.setting.epochs:
            return Ordered(self.setting.epochs)
        return super()._get_train_sampler(train_dataset)

    def compute_loss(self, model: nn.Module, inputs: dict[str, Tensor], **options: Any) -> Tensor:
        """Return the Trainer's own loss, after storing it and the number of targets."""
        labels = inputs["labels"]
        self.targets += int((labels != IGNORED).sum())
        if not self.setting.is_exact:
            loss = super().compute_loss(model, inputs, **options)
            self.losses.append(loss.detach())
            return loss
        loss, outputs = super().compute_loss(model, inputs, return_outputs=True, **options)
        logits, labels = (outputs["logits"][:, :-1], labels[:, 1:]) if labels.ndim == 2 else (outputs["logits"], labels)
        is_target = labels != IGNORED
        self.losses.append(cross_entropy.summed(logits[is_target].detach(), labels[is_target]) / is_target.sum())
        return loss


class Clock(tf.TrainerCallback):
    """Measures the time from the beginning of training to the last step, and can stop the Trainer early."""

    def __init__(self, last_step: int | None = None) -> None:
        self.last_step, self.seconds = last_step, 0.0

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        """Start the clock."""
        self.seconds = -time.perf_counter()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Stop the training if this was the last step."""
        control.should_training_stop |= state.global_step == self.last_step

    def on_train_end(self, *_: Any, **__: Any) -> None:
        """Stop the clock."""
        self.seconds += time.perf_counter()


class Ordered(Sampler):
    """Samples the rows of each epoch in a given order."""

    def __init__(self, epochs: Sequence[Sequence[int]]) -> None:
        self._epochs, self._next = epochs, itertools.cycle(epochs)

    def __len__(self) -> int:
        return len(self._epochs[0])

    def __iter__(self) -> Iterator[int]:
        return iter(next(self._next))


class Pixels(Dataset):
    """Computes the pixels of an image each time it is accessed, like the usual `with_transform`."""

    def __init__(self, examples: Examples) -> None:
        self._examples = examples

    def __len__(self) -> int:
        return len(self._examples)

    def __getitem__(self, index: int) -> dict[str, Any]:
        batch = self._examples.batch([index])
        return {"pixel_values": batch["pixel_values"][0], "labels": batch["labels"][0]}


def trainer_rows(examples: Examples, backbone: Backbone, *, is_best: bool) -> Rows:
    """Return the rows in the form that the Trainer needs; with `is_best`, the pixels are computed in advance."""
    if backbone.task == "image-classification":
        pixels: Any = Pixels(examples)
        return [pixels[index] for index in range(len(pixels))] if is_best else pixels
    sequences = [torch.as_tensor(item[0]) for item in examples.items]
    return [
        {"input_ids": ids, "labels": torch.as_tensor(label)}
        for ids, label in zip(sequences, examples.labels, strict=True)
    ]


def _collate(backbone: Backbone) -> Callable[[Rows], dict[str, Tensor]]:
    def padded(rows: Rows) -> dict[str, Tensor]:
        columns = {name: [row[name] for row in rows] for name in rows[0]}
        labels = _stacked(columns.pop("labels"), IGNORED)
        if "pixel_values" in columns:
            return {"pixel_values": torch.stack(columns["pixel_values"]), "labels": labels}
        ids = _stacked(columns["input_ids"], backbone.preprocessor.pad_token_id)
        mask = _stacked([torch.ones_like(row) for row in columns["input_ids"]], 0)
        return {"input_ids": ids, "attention_mask": mask, "labels": labels}

    return padded


def _stacked(values: list[Tensor], padding: int) -> Tensor:
    return pad_sequence(values, batch_first=True, padding_value=padding) if values[0].ndim else torch.stack(values)


def keep_frozen_norms(backbone: Backbone, plan: Plan) -> None:
    """Make frozen blocks stay in eval mode when the Trainer calls `train()`, if the model has norm statistics."""
    model = backbone.model
    if not any(isinstance(module, _BatchNorm) for module in model.modules()):
        return
    freezing.train_mode(model, backbone.blocks, freezing.resolve(backbone.blocks, plan.transfer))
    modes = [(module, module.training) for module in model.modules()]

    def set_mode(mode: bool = True) -> nn.Module:
        for module, trains in modes:
            module.training = mode and trains
        return model

    model.train = set_mode

"""The peers: the Hugging Face Trainer as it comes (`trainer`), and as well as its own settings allow (`trainer-best`).

Each gets a copy of the same weights, frozen and adapted as ours, and the same rows, rate, schedule, clipping and number
of steps. `trainer` takes the rows in our order, which is as random as its own, so that the two loss curves can be laid
over each other. `trainer-best` adds `group_by_length`, bf16 where that is faster here, and for images pixels that were
made beforehand and channels_last.

Kind to the peer: nothing is evaluated, saved or logged; batches are padded by torch, which is cheaper than by the stock
collator; dropout is 0 on both sides; what is frozen stays in eval mode where norms have statistics, so that they rest.
The clock starts when the Trainer is set up and stops after its last step.
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
from ours import Finish
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import Dataset, Sampler

from workbench.models import Backbone, freezing
from workbench.plan.choices import Plan
from workbench.runs.preparation import Preparation
from workbench.tasks import cross_entropy
from workbench.tasks.examples import IGNORED, Examples
from workbench.training.build import adapt
from workbench.training.device import choose_device, has_bf16

Rows = Sequence[dict[str, Any]]


@dataclass(frozen=True)
class Setting:
    """How a Trainer is set.

    Attributes:
        is_best: Whether it is set as well as can be; by default it is as it comes.
        precision: "fp32" or "bf16".
        epochs: The order of the rows in each epoch; the Trainer's own if left out.
        last_step: After which step to leave off; the plan's last one if left out.
        is_exact: Whether to count the loss as ours is counted, in float64, which takes time.
    """

    is_best: bool = False
    precision: str = "fp32"
    epochs: Sequence[Sequence[int]] = field(default=(), repr=False)
    last_step: int | None = None
    is_exact: bool = False


def carry_out(plan: Plan, preparation: Preparation, setting: Setting, *, rows: Rows | None = None) -> Finish:
    """Train as the plan says with the Trainer, and return how it ended.

    Args:
        plan: The plan; its batching and precision are the setting's.
        preparation: What holds its rows, weights and examples.
        setting: How the Trainer is set.
        rows: The rows as the Trainer takes them, where they were made before.
    """
    backbone = preparation.own_backbone(plan)
    adapt(backbone, plan)
    rest_norms(backbone, plan)
    if setting.is_best and backbone.task == "image-classification":
        backbone.model.to(memory_format=torch.channels_last)
    examples, _ = preparation.examples(plan)
    rows = made(examples, backbone, is_best=setting.is_best) if rows is None else rows
    clock = Clock(setting.last_step)
    with tempfile.TemporaryDirectory(prefix="trainer-") as folder:
        trainer = Recording(
            backbone.model,
            tf.TrainingArguments(folder, **arguments(plan, setting, task=backbone.task)),
            data_collator=_collate(backbone),
            train_dataset=rows,
            callbacks=[clock],
        )
        trainer.remove_callback(tf.PrinterCallback)  # the table is what is to be read
        trainer.setting, trainer.losses, trainer.targets = setting, [], 0
        gc.collect()
        trainer.train()
    return Finish(clock.seconds, [loss.item() for loss in trainer.losses], trainer.targets, backbone)


def arguments(plan: Plan, setting: Setting, *, task: str) -> dict[str, Any]:
    """Return the arguments of the Trainer."""
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
    """Return "bf16" or "fp32", whichever takes the best-set Trainer less time here; this also warms it up.

    A processor that only emulates bf16, a hundred times slower, is not asked to.
    """
    taken: dict[str, float] = {}
    can_both = has_bf16(choose_device(plan.tuning.device))
    for precision in ("fp32", "bf16") * 2 if can_both else ("fp32",):
        setting = Setting(is_best=True, precision=precision, last_step=steps)
        seconds = carry_out(plan, preparation, setting, rows=rows).seconds
        taken[precision] = min(seconds, taken.get(precision, seconds))
    return min(taken, key=taken.__getitem__)


class Recording(tf.Trainer):
    """A Trainer that takes rows in a given order and notes each step's loss in full precision."""

    setting: Setting
    losses: list[Tensor]
    targets: int

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        if self.setting.epochs:
            return Ordered(self.setting.epochs)
        return super()._get_train_sampler(train_dataset)

    def compute_loss(self, model: nn.Module, inputs: dict[str, Tensor], **options: Any) -> Tensor:
        """Return the Trainer's own loss."""
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
    """Times a Trainer from when it is set up to its last step, and lets it leave off early."""

    def __init__(self, last_step: int | None = None) -> None:
        self.last_step, self.seconds = last_step, 0.0

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        """Start."""
        self.seconds = -time.perf_counter()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Ask to leave off if this was the step."""
        control.should_training_stop |= state.global_step == self.last_step

    def on_train_end(self, *_: Any, **__: Any) -> None:
        """Stop."""
        self.seconds += time.perf_counter()


class Ordered(Sampler):
    """Hands out the indices of one epoch after the other."""

    def __init__(self, epochs: Sequence[Sequence[int]]) -> None:
        self._epochs, self._next = epochs, itertools.cycle(epochs)

    def __len__(self) -> int:
        return len(self._epochs[0])

    def __iter__(self) -> Iterator[int]:
        return iter(next(self._next))


class Pixels(Dataset):
    """Images made into pixels whenever they are asked for, as a stock `with_transform` does."""

    def __init__(self, examples: Examples) -> None:
        self._examples = examples

    def __len__(self) -> int:
        return len(self._examples)

    def __getitem__(self, index: int) -> dict[str, Any]:
        batch = self._examples.batch([index])
        return {"pixel_values": batch["pixel_values"][0], "labels": batch["labels"][0]}


def made(examples: Examples, backbone: Backbone, *, is_best: bool) -> Rows:
    """Return the rows as the Trainer takes them."""
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


def rest_norms(backbone: Backbone, plan: Plan) -> None:
    """Let frozen blocks stay in eval mode when the Trainer calls `train()`, if norms with statistics are in them."""
    model = backbone.model
    if not any(isinstance(module, _BatchNorm) for module in model.modules()):
        return
    freezing.train_mode(model, backbone.blocks, freezing.resolve(backbone.blocks, plan.transfer))
    modes = [(module, module.training) for module in model.modules()]

    def train(mode: bool = True) -> nn.Module:
        for module, trains in modes:
            module.training = mode and trains
        return model

    model.train = train

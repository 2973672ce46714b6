"""Our side of a race: a complete run with `workbench.run`, in a temporary run folder.

The time is measured from the creation of the run folder to the last step. It includes copying, freezing and hashing the
backbone, filling the prefix cache, an evaluation of a few rows at the start, and each step with its line in the log.
The evaluation and the checkpoint after the last step are only in `total_seconds`, because the clock of the peers stops
at their last step too. Rows, original weights and encoded examples are loaded before the measurement, as for the peers.
The cached activations of earlier runs are deleted first.
"""

import contextlib
import dataclasses
import gc
import math
import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from workbench import run
from workbench.events import CacheReady, Event, RunStarted, StepEnded
from workbench.models import Backbone
from workbench.plan.plan import Plan
from workbench.runs.checkpoints import newest_valid, put_into
from workbench.runs.disk.run_folder import RunFolder
from workbench.runs.preparation import Preparation
from workbench.tasks import TABLE
from workbench.tasks.examples import Examples

NEVER = 10**9  # steps
PLAIN = {  # what both sides share: the defaults of the Trainer, and nothing that costs time besides training
    "schedule": "linear",
    "warmup_fraction": 0.0,
    "weight_decay": 0.0,
    "clip_norm": 1.0,
    "dropout": 0.0,
    "batch_size": 16,
    "epochs": 5,
    "evaluate_every": NEVER,
    "evaluation_rows": 16,
    "checkpoint_every": NEVER,
    "save_model": "none",
    "precision": "fp32",
    "batching": "shuffled",
}
EXACT = {"precision": "fp32", "batching": "shuffled"}
FAST = {"precision": "auto", "batching": "by length"}  # bf16 if a trial finds it faster


@dataclass(frozen=True)
class Result:
    """The result of a run.

    Attributes:
        seconds: Wall time to the end of the last step.
        losses: The loss of each step in nats per target, before the update.
        targets: The number of targets of all steps together.
        backbone: The trained backbone, if it was asked for.
        events: The events of our run; empty for a peer.
        total_seconds: Wall time with the last evaluation and checkpoint; 0.0 for a peer.
    """

    seconds: float
    losses: Sequence[float]
    targets: int
    backbone: Backbone | None = None
    events: Sequence[Event] = ()
    total_seconds: float = 0.0


@contextlib.contextmanager
def own_cache() -> Iterator[None]:
    """Within the block, keep activations and measured settings in a temporary folder, apart from those of the user.

    As for a user, the first run of a plan with settings "auto" measures them, and later runs reuse them.
    """
    names = ("FINETUNE_WORKBENCH_ACTIVATIONS", "FINETUNE_WORKBENCH_MEMORY")
    before = {name: os.environ[name] for name in names if name in os.environ}
    with tempfile.TemporaryDirectory(prefix="activations-") as folder:
        os.environ.update({name: str(Path(folder, name.lower())) for name in names})
        try:
            yield
        finally:
            clear_cache()
            for name in names:
                os.environ.pop(name)
            os.environ.update(before)


def clear_cache() -> None:
    """Delete all cached activations, in memory and on disk."""
    from workbench.speed.prefix_cache import store

    store.clear()


def run_plan(plan: Plan, preparation: Preparation, *, with_backbone: bool = False, fresh: bool = True) -> Result:
    """Run the plan and return its result.

    Args:
        plan: The plan.
        preparation: Holds the rows, weights and examples.
        with_backbone: Whether to return the trained backbone too. It is loaded from the last checkpoint, and the time
            for that is not measured.
        fresh: Whether to delete the cached activations of earlier runs first.
    """
    if fresh:
        clear_cache()
    preparation.examples(plan)
    gc.collect()
    with tempfile.TemporaryDirectory(prefix="runs-") as runs:
        events, seconds, start = [], 0.0, time.perf_counter()
        folder = RunFolder.create(preparation.label_objects(plan), runs)
        for event in run(folder=folder, preparation=preparation):
            events.append(event)
            seconds = time.perf_counter() - start if isinstance(event, StepEnded) else seconds
        total_seconds = time.perf_counter() - start
        backbone = _trained_backbone(folder.path, plan, preparation) if with_backbone else None
    steps = [event for event in events if isinstance(event, StepEnded)]
    targets = sum(event.targets for event in steps)
    return Result(seconds, [event.loss for event in steps], targets, backbone, events, total_seconds)


def _trained_backbone(folder: Path, plan: Plan, preparation: Preparation) -> Backbone:
    backbone, (checkpoint, _) = preparation.own_backbone(plan), newest_valid(folder / "checkpoints")
    put_into(backbone, checkpoint)
    return backbone


def row_orders(plan: Plan, preparation: Preparation) -> list[list[int]]:
    """Return, for each epoch, the indices of the training examples in the order of our run."""
    (examples, _), choice = preparation.examples(plan), plan.tuning
    return [
        [
            index
            for at in range(examples.steps_per_epoch(choice))
            for batch in examples.batches_of_step(choice, epoch, at)
            for index in batch
        ]
        for epoch in range(math.ceil(choice.epochs))
    ]


@torch.no_grad()
def accuracy(backbone: Backbone, examples: Examples, *, batch_size: int = 64) -> float:
    """Return the accuracy on held-out rows, in fp32 and eval mode."""
    backbone.model.eval()
    correct = 0
    for indices in examples.sorted_batches(batch_size):
        logits, targets = TABLE[backbone.task].score(backbone.model, examples.batch(indices))
        correct += int((logits.argmax(-1) == targets).sum())
    return correct / len(examples)


def loss_difference(ours: Result, theirs: Result) -> float:
    """Return the largest difference of two loss curves in nats per target, up to the end of the shorter one."""
    return max(abs(mine - other) for mine, other in zip(ours.losses, theirs.losses, strict=False))


def without_backbone(result: Result) -> Result:
    """Return the result without the backbone, which is large."""
    return dataclasses.replace(result, backbone=None)


def first_event(result: Result, kind: type[Event]) -> Any:
    """Return the first event of this kind, or None."""
    return next((event for event in result.events if isinstance(event, kind)), None)


def precision(result: Result) -> str:
    """Return the precision of our run."""
    started: RunStarted = first_event(result, RunStarted)
    return started.precision


def cache_fields(result: Result) -> dict[str, Any]:
    """Return the cost of the cache of the training examples as fields of a row; no fields if there was no cache."""
    ready = next((event for event in result.events if isinstance(event, CacheReady) and event.split == "train"), None)
    return {"fill_seconds": ready.seconds, "cache_mb": ready.size_bytes / 1e6, "place": ready.place} if ready else {}

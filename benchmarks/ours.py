"""Our side of a race: the whole product path, `workbench.runs.run`, in a run folder that is gone afterwards.

The clock runs from the making of the run folder to the last step: copying, freezing and hashing the backbone, filling
the prefix cache, an evaluation of a few rows at the start, each step and its line in the log. What follows, an
evaluation and the last checkpoint, is in `whole_seconds`: the peers' clock stops at their last step too. Rows, pristine
weights and encoded examples are loaded before, as they are for the peers. What an earlier run cached is thrown away
first.
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
from workbench.plan.choices import Plan
from workbench.runs.checkpoints import newest_valid, put_into
from workbench.runs.disk.run_folder import RunFolder
from workbench.runs.preparation import Preparation
from workbench.tasks import TABLE
from workbench.tasks.examples import Examples

NEVER = 10**9  # steps
PLAIN = {  # what both sides share: the Trainer's defaults, and nothing that costs time beside training
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
FAST = {"precision": "auto", "batching": "by length"}  # bf16 where a trial finds it faster


@dataclass(frozen=True)
class Finish:
    """How a run ended.

    Attributes:
        seconds: Wall time to the end of the last step.
        whole_seconds: Wall time to the very end, the last evaluation and checkpoint included; 0.0 for a peer.
        losses: Nats per target of each step, before it.
        targets: Targets of all steps together.
        backbone: What was learnt.
        events: What was told, where the run was ours.
    """

    seconds: float
    losses: Sequence[float]
    targets: int
    backbone: Backbone | None = None
    events: Sequence[Event] = ()
    whole_seconds: float = 0.0


@contextlib.contextmanager
def own_cache() -> Iterator[None]:
    """Keep activations and measured settings in a temporary folder within the block, away from those of the user.

    Settings that a plan leaves to measurement are measured in the first run and known from then on, as for a user.
    """
    names = ("FINETUNE_WORKBENCH_ACTIVATIONS", "FINETUNE_WORKBENCH_MEMORY")
    before = {name: os.environ[name] for name in names if name in os.environ}
    with tempfile.TemporaryDirectory(prefix="activations-") as folder:
        os.environ.update({name: str(Path(folder, name.lower())) for name in names})
        try:
            yield
        finally:
            forget()
            for name in names:
                os.environ.pop(name)
            os.environ.update(before)


def forget() -> None:
    """Throw away every activation that is kept, in memory and on disk."""
    from workbench.speed.prefix_cache import store

    store.clear()


def carry_out(plan: Plan, preparation: Preparation, *, learnt: bool = False, fresh: bool = True) -> Finish:
    """Carry the plan out and return how it ended.

    Args:
        plan: The plan.
        preparation: What holds its rows, weights and examples.
        learnt: Whether to return what was learnt as well; read back from the last checkpoint, outside the clock.
        fresh: Whether no activation of an earlier run may be used.
    """
    if fresh:
        forget()
    preparation.examples(plan)
    gc.collect()
    with tempfile.TemporaryDirectory(prefix="runs-") as runs:
        events, seconds, begun = [], 0.0, time.perf_counter()
        folder = RunFolder.create(preparation.label_objects(plan), runs)
        for event in run(folder=folder, preparation=preparation):
            events.append(event)
            seconds = time.perf_counter() - begun if isinstance(event, StepEnded) else seconds
        whole_seconds = time.perf_counter() - begun
        backbone = _read_back(folder.path, plan, preparation) if learnt else None
    steps = [event for event in events if isinstance(event, StepEnded)]
    targets = sum(event.targets for event in steps)
    return Finish(seconds, [event.loss for event in steps], targets, backbone, events, whole_seconds)


def _read_back(folder: Path, plan: Plan, preparation: Preparation) -> Backbone:
    backbone, (checkpoint, _) = preparation.own_backbone(plan), newest_valid(folder / "checkpoints")
    put_into(backbone, checkpoint)
    return backbone


def orders(plan: Plan, preparation: Preparation) -> list[list[int]]:
    """Return the training examples in the order in which our run takes them, epoch by epoch."""
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
    """Return the share of held-out rows named rightly, in fp32 and eval mode."""
    backbone.model.eval()
    right = 0
    for indices in examples.sorted_batches(batch_size):
        logits, targets = TABLE[backbone.task].score(backbone.model, examples.batch(indices))
        right += int((logits.argmax(-1) == targets).sum())
    return right / len(examples)


def difference(ours: Finish, theirs: Finish) -> float:
    """Return the largest difference between two loss curves, in nats per target, as far as the shorter one goes."""
    return max(abs(mine - other) for mine, other in zip(ours.losses, theirs.losses, strict=False))


def without(finish: Finish) -> Finish:
    """Return the finish without the weights, which are large."""
    return dataclasses.replace(finish, backbone=None)


def found(finish: Finish, kind: type[Event]) -> Any:
    """Return the first event of a kind that our run told, or nothing."""
    return next((event for event in finish.events if isinstance(event, kind)), None)


def precision(finish: Finish) -> str:
    """Return in which precision our run computed."""
    started: RunStarted = found(finish, RunStarted)
    return started.precision


def cached(finish: Finish) -> dict[str, Any]:
    """Return what the cache of the training examples took and takes, as fields of a row; none if there was none."""
    ready = next((event for event in finish.events if isinstance(event, CacheReady) and event.split == "train"), None)
    return {"fill_seconds": ready.seconds, "cache_mb": ready.size_bytes / 1e6, "place": ready.place} if ready else {}

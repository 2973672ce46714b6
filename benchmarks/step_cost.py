"""What does a step cost beyond its arithmetic? A head on a small frozen encoder, where what surrounds it shows most.

Claim: batches, seeds, modes, clipping, the log, wishes and checkpoints take less than 0.5 ms a step together.
`own cost` is the time from one StepEnded of `wb.run` to the next, less that of the bare step: forward, backward,
optimizer, the same batch again and again. `own cost cached` is the same with the prefix cache, whose bare step is that
of the head on ready features. The peer is the bare step, so here a ratio near 1 is the aim.
"""

import functools
import itertools
import statistics
import tempfile
import time
from pathlib import Path

import form
import torch
import transformers as tf
from torch.nn import functional as F

from workbench.events import StepEnded
from workbench.models import Backbone, blocks
from workbench.plan.choices import Plan
from workbench.runs.build import make_learner
from workbench.runs.preparation import Preparation
from workbench.runs.run import run
from workbench.tasks.examples import Examples
from workbench.training.learner import Learner
from workbench.training.optimizer import build_optimizer

SHAPE = {"hidden_size": 16, "num_hidden_layers": 6, "num_attention_heads": 2, "intermediate_size": 32}
PLAN = Plan().change(
    trainable="head", batch_size=8, precision="fp32", device="cpu", dropout=0.0, epochs=1000, evaluate_every=10**6,
    save_model="none",
)  # fmt: skip


class Ready(Preparation):
    """A preparation that has made everything up: no file is read and nothing is loaded."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        model = tf.BertForSequenceClassification(tf.BertConfig(**SHAPE, vocab_size=100))
        self.made = Backbone("tiny", model, None, "text-classification", blocks.find(model))
        rows = torch.randint(0, 100, (64, 16), generator=torch.Generator().manual_seed(0))
        items = [(row, int(row.sum()) % 2) for row in rows]
        self.rows = Examples(items, [16] * len(items), [label for _, label in items], collate)

    def split(self, plan: Plan) -> "Ready":
        """Return what has a fingerprint."""
        return self

    @property
    def fingerprint(self) -> str:
        """What the run folder notes of the data."""
        return "made up"

    def backbone(self, plan: Plan) -> Backbone:
        """Return the tiny encoder."""
        return self.made

    def examples(self, plan: Plan) -> tuple[Examples, Examples]:
        """Return the made-up rows, to learn from and to measure on."""
        return self.rows, self.rows


def collate(picked: list) -> dict:
    ids, labels = zip(*picked, strict=True)
    return {"input_ids": torch.stack(ids), "labels": torch.tensor(labels)}


def ours(steps: int, *, cache: str) -> float:
    """Return the median seconds from one step of a whole run to the next."""
    plan = PLAN.change(max_steps=steps, prefix_cache=cache)
    with tempfile.TemporaryDirectory(prefix="step-cost-") as runs:
        story = run(plan, preparation=Ready(), runs=Path(runs))
        ended = [time.perf_counter() for event in story if isinstance(event, StepEnded)]
    return statistics.median(after - before for before, after in itertools.pairwise(ended))


def bare(steps: int, *, cache: str) -> float:
    """Return the median seconds of forward, backward and optimizer alone; with the cache, of the head alone."""
    ready = Ready()
    made: Learner = make_learner(ready.own_backbone(PLAN), ready.rows, ready.rows, PLAN)
    optimizer, batch = build_optimizer(made.model, PLAN.tuning), ready.rows.batch(range(PLAN.tuning.batch_size))
    made.enter_training()
    with torch.no_grad():
        features = made.model.bert(input_ids=batch["input_ids"]).last_hidden_state  # (batch, time, width)

    def logits() -> torch.Tensor:
        if cache == "off":
            return made.model(input_ids=batch["input_ids"]).logits
        return made.model.classifier(made.model.dropout(made.model.bert.pooler(features)))

    taken = []
    for _ in range(steps):
        begun = time.perf_counter()
        optimizer.zero_grad()
        F.cross_entropy(logits(), batch["labels"]).backward()
        optimizer.step()
        taken.append(time.perf_counter() - begun)
    return statistics.median(taken)


def main() -> None:
    asked = form.arguments(__doc__)
    steps, repetitions = (100, 3) if asked.quick else (1000, 7)
    torch.set_num_threads(1)  # there is nothing to share out
    rows = []
    for case, cache in (("own cost", "off"), ("own cost cached", "auto")):
        taken = [functools.partial(measure, steps, cache=cache) for measure in (ours, bare)]
        seconds = form.alternate(*taken, repetitions=repetitions)
        cost = 1000 * (seconds[0] - seconds[1])
        rows.append(form.row(case, "bare step", seconds, repetitions=repetitions, ms_a_step=cost))
    form.report("step_cost", rows, as_json=asked.json)


if __name__ == "__main__":
    main()

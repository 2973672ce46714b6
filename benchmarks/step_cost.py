"""How much overhead does a step have? Measures the head of a small frozen encoder, where overhead shows most.

Claim: batching, seeding, train and eval modes, clipping, the log, requests and checkpoints together take less than
0.5 ms per step. `own cost` is the time from one StepEnded of `wb.run` to the next, minus the time of the bare step:
forward, backward and optimizer on the same batch each time. `own cost cached` is the same with the prefix cache; its
bare step runs only the head on ready features. The peer is the bare step, so a ratio close to 1 is good.
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
from workbench.plan.plan import Plan
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
    """Prepares random rows and a random model; nothing is read or loaded."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        model = tf.BertForSequenceClassification(tf.BertConfig(**SHAPE, vocab_size=100))
        self.made = Backbone("tiny", model, None, "text-classification", blocks.find(model))
        rows = torch.randint(0, 100, (64, 16), generator=torch.Generator().manual_seed(0))
        items = [(row, int(row.sum()) % 2) for row in rows]
        self.rows = Examples(items, [16] * len(items), [label for _, label in items], collate)

    def split(self, plan: Plan) -> "Ready":
        """Return something that has a fingerprint, which is all that the run needs."""
        return self

    @property
    def fingerprint(self) -> str:
        """The fingerprint of the data, which the run folder stores."""
        return "random"

    def backbone(self, plan: Plan) -> Backbone:
        """Return the tiny encoder."""
        return self.made

    def examples(self, plan: Plan) -> tuple[Examples, Examples]:
        """Return the same rows for training and validation."""
        return self.rows, self.rows


def collate(picked: list) -> dict:
    ids, labels = zip(*picked, strict=True)
    return {"input_ids": torch.stack(ids), "labels": torch.tensor(labels)}


def ours(steps: int, *, cache: str) -> float:
    """Return the median seconds from one step of a run to the next."""
    plan = PLAN.change(max_steps=steps, prefix_cache=cache)
    with tempfile.TemporaryDirectory(prefix="step-cost-") as runs:
        events = run(plan, preparation=Ready(), runs=Path(runs))
        ended = [time.perf_counter() for event in events if isinstance(event, StepEnded)]
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
        start = time.perf_counter()
        optimizer.zero_grad()
        F.cross_entropy(logits(), batch["labels"]).backward()
        optimizer.step()
        taken.append(time.perf_counter() - start)
    return statistics.median(taken)


def main() -> None:
    options = form.arguments(__doc__)
    steps, repetitions = (30, 2) if options.quick else (1000, 7)
    torch.set_num_threads(1)  # the model is too small for several threads
    rows = []
    for case, cache in (("own cost", "off"), ("own cost cached", "auto")):
        taken = [functools.partial(measure, steps, cache=cache) for measure in (ours, bare)]
        seconds = form.alternate(*taken, repetitions=repetitions)
        cost = 1000 * (seconds[0] - seconds[1])
        rows.append(form.row(case, "bare step", seconds, repetitions=repetitions, ms_per_step=cost))
    form.report("step_cost", rows, as_json=options.json)


if __name__ == "__main__":
    main()

"""Is our training loop as fast as Accelerate? Compares the step of a tiny encoder, where overhead shows most.

Claim: the step of the engine is not slower than the same step written with Accelerate. Model, batches, optimizer and
clipping are the same, and the losses must agree.
"""

import time

import form
import torch
import transformers as tf
from accelerate import Accelerator
from torch.nn import functional as F

from workbench.models import Backbone, blocks
from workbench.plan.plan import Plan
from workbench.runs.build import make_learner
from workbench.tasks.examples import Examples
from workbench.training import engine
from workbench.training.learner import Learner
from workbench.training.optimizer import build_optimizer
from workbench.training.schedule import learning_rate
from workbench.training.step import planned_batches

PLAN = Plan().change(trainable="all", batch_size=8, precision="fp32", device="cpu", dropout=0.0, schedule="constant")
SHAPE = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}


def learner(steps: int) -> Learner:
    torch.manual_seed(0)
    model = tf.BertForSequenceClassification(tf.BertConfig(**SHAPE, vocab_size=100))
    rows = torch.randint(0, 100, (64, 16), generator=torch.Generator().manual_seed(0))
    items = [(row, int(row.sum()) % 2) for row in rows]

    def collate(picked: list) -> dict:
        ids, labels = zip(*picked, strict=True)
        return {"input_ids": torch.stack(ids), "labels": torch.tensor(labels)}

    examples = Examples(items, [16] * len(items), [label for _, label in items], collate)
    backbone = Backbone("tiny", model, None, "text-classification", blocks.find(model))
    return make_learner(backbone, examples, examples, PLAN.change(max_steps=steps, epochs=1000))


def ours(steps: int) -> tuple[float, float]:
    made = learner(steps)
    engine.take_step(made)
    start = time.perf_counter()
    for _ in range(steps - 1):
        loss = engine.take_step(made).loss
    return time.perf_counter() - start, loss


def accelerated(steps: int) -> tuple[float, float]:
    made = learner(steps)
    accelerator = Accelerator(cpu=True)
    model, optimizer = accelerator.prepare(made.model, build_optimizer(made.model, PLAN.tuning))
    model.train()
    start = 0.0
    for number in range(steps):
        start = time.perf_counter() if number == 1 else start  # the first step is the warm-up
        examples, indices = planned_batches(made)[0]
        batch = examples.batch(indices)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(number, steps, made.plan.tuning)
        optimizer.zero_grad()
        loss = F.cross_entropy(model(input_ids=batch["input_ids"]).logits, batch["labels"])
        accelerator.backward(loss)
        accelerator.clip_grad_norm_(model.parameters(), PLAN.tuning.clip_norm)
        optimizer.step()
        made.progress.step += 1
    return time.perf_counter() - start, loss.item()


def main() -> None:
    options = form.arguments(__doc__)
    steps, repetitions = (50, 3) if options.quick else (300, 7)
    seconds = form.alternate(lambda: ours(steps)[0], lambda: accelerated(steps)[0], repetitions=repetitions)
    difference = abs(ours(steps)[1] - accelerated(steps)[1])
    per_step = 1000 * seconds[0] / (steps - 1)
    row = form.row(
        "step", "accelerate", seconds, repetitions=repetitions, ms_per_step=per_step, loss_difference=difference
    )
    form.report("small_steps", [row], as_json=options.json)


if __name__ == "__main__":
    main()

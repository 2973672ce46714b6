"""A learner of a tiny model, ready for its first step."""

import tiny

from workbench.plan.choices import Data
from workbench.plan.plan import Plan
from workbench.runs import build
from workbench.tasks import TABLE

PLAN = Plan().change(trainable="all", batch_size=8, max_steps=4, epochs=10, precision="fp32", evaluate_every=2)


def make(kind="bert", plan=PLAN, count=40, **options):
    backbone = tiny.backbone(kind, **options)
    task = TABLE[backbone.task]
    train = task.encode(tiny.rows(kind, count), backbone, Data(max_length=10))
    validation = task.encode(tiny.rows(kind, 13), backbone, Data(max_length=10))
    return build.make_learner(backbone, train, validation, plan)


def weights(model):
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}

"""Which architectures work with the prefix cache? Compares the loss curves with and without it.

Claim: for at least 25 model families, the loss of every step differs by at most 1e-5 nats per target, with dropout in
the trainable blocks. A model that can't be cached is reported with the reason, and trains without the cache.

The cases are every architecture of `tests/architectures.py` (tiny, random weights, dropout on) and the three packs with
their real weights. Each is cut below the head, below the last block and below the upper half of the blocks. `ratio` is
the time without the cache divided by the time with it; for tiny models with a few rows it means nothing. The plain
torch models of those tests are left out, because a run does not accept them.
"""

import sys
from collections.abc import Iterator
from pathlib import Path

import form
import ours
import synthetic
from ours import Result
from synthetic import Synthetic

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

import architectures as tiny  # tests/architectures.py; this script itself is __main__

from workbench.events import CacheRefused
from workbench.models import Backbone, blocks
from workbench.plan.choices import TaskName
from workbench.plan.plan import Plan
from workbench.runs.preparation import Preparation

ROWS = 12
LENGTHS = [3 + index % 8 for index in range(ROWS)]  # tokens
TOLERANCE = 1e-5  # nats per target
PLAN = Plan().change(
    **{**ours.PLAIN, "batch_size": 4, "epochs": 2, "dropout": None, "backbone": "object", "source": "table"}
)
QUICK = ("albert", "bert", "gpt2", "llama-tied lm", "t5", "vit", "resnet-basic", "efficientnet-lite")
PACKS = {
    "minilm-l6": {"source": "sentiment:movies", "max_length": 16},
    "smollm2-135m": {"source": "everyday-chat", "max_rows": 10, "max_length": 64, "epochs": 1},
    "efficientnet-lite0": {"source": "fashion-mnist"},
}


def names() -> list[str]:
    """Return the names of the tiny architectures that a run accepts."""
    return [*tiny.CLASSIFIERS, *(f"{name} lm" for name in tiny.DECODERS)]


def prepare(name: str) -> Preparation:
    """Return a tiny architecture with random rows of its task."""
    model, _ = tiny.make(name)
    config = model.config
    if model.main_input_name == "pixel_values":
        side = getattr(config, "image_size", 32)
        backbone = Backbone(name, model, synthetic.image_processor(side), "image-classification", blocks.find(model))
        return Synthetic(
            backbone, synthetic.images(ROWS, side=side), synthetic.images(4, side=side), name=name, classes=3
        )
    task: TaskName = "language-modeling" if name.endswith(" lm") else "text-classification"
    words = synthetic.tokenizer(60, padding=config.pad_token_id)
    backbone = Backbone(name, model, words, task, blocks.find(model))
    rows = synthetic.texts(LENGTHS, words=(3, 60), last=2)  # T5 and BART read the position of the end token
    return Synthetic(backbone, rows, rows[:4], name=name, classes=3)


def boundaries(backbone: Backbone) -> list[str]:
    """Return the choices of `trainable`: the head, the last block, and the upper half of the blocks."""
    count = sum(block.kind == "block" for block in backbone.blocks)
    return ["head", *dict.fromkeys(f"last {number}" for number in (1, (count + 1) // 2))]


def compare(name: str, plan: Plan, preparation: Preparation) -> form.Row:
    """Return the row of one architecture: every boundary with the cache and without."""
    backbone = preparation.backbone(plan)
    cached, refused, differences, seconds = [], {}, [], [0.0, 0.0]
    for trainable in boundaries(backbone):
        chosen = plan.change(trainable=trainable)
        with_cache = ours.run_plan(chosen, preparation)
        without_cache = ours.run_plan(chosen.change(prefix_cache="off"), preparation)
        seconds = [seconds[0] + with_cache.seconds, seconds[1] + without_cache.seconds]
        differences.append(ours.loss_difference(with_cache, without_cache))
        if reason := refusal(with_cache):
            refused.setdefault(reason, []).append(trainable)
        else:
            cached.append(trainable)
    return form.row(
        name,
        "uncached",
        (seconds[0], seconds[1]),
        repetitions=1,
        family=backbone.model.config.model_type,
        loss_difference=max(differences),
        cached=", ".join(cached),
        refused="; ".join(f"{', '.join(where)}: {reason}" for reason, where in refused.items()),
    )


def refusal(result: Result) -> str:
    """Return why the run did not use the cache, or "" if it did."""
    if ours.cache_fields(result):
        return ""
    refused = ours.first_event(result, CacheRefused)
    return refused.what if refused else "no reason given"


def rows(*, is_quick: bool) -> Iterator[form.Row]:
    """Yield the row of each architecture."""
    for name in QUICK if is_quick else names():
        yield compare(name, PLAN, prepare(name))
    for name, changes in list(PACKS.items())[: 1 if is_quick else None]:
        plan = PLAN.change(
            **{"backbone": name, "max_rows": 20, "validation_fraction": 0.2, "test_fraction": 0.3, **changes}
        )
        yield compare(name, plan, Preparation())


def main() -> None:
    options = form.arguments(__doc__)
    with ours.own_cache():
        found = list(rows(is_quick=options.quick))
    form.report("architectures", found, as_json=options.json)
    families = {row["family"] for row in found if row["cached"] and row["loss_difference"] <= TOLERANCE}
    if not options.json:
        print(f"{len(families)} families are cached with a loss difference of at most {TOLERANCE} nats per target")


if __name__ == "__main__":
    main()

"""Which architectures the prefix cache holds for: the loss curve with it against that without, or why it is refused.

Claim: for at least 25 families the loss of every step is equal to 1e-5 nats per target, dropout in the blocks that
learn included; whatever can't be cached is refused with its reason and trains all the same.

Every architecture of `tests/architectures.py` (tiny, random, dropout on) and the three packs with their real weights,
each cut below the head, the last block and the upper half. `ratio` is the time without the cache over the time with it:
of tiny models with a few rows it tells nothing. Left out: the plain torch models of those tests, which no run takes.
"""

import sys
from collections.abc import Iterator
from pathlib import Path

import form
import given
import ours
from given import Given
from ours import Finish

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

import architectures as tiny  # the module of the tests; this script is __main__

from workbench.events import CacheRefused
from workbench.models import Backbone, blocks
from workbench.plan.choices import Plan, TaskName
from workbench.runs.preparation import Preparation

ROWS = 12
LENGTHS = [3 + index % 8 for index in range(ROWS)]  # tokens
ENOUGH = 1e-5  # nats per target
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
    """Return the names of the tiny architectures that a run takes."""
    return [*tiny.CLASSIFIERS, *(f"{name} lm" for name in tiny.DECODERS)]


def made(name: str) -> Preparation:
    """Return a tiny architecture with random rows that suit it."""
    model, _ = tiny.make(name)
    config = model.config
    if model.main_input_name == "pixel_values":
        side = getattr(config, "image_size", 32)
        backbone = Backbone(name, model, given.image_processor(side), "image-classification", blocks.find(model))
        return Given(backbone, given.images(ROWS, side=side), given.images(4, side=side), name=name, classes=3)
    task: TaskName = "language-modeling" if name.endswith(" lm") else "text-classification"
    words = given.tokenizer(60, padding=config.pad_token_id)
    backbone = Backbone(name, model, words, task, blocks.find(model))
    rows = given.texts(LENGTHS, words=(3, 60), last=2)  # T5 and BART read the place of the end of the text
    return Given(backbone, rows, rows[:4], name=name, classes=3)


def boundaries(backbone: Backbone) -> list[str]:
    """Return what to let learn: the head, one block, and the upper half."""
    count = sum(block.kind == "block" for block in backbone.blocks)
    return ["head", *dict.fromkeys(f"last {number}" for number in (1, (count + 1) // 2))]


def compared(name: str, plan: Plan, preparation: Preparation) -> form.Row:
    """Return the line of one architecture: every boundary with the cache and without."""
    backbone = preparation.backbone(plan)
    held, refused, differences, seconds = [], {}, [], [0.0, 0.0]
    for trainable in boundaries(backbone):
        chosen = plan.change(trainable=trainable)
        mine = ours.carry_out(chosen, preparation)
        theirs = ours.carry_out(chosen.change(prefix_cache="off"), preparation)
        seconds = [seconds[0] + mine.seconds, seconds[1] + theirs.seconds]
        differences.append(ours.difference(mine, theirs))
        if reason := why(mine):
            refused.setdefault(reason, []).append(trainable)
        else:
            held.append(trainable)
    return form.row(
        name,
        "uncached",
        (seconds[0], seconds[1]),
        repetitions=1,
        family=backbone.model.config.model_type,
        loss_difference=max(differences),
        held=", ".join(held),
        refused="; ".join(f"{', '.join(where)}: {reason}" for reason, where in refused.items()),
    )


def why(finish: Finish) -> str:
    """Return why the steps of a run went without the cache; nothing if they had it."""
    if ours.cached(finish):
        return ""
    refusal = ours.found(finish, CacheRefused)
    return refusal.what if refusal else "no reason given"


def lines(*, is_quick: bool) -> Iterator[form.Row]:
    """Yield the line of each architecture."""
    for name in QUICK if is_quick else names():
        yield compared(name, PLAN, made(name))
    for name, changes in list(PACKS.items())[: 1 if is_quick else None]:
        plan = PLAN.change(
            **{"backbone": name, "max_rows": 20, "validation_fraction": 0.2, "test_fraction": 0.3, **changes}
        )
        yield compared(name, plan, Preparation())


def main() -> None:
    asked = form.arguments(__doc__)
    with ours.own_cache():
        found = list(lines(is_quick=asked.quick))
    form.report("architectures", found, as_json=asked.json)
    families = {line["family"] for line in found if line["held"] and line["loss_difference"] <= ENOUGH}
    if not asked.json:
        print(f"{len(families)} families held, to {ENOUGH} nats per target")


if __name__ == "__main__":
    main()

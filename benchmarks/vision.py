"""An image model: EfficientNet-Lite0 at 224 pixels on Fashion-MNIST, five epochs, the fill of the cache included.

Claim: head only is at least 5 times as fast as the Trainer as it comes, and the last two stages (its last 5 of 16
blocks) twice. Held-out accuracy stays within what the seed moves.

The Trainer as it comes makes pixels of images whenever a batch needs them, as `with_transform` does; the best-set one
has them made beforehand, outside the clock, and runs channels_last. Ours makes them inside the clock. Frozen norms rest
on all sides (in the stock Trainer they would move), and no block is skipped at random, so that loss curves can be laid
over each other.
"""

import form
import ours
from races import Race

from workbench.baseline import Backbone
from workbench.choices import Plan
from workbench.preparation import Preparation

SEEDS, REPETITIONS = 3, 5
TRAIN, HELD_OUT = 192, 200  # rows
PLAN = Plan().change(backbone="efficientnet-lite0", source="fashion-mnist", test_fraction=0.0, **ours.PLAIN)
CASES = {
    "head": {"trainable": "head", "learning_rate": 1e-2},
    "last 2 stages": {"trainable": "last 5", "learning_rate": 1e-3},
}
VARIANTS = {"exact": ours.EXACT, "auto": {"precision": "auto", "batching": "by length"}}


class Prepared(Preparation):
    """No block is skipped at random, on any side."""

    def backbone(self, plan: Plan) -> Backbone:
        """Return the backbone without stochastic depth."""
        backbone = super().backbone(plan)
        for module in backbone.model.modules():
            if hasattr(module, "drop_rate"):
                module.drop_rate = 0.0
        return backbone


def plan_of(case: str, *, is_quick: bool) -> Plan:
    """Return what all sides do in this case."""
    train, held_out = (16, 10) if is_quick else (TRAIN, HELD_OUT)
    rows = {"max_rows": train + held_out, "validation_fraction": held_out / (train + held_out)}
    plan = PLAN.change(**CASES[case], **rows)
    return plan.change(epochs=2) if is_quick else plan


def main() -> None:
    asked = form.arguments(__doc__)
    repetitions, seeds, warm_steps = (1, 1, 1) if asked.quick else (REPETITIONS, SEEDS, 3)
    prepared, found = [Prepared() for _ in range(seeds)], []
    with ours.own_cache():
        for name in CASES:
            plan = plan_of(name, is_quick=asked.quick)
            race = Race(name, plan, prepared, variants=VARIANTS, warm_steps=warm_steps)
            found += race.run(repetitions=repetitions)
    form.report("vision", found, as_json=asked.json)


if __name__ == "__main__":
    main()

"""Fine-tunes an image model: EfficientNet-Lite0 at 224 pixels on Fashion-MNIST, whole runs with the fill of the cache.

Claim: with only the head trainable, a run of five epochs is at least 5 times as fast as the default Trainer; with the
last two stages trainable (its last 5 of 16 blocks), twice as fast. The held-out accuracy differs by no more than it
does between seeds.

The default Trainer computes the pixels of an image each time a batch needs it, like `with_transform`. The tuned Trainer
has them computed in advance, which is not timed, and runs channels_last. For ours, computing pixels is timed. On all
sides the statistics of frozen norms don't change (in the stock Trainer they would) and stochastic depth is off, so that
loss curves are comparable. Ours runs channels_last if that is measured to be faster, and so sums in another order than
`trainer`. The first steps of AdamW amplify such differences, because their length is the learning rate whatever the
gradient. `cache_loss_difference` is the difference that the cache alone makes.
"""

import form
import ours
from races import Race

from workbench.models import Backbone
from workbench.plan.plan import Plan
from workbench.runs.preparation import Preparation

SEEDS, REPETITIONS = 3, 5
HELD_OUT = 200  # rows
PLAN = Plan().change(backbone="efficientnet-lite0", source="fashion-mnist", test_fraction=0.0, **ours.PLAIN)
CASES = {  # name -> (number of training rows, changes of the plan)
    "head": (256, {"trainable": "head", "learning_rate": 1e-3}),
    "last 2 stages": (160, {"trainable": "last 5", "learning_rate": 3e-4}),
}
VARIANTS = {"exact": ours.EXACT, "auto": {"precision": "auto", "batching": "by length"}}


class Prepared(Preparation):
    """Prepares the backbone without stochastic depth, for all sides."""

    def backbone(self, plan: Plan) -> Backbone:
        """Return the backbone without stochastic depth."""
        backbone = super().backbone(plan)
        for module in backbone.model.modules():
            if hasattr(module, "drop_rate"):
                module.drop_rate = 0.0
        return backbone


def plan_of(case: str, *, is_quick: bool) -> Plan:
    """Return the plan of this case, for all sides."""
    rows, choices = CASES[case]
    train, held_out = (20, 10) if is_quick else (rows, min(HELD_OUT, rows))
    share = held_out / (train + held_out)
    plan = PLAN.change(max_rows=train + held_out, validation_fraction=share, **choices)
    return plan.change(epochs=2) if is_quick else plan


def main() -> None:
    options = form.arguments(__doc__)
    repetitions, seeds, warm_steps = (1, 1, 1) if options.quick else (REPETITIONS, SEEDS, 3)
    prepared, found = [Prepared() for _ in range(seeds)], []
    with ours.own_cache():
        for name in CASES:
            plan = plan_of(name, is_quick=options.quick)
            race = Race(name, plan, prepared, variants=VARIANTS, warm_steps=warm_steps)
            same = {"cache_loss_difference": race.cache_difference()}
            compared = race.run(repetitions=repetitions)
            found += form.shown([row | (same if row["case"].endswith("exact") else {}) for row in compared])
    form.report("vision", found, as_json=options.json)


if __name__ == "__main__":
    main()

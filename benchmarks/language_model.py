"""Fine-tunes a language model: SmolLM2 on everyday conversations, with LoRA on its top 4 blocks, or its last 2 blocks.

Claim: at least 4 times as many tokens per second as the default Trainer, and a lower peak of memory.

Only targets count as tokens, not padding. Ours are whole runs of five epochs, and the time to fill the prefix cache is
included. A step of the Trainer costs the same in every epoch, so only a few steps of its first epoch are timed. Another
run of the Trainer, which is not timed, shows that both follow the same loss curve to the end; its loss is computed in
float64 like ours. Memory peaks (VmHWM) are measured in separate processes that load, train and end; ours also keeps the
original weights for the next run, as in a notebook.

`exact`: fp32, with the batches of the Trainer in its order. `bf16`: batches by length, and bf16 autocast if it is
faster on this machine, as for the tuned Trainer (see the columns `precision` and `peer_precision`). Both variants
compute the output layer only at targets.
"""

import itertools
import multiprocessing
import re
import statistics
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import form
import ours
import trainers
from ours import Result

from workbench.plan.plan import Plan
from workbench.runs.preparation import Preparation

REPETITIONS, TIMED_STEPS = 5, 3
ROWS = {"source": "everyday-chat", "max_rows": 20, "validation_fraction": 0.2, "test_fraction": 0.3}
PLAN = Plan().change(backbone="smollm2-135m", **ROWS, **{**ours.PLAIN, "batch_size": 8, "evaluation_rows": 4})
CASES = {
    "top4 lora": {"trainable": "last 4", "method": "lora", "learning_rate": 1e-3},
    "top2": {"trainable": "last 2", "learning_rate": 1e-4},
}
VARIANTS = {"exact": ours.EXACT, "bf16": ours.FAST}


class Race:
    """One case: the two peers and our two variants on the same windows."""

    def __init__(self, name: str, preparation: Preparation, *, is_quick: bool) -> None:
        self.name, self.preparation = name, preparation
        self.plan = PLAN.change(**CASES[name], **quick(is_quick))
        self.steps = 1 if is_quick else TIMED_STEPS
        epochs = ours.row_orders(self.plan, preparation)
        precision = trainers.faster_precision(self.plan, preparation, steps=1)
        self.settings = {
            "trainer": trainers.Setting(epochs=epochs, last_step=self.steps),
            "trainer-best": trainers.Setting(is_best=True, precision=precision, last_step=self.steps),
        }
        self.untimed = trainers.train(self.plan, preparation, trainers.Setting(epochs=epochs, is_exact=True))

    def run(self, *, repetitions: int) -> dict[str, list[Result]]:
        """Return the results of each side, one per repetition."""
        sides = {name: lambda _, name=name: self._theirs(name) for name in self.settings}
        sides |= {name: lambda _, name=name: self._ours(name) for name in VARIANTS}
        for name in VARIANTS if repetitions > 1 else ():  # the peers are warm by now
            sides[name](0)
        return form.in_turn(sides, repetitions=repetitions)

    def _theirs(self, name: str) -> Result:
        return ours.without_backbone(trainers.train(self.plan, self.preparation, self.settings[name]))

    def _ours(self, name: str) -> Result:
        return ours.run_plan(self.plan.change(**VARIANTS[name]), self.preparation)

    def rows(self, results: dict[str, list[Result]], peaks: dict[str, float]) -> list[form.Row]:
        """Return a row for each of our variants against each peer."""
        per_token = {name: statistics.median(r.seconds / r.targets for r in runs) for name, runs in results.items()}
        return [
            form.row(
                f"{self.name} {variant}",
                peer,
                (per_token[variant], per_token[peer]),
                repetitions=len(results[variant]),
                tokens_per_second=1 / per_token[variant],
                peer_tokens_per_second=1 / per_token[peer],
                precision=ours.precision(results[variant][0]),
                peer_precision=self.settings[peer].precision,
                tokens=results[variant][0].targets,
                **({"peak_mb": peaks[variant], "peer_peak_mb": peaks[peer]} if {variant, peer} <= {*peaks} else {}),
                **self._loss_difference(variant, peer, results[variant]),
                **ours.cache_fields(results[variant][0]),
            )
            for variant, peer in itertools.product(VARIANTS, self.settings)
        ]

    def _loss_difference(self, variant: str, peer: str, runs: list[Result]) -> dict[str, float]:
        if (variant, peer) != ("exact", "trainer"):
            return {}
        return {"loss_difference": max(ours.loss_difference(result, self.untimed) for result in runs)}

    def peaks(self, *, is_quick: bool) -> dict[str, float]:
        """Return the memory peak of each side in MB, measured in separate processes; of two sides if `is_quick`."""
        plan, sides = self.plan.change(epochs=2), 1 if is_quick else 2
        theirs, mine = list(self.settings.items())[:sides], list(VARIANTS.items())[:sides]
        found = {name: in_new_process(peak_of_trainer, plan, setting) for name, setting in theirs}
        return found | {name: in_new_process(peak_of_ours, plan.change(**changes)) for name, changes in mine}


def quick(is_quick: bool) -> dict[str, Any]:
    """Return the changes of the plan for a quick run."""
    return {"epochs": 2, "max_length": 24, "max_steps": 2} if is_quick else {}


def in_new_process(call: Callable[..., float], *arguments: Any) -> float:
    """Call the function in a new process and return its result."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(call, *arguments).result()


def peak_of_ours(plan: Plan) -> float:
    """Return the memory peak of this process in MB, after a run of ours."""
    with ours.own_cache():
        ours.run_plan(plan, Preparation())
    return peak_mb()


def peak_of_trainer(plan: Plan, setting: trainers.Setting) -> float:
    """Return the memory peak of this process in MB, after some steps of the Trainer on a single copy of the model."""
    trainers.train(plan, SingleCopy(), setting)
    return peak_mb()


def peak_mb() -> float:
    """Return the memory peak of this process so far, in MB (10^6 bytes); Linux only."""
    (peak,) = re.findall(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(peak) * 1024 / 1e6


class SingleCopy(Preparation):
    """Hands out the backbone itself instead of a copy, like a script that trains only once."""

    def own_backbone(self, plan: Plan) -> Any:
        """Return the backbone itself."""
        return self.backbone(plan)


def main() -> None:
    options = form.arguments(__doc__)
    preparation, found = Preparation(), []
    with ours.own_cache():
        for name in list(CASES)[: 1 if options.quick else None]:
            race = Race(name, preparation, is_quick=options.quick)
            results = race.run(repetitions=1 if options.quick else REPETITIONS)
            found += form.shown(race.rows(results, race.peaks(is_quick=options.quick)))
    form.report("language_model", found, as_json=options.json)


if __name__ == "__main__":
    main()

"""A language model with adapters: SmolLM2 on everyday conversation, LoRA on its top 4 blocks, and its last 2 blocks.

Claim: at least 4 times as fast a token as the Trainer as it comes, and a lower peak of memory.

A token is a real target; padding doesn't count. Ours are whole runs of five epochs, the fill of the prefix cache
included. A step of the Trainer costs the same in each epoch, so it is timed over some steps of its first one; that both
follow the same loss curve to the end is seen in a run of it that isn't timed, with its loss counted in float64 as ours
is. Peaks are of processes of their own (VmHWM), which load, train and end; ours keeps the pristine weights for the
next run, as in a notebook.

`exact`: fp32, the batches of the Trainer in its order. `bf16`: batches by length, and bf16 autocast where it is faster
here, as for the best-set Trainer (`precision` and `peer_precision` say). Both compute the output layer at targets only.
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
from ours import Finish

from workbench.plan.choices import Plan
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
        epochs = ours.orders(self.plan, preparation)
        precision = trainers.faster_precision(self.plan, preparation, steps=1)
        self.settings = {
            "trainer": trainers.Setting(epochs=epochs, last_step=self.steps),
            "trainer-best": trainers.Setting(is_best=True, precision=precision, last_step=self.steps),
        }
        self.whole = trainers.carry_out(self.plan, preparation, trainers.Setting(epochs=epochs, is_exact=True))

    def run(self, *, repetitions: int) -> dict[str, list[Finish]]:
        """Return how each side ended, repetition by repetition."""
        sides = {name: lambda _, name=name: self._theirs(name) for name in self.settings}
        sides |= {name: lambda _, name=name: self._ours(name) for name in VARIANTS}
        for name in VARIANTS if repetitions > 1 else ():  # the peers are warm by now
            sides[name](0)
        return form.in_turn(sides, repetitions=repetitions)

    def _theirs(self, name: str) -> Finish:
        return ours.without(trainers.carry_out(self.plan, self.preparation, self.settings[name]))

    def _ours(self, name: str) -> Finish:
        return ours.carry_out(self.plan.change(**VARIANTS[name]), self.preparation)

    def rows(self, given: dict[str, list[Finish]], peaks: dict[str, float]) -> list[form.Row]:
        """Return a line for each of our variants against each peer."""
        a_token = {name: statistics.median(f.seconds / f.targets for f in ends) for name, ends in given.items()}
        return [
            form.row(
                f"{self.name} {variant}",
                peer,
                (a_token[variant], a_token[peer]),
                repetitions=len(given[variant]),
                tokens_a_second=1 / a_token[variant],
                peer_tokens_a_second=1 / a_token[peer],
                precision=ours.precision(given[variant][0]),
                peer_precision=self.settings[peer].precision,
                tokens=given[variant][0].targets,
                **({"peak_mb": peaks[variant], "peer_peak_mb": peaks[peer]} if {variant, peer} <= {*peaks} else {}),
                **self._sameness(variant, peer, given[variant]),
                **ours.cached(given[variant][0]),
            )
            for variant, peer in itertools.product(VARIANTS, self.settings)
        ]

    def _sameness(self, variant: str, peer: str, ends: list[Finish]) -> dict[str, float]:
        if (variant, peer) != ("exact", "trainer"):
            return {}
        return {"loss_difference": max(ours.difference(finish, self.whole) for finish in ends)}

    def peaks(self, *, is_quick: bool) -> dict[str, float]:
        """Return the peak of memory of each side, in MB, each in a process of its own; of two sides if it is quick."""
        plan, sides = self.plan.change(epochs=2), 1 if is_quick else 2
        theirs, mine = list(self.settings.items())[:sides], list(VARIANTS.items())[:sides]
        found = {name: alone(peak_of_theirs, plan, setting) for name, setting in theirs}
        return found | {name: alone(peak_of_ours, plan.change(**changes)) for name, changes in mine}


def quick(is_quick: bool) -> dict[str, Any]:
    """Return what is smaller in a quick run."""
    return {"epochs": 2, "max_length": 24, "max_steps": 2} if is_quick else {}


def alone(call: Callable[..., float], *given: Any) -> float:
    """Return what the function returns in a fresh process."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(call, *given).result()


def peak_of_ours(plan: Plan) -> float:
    """Return the peak of memory of this process after a run of ours, in MB."""
    with ours.own_cache():
        ours.carry_out(plan, Preparation())
    return peak_mb()


def peak_of_theirs(plan: Plan, setting: trainers.Setting) -> float:
    """Return the peak of memory of this process after some steps of the Trainer, in MB; it holds one copy."""
    trainers.carry_out(plan, SingleCopy(), setting)
    return peak_mb()


def peak_mb() -> float:
    """Return the most memory that this process ever had, in MB (10^6 bytes); Linux only."""
    (peak,) = re.findall(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(peak) * 1024 / 1e6


class SingleCopy(Preparation):
    """Gives the backbone itself away in place of a copy, as a script that trains once would."""

    def own_backbone(self, plan: Plan) -> Any:
        """Return the backbone."""
        return self.backbone(plan)


def main() -> None:
    asked = form.arguments(__doc__)
    preparation, found = Preparation(), []
    with ours.own_cache():
        for name in list(CASES)[: 1 if asked.quick else None]:
            race = Race(name, preparation, is_quick=asked.quick)
            given = race.run(repetitions=1 if asked.quick else REPETITIONS)
            found += form.shown(race.rows(given, race.peaks(is_quick=asked.quick)))
    form.report("language_model", found, as_json=asked.json)


if __name__ == "__main__":
    main()

"""A race over whole runs: both peers and our variants alternate on the same rows; the trained models are evaluated too.

The repetitions cycle through the seeds (of the order and of the new head). The model of the first run with each seed is
evaluated on held-out rows; the time for that is not measured. The sides are in `ours.py` and `trainers.py`.
"""

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import form
import ours
import trainers
from ours import Result

from workbench.plan.plan import Plan
from workbench.runs.preparation import Preparation

PEERS = ("trainer", "trainer-best")
Runs = Sequence[tuple[Result, float | None]]  # the result of each repetition, and its accuracy if it was evaluated


class Race:
    """One case of a benchmark.

    Args:
        name: The name of the case.
        plan: The plan of all sides.
        prepared: The rows, weights and examples, one Preparation for each seed.
        variants: The name of each of our variants -> its changes of the plan.
        warm_steps: The number of warm-up steps of the peers.
    """

    def __init__(
        self,
        name: str,
        plan: Plan,
        prepared: Sequence[Preparation],
        *,
        variants: Mapping[str, Mapping[str, Any]],
        warm_steps: int,
    ) -> None:
        self.name, self.plan, self.prepared, self.variants = name, plan, prepared, variants
        examples, _ = prepared[0].examples(plan)
        backbone = prepared[0].backbone(plan)
        self.rows = {peer: trainers.trainer_rows(examples, backbone, is_best=peer != "trainer") for peer in PEERS}
        exact = plan.change(**ours.EXACT)
        self.epochs = [ours.row_orders(exact.change(seed=seed), own) for seed, own in enumerate(prepared)]
        self.precision = trainers.faster_precision(plan, prepared[0], steps=warm_steps, rows=self.rows["trainer-best"])

    def run(self, *, repetitions: int) -> list[form.Row]:
        """Return a row for each of our variants against each peer."""
        sides = {peer: lambda at, peer=peer: self._theirs(at, peer) for peer in PEERS}
        sides |= {variant: lambda at, variant=variant: self._ours(at, variant) for variant in self.variants}
        for variant in self.variants if repetitions > 1 else ():  # warm-up; the peers had theirs in __init__
            sides[variant](0)
        results = form.in_turn(sides, repetitions=repetitions)
        return [self._row(variant, peer, results) for variant in self.variants for peer in PEERS]

    def cache_difference(self) -> float:
        """Return the largest difference between our loss curves with and without the cache, in nats per target."""
        plan = self.plan.change(**ours.EXACT)
        cached = ours.run_plan(plan, self.prepared[0])
        return ours.loss_difference(cached, ours.run_plan(plan.change(prefix_cache="off"), self.prepared[0]))

    def _theirs(self, at: int, peer: str) -> tuple[Result, float | None]:
        seed = at % len(self.prepared)
        is_best = peer != "trainer"
        precision, epochs = (self.precision, ()) if is_best else ("fp32", self.epochs[seed])
        setting = trainers.Setting(is_best=is_best, precision=precision, epochs=epochs)
        plan = self.plan.change(seed=seed)
        return self._measured(trainers.train(plan, self.prepared[seed], setting, rows=self.rows[peer]), at)

    def _ours(self, at: int, variant: str) -> tuple[Result, float | None]:
        seed = at % len(self.prepared)
        plan = self.plan.change(seed=seed, **self.variants[variant])
        return self._measured(ours.run_plan(plan, self.prepared[seed], with_backbone=at < len(self.prepared)), at)

    def _measured(self, result: Result, at: int) -> tuple[Result, float | None]:
        if at >= len(self.prepared) or result.backbone is None:
            return ours.without_backbone(result), None
        _, held_out = self.prepared[at].examples(self.plan.change(seed=at))
        return ours.without_backbone(result), ours.accuracy(result.backbone, held_out)

    def _row(self, variant: str, peer: str, results: Mapping[str, Runs]) -> form.Row:
        seconds = [statistics.median(result.seconds for result, _ in results[side]) for side in (variant, peer)]
        return form.row(
            f"{self.name} {variant}",
            peer,
            (seconds[0], seconds[1]),
            repetitions=len(results[variant]),
            ours_total_seconds=statistics.median(result.total_seconds for result, _ in results[variant]),
            rows=len(self.prepared[0].examples(self.plan)[0]),
            precision=ours.precision(results[variant][-1][0]),
            peer_precision="fp32" if peer == "trainer" else self.precision,
            **quality(results[variant], results[peer]),
            **({"loss_difference": difference(results[variant], results[peer])} if (variant, peer) == SAME else {}),
            **ours.cache_fields(results[variant][-1][0]),
        )


SAME = ("exact", "trainer")  # only these two have the same batches in the same order, so that losses are comparable


def quality(mine: Runs, theirs: Runs) -> dict[str, float]:
    """Return the mean accuracies over the seeds, and the pooled standard deviation of the accuracy between seeds."""
    accuracies = [[accuracy for _, accuracy in runs if accuracy is not None] for runs in (mine, theirs)]
    variances = [statistics.variance(values) if len(values) > 1 else 0.0 for values in accuracies]
    means = [statistics.mean(values) for values in accuracies]
    return {"accuracy": means[0], "peer_accuracy": means[1], "accuracy_noise": math.sqrt(statistics.mean(variances))}


def difference(mine: Runs, theirs: Runs) -> float:
    """Return the largest difference between the loss curves, at any step of any repetition, in nats per target."""
    pairs = zip(mine, theirs, strict=True)
    return max(ours.loss_difference(own, other) for (own, _), (other, _) in pairs)

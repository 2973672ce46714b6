"""A race over whole runs: both peers and our variants on the same rows, alternated, and the quality of what is learnt.

Repetitions go through the seeds (of the order, of a new head); what the first run with each seed has learnt is measured
on held-out rows, outside the clock. Left out: the sides themselves (`ours.py`, `trainers.py`).
"""

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import form
import ours
import trainers
from ours import Finish

from workbench.plan.choices import Plan
from workbench.runs.preparation import Preparation

PEERS = ("trainer", "trainer-best")
Ends = Sequence[tuple[Finish, float | None]]  # how each repetition ended, and its accuracy where it was measured


class Race:
    """One case.

    Args:
        name: Of the case.
        plan: What all sides do.
        prepared: What holds rows, weights and examples, one for each seed.
        variants: Name -> the choices that make our variants of the plan.
        warm_steps: Steps that the peers take before anything counts.
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
        self.rows = {peer: trainers.made(examples, backbone, is_best=peer != "trainer") for peer in PEERS}
        exact = plan.change(**ours.EXACT)
        self.epochs = [ours.orders(exact.change(seed=seed), own) for seed, own in enumerate(prepared)]
        self.precision = trainers.faster_precision(plan, prepared[0], steps=warm_steps, rows=self.rows["trainer-best"])

    def run(self, *, repetitions: int) -> list[form.Row]:
        """Return a line for each of our variants against each peer."""
        sides = {peer: lambda at, peer=peer: self._theirs(at, peer) for peer in PEERS}
        sides |= {variant: lambda at, variant=variant: self._ours(at, variant) for variant in self.variants}
        for variant in self.variants if repetitions > 1 else ():  # the peers are warm by now
            sides[variant](0)
        given = form.in_turn(sides, repetitions=repetitions)
        return [self._row(variant, peer, given) for variant in self.variants for peer in PEERS]

    def cache_difference(self) -> float:
        """Return the largest difference that the prefix cache makes to our own loss curve, in nats per target."""
        plan = self.plan.change(**ours.EXACT)
        cached = ours.carry_out(plan, self.prepared[0])
        return ours.difference(cached, ours.carry_out(plan.change(prefix_cache="off"), self.prepared[0]))

    def _theirs(self, at: int, peer: str) -> tuple[Finish, float | None]:
        seed = at % len(self.prepared)
        is_best = peer != "trainer"
        precision, epochs = (self.precision, ()) if is_best else ("fp32", self.epochs[seed])
        setting = trainers.Setting(is_best=is_best, precision=precision, epochs=epochs)
        plan = self.plan.change(seed=seed)
        return self._measured(trainers.carry_out(plan, self.prepared[seed], setting, rows=self.rows[peer]), at)

    def _ours(self, at: int, variant: str) -> tuple[Finish, float | None]:
        seed = at % len(self.prepared)
        plan = self.plan.change(seed=seed, **self.variants[variant])
        return self._measured(ours.carry_out(plan, self.prepared[seed], learnt=at < len(self.prepared)), at)

    def _measured(self, finish: Finish, at: int) -> tuple[Finish, float | None]:
        if at >= len(self.prepared) or finish.backbone is None:
            return ours.without(finish), None
        _, held_out = self.prepared[at].examples(self.plan.change(seed=at))
        return ours.without(finish), ours.accuracy(finish.backbone, held_out)

    def _row(self, variant: str, peer: str, given: Mapping[str, Ends]) -> form.Row:
        seconds = [statistics.median(finish.seconds for finish, _ in given[side]) for side in (variant, peer)]
        return form.row(
            f"{self.name} {variant}",
            peer,
            (seconds[0], seconds[1]),
            repetitions=len(given[variant]),
            ours_whole_seconds=statistics.median(finish.whole_seconds for finish, _ in given[variant]),
            rows=len(self.prepared[0].examples(self.plan)[0]),
            precision=ours.precision(given[variant][-1][0]),
            peer_precision="fp32" if peer == "trainer" else self.precision,
            **quality(given[variant], given[peer]),
            **({"loss_difference": difference(given[variant], given[peer])} if (variant, peer) == SAME else {}),
            **ours.cached(given[variant][-1][0]),
        )


SAME = ("exact", "trainer")  # the same batches in the same order; of others, curves can't be laid over each other


def quality(mine: Ends, theirs: Ends) -> dict[str, float]:
    """Return the mean accuracies over the seeds, and how far the seed moves one: its standard deviation, pooled."""
    found = [[accuracy for _, accuracy in ends if accuracy is not None] for ends in (mine, theirs)]
    spread = [statistics.variance(values) if len(values) > 1 else 0.0 for values in found]
    means = [statistics.mean(values) for values in found]
    return {"accuracy": means[0], "peer_accuracy": means[1], "accuracy_noise": math.sqrt(statistics.mean(spread))}


def difference(mine: Ends, theirs: Ends) -> float:
    """Return the largest difference of two loss curves at any step of any repetition, in nats per target."""
    pairs = zip(mine, theirs, strict=True)
    return max(ours.difference(own, other) for (own, _), (other, _) in pairs)

"""How does the cost of a cached run grow with its rows, their length and the trainable blocks, and on disk?

Claim: linearly. The peer of each case is the straight line that fits its series best (least squares of the relative
error). A ratio of 1 means that the case is on the line; below 1, the case costs more than the line predicts. `exponent`
is the slope of the series in a log-log plot: 1 means proportional; it is lower if there is a large fixed cost.

`budget` compares a run that has little memory for activations with the same run when all activations fit into memory;
`place` says where the activations are. MiniLM, random tokens, fp32, batches of 16, whole runs of five epochs with the
fill of the cache.
"""

import dataclasses
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import form
import numpy as np
import ours
import synthetic
from ours import Result
from synthetic import Synthetic

from workbench.models import Backbone
from workbench.plan.plan import Plan
from workbench.runs.preparation import Preparation

REPETITIONS, LENGTH, ROWS = 5, 32, 128
WORDS = 30_522  # the vocabulary of the backbone
PLAN = Plan().change(backbone="minilm-l6", max_length=256, **ours.PLAIN)
SERIES: dict[str, Sequence[int]] = {
    "rows": (128, 256, 512, 1024),
    "length": (16, 32, 64, 128, 256),  # tokens
    "blocks": (1, 2, 3, 4, 5),
}
BUDGET_MB, BUDGET_ROWS = 5, (64, 128, 256, 512)  # the activations of one row of 32 tokens take 49 kB


def random_rows(backbone: Backbone, *, rows: int = ROWS, length: int = LENGTH) -> Synthetic:
    """Return rows of random tokens, all of the same length (tokens)."""
    train, held_out = (synthetic.texts([length] * count, words=(1000, WORDS)) for count in (rows, 16))
    return Synthetic(backbone, train, held_out, name=f"{rows} x {length}")


def of_size(series: str, size: int, plan: Plan, backbone: Backbone) -> tuple[Plan, Synthetic]:
    """Return the plan and the rows of one case."""
    if series == "blocks":
        return plan.change(trainable=f"last {size}"), random_rows(backbone)
    return plan.change(trainable="head"), random_rows(backbone, **{series: size})


def measure(series: str, sizes: Sequence[int], plan: Plan, backbone: Backbone, *, repetitions: int) -> list[form.Row]:
    """Return the rows of one series."""
    cases = {size: of_size(series, size, plan, backbone) for size in sizes}
    sides = {str(size): lambda _, case=case: ours.run_plan(*case) for size, case in cases.items()}
    sides[str(sizes[0])](0)
    results = form.in_turn(sides, repetitions=repetitions)
    seconds = [median(results[str(size)]) for size in sizes]
    exponent = float(np.polyfit(np.log(sizes), np.log(seconds), 1)[0])
    return [
        form.row(
            f"{series} {size}",
            "straight line",
            (took, on_line),
            repetitions=repetitions,
            exponent=exponent,
            ms_per_step=1000 * took / len(results[str(size)][0].losses),
            **ours.cache_fields(results[str(size)][0]),
        )
        for size, took, on_line in zip(sizes, seconds, line(sizes, seconds), strict=True)
    ]


def line(sizes: Sequence[int], seconds: Sequence[float]) -> list[float]:
    """Return the seconds that the best straight line predicts for each size (least squares of the relative error)."""
    slope, fixed = np.polyfit(sizes, seconds, 1, w=1 / np.asarray(seconds))
    return [float(fixed + slope * size) for size in sizes]


def measure_budget(rows: int, plan: Plan, backbone: Backbone, *, repetitions: int) -> form.Row:
    """Return the row that compares little memory for activations with enough memory."""
    prepared, plan = random_rows(backbone, rows=rows), plan.change(trainable="last 1")
    small = plan.change(cache_memory_mb=BUDGET_MB)
    results = form.in_turn(
        {"ours": lambda _: ours.run_plan(small, prepared), "peer": lambda _: ours.run_plan(plan, prepared)},
        repetitions=repetitions,
    )
    took = (median(results["ours"]), median(results["peer"]))
    steps = len(results["ours"][0].losses)
    more: Mapping[str, Any] = {"budget_mb": BUDGET_MB, "ms_per_step": 1000 * took[0] / steps}
    same = ours.loss_difference(results["ours"][0], results["peer"][0])
    cached = ours.cache_fields(results["ours"][0])
    return form.row(
        f"budget, {rows} rows", "memory", took, repetitions=repetitions, loss_difference=same, **more, **cached
    )


def median(results: Sequence[Result]) -> float:
    """Return the median seconds of some runs."""
    return statistics.median(result.seconds for result in results)


def main() -> None:
    options = form.arguments(__doc__)
    repetitions, most = (1, 2) if options.quick else (REPETITIONS, None)
    loaded = Preparation().backbone(PLAN.change(max_rows=20))
    backbone = dataclasses.replace(loaded, preprocessor=synthetic.tokenizer(WORDS, padding=0))
    plan, found = PLAN.change(epochs=1) if options.quick else PLAN, []
    with ours.own_cache():
        for name, sizes in SERIES.items():
            found += measure(name, sizes[:most], plan, backbone, repetitions=repetitions)
        found += [measure_budget(rows, plan, backbone, repetitions=repetitions) for rows in BUDGET_ROWS[:most]]
    form.report("scaling", found, as_json=options.json)


if __name__ == "__main__":
    main()

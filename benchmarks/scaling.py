"""How the cost of a cached run grows: with the rows, with their length, with the blocks that learn; and onto the disk.

Claim: linearly. The peer of each case is the straight line that fits its series best (least squares of the relative
error): a ratio of 1 lies on the line, below it the case costs more than the line says. `exponent` is the slope of the
series in a log-log plot: 1 is proportional, lower where a fixed cost weighs.

`budget`: the same run with a small memory for activations, against one whose activations all fit; `place` tells where
they went as the rows grow. MiniLM, random tokens, fp32, batches of 16, five epochs, whole runs with the fill.
"""

import dataclasses
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import form
import given
import numpy as np
import ours
from given import Given
from ours import Finish

from workbench.models import Backbone
from workbench.plan.choices import Plan
from workbench.runs.preparation import Preparation

REPETITIONS, LENGTH, ROWS = 5, 32, 128
WORDS = 30_522  # the vocabulary of the backbone
PLAN = Plan().change(backbone="minilm-l6", max_length=256, **ours.PLAIN)
SERIES: dict[str, Sequence[int]] = {
    "rows": (128, 256, 512, 1024),
    "length": (16, 32, 64, 128, 256),  # tokens
    "blocks": (1, 2, 3, 4, 5),
}
BUDGET_MB, BUDGET_ROWS = 5, (64, 128, 256, 512)  # one row of 32 tokens takes 49 kB below the last block


def drawn(backbone: Backbone, *, rows: int = ROWS, length: int = LENGTH) -> Given:
    """Return so many rows of so many random tokens each."""
    train, held_out = (given.texts([length] * count, words=(1000, WORDS)) for count in (rows, 16))
    return Given(backbone, train, held_out, name=f"{rows} x {length}")


def of_size(series: str, size: int, plan: Plan, backbone: Backbone) -> tuple[Plan, Given]:
    """Return the plan and the rows of one case."""
    if series == "blocks":
        return plan.change(trainable=f"last {size}"), drawn(backbone)
    return plan.change(trainable="head"), drawn(backbone, **{series: size})


def measured(series: str, sizes: Sequence[int], plan: Plan, backbone: Backbone, *, repetitions: int) -> list[form.Row]:
    """Return the lines of one series."""
    cases = {size: of_size(series, size, plan, backbone) for size in sizes}
    sides = {str(size): lambda _, case=case: ours.carry_out(*case) for size, case in cases.items()}
    sides[str(sizes[0])](0)
    ends = form.in_turn(sides, repetitions=repetitions)
    seconds = [median(ends[str(size)]) for size in sizes]
    exponent = float(np.polyfit(np.log(sizes), np.log(seconds), 1)[0])
    return [
        form.row(
            f"{series} {size}",
            "straight line",
            (took, on_line),
            repetitions=repetitions,
            exponent=exponent,
            ms_a_step=1000 * took / len(ends[str(size)][0].losses),
            **ours.cached(ends[str(size)][0]),
        )
        for size, took, on_line in zip(sizes, seconds, line(sizes, seconds), strict=True)
    ]


def line(sizes: Sequence[int], seconds: Sequence[float]) -> list[float]:
    """Return the seconds that the straight line through the series gives, relative errors weighed alike."""
    slope, fixed = np.polyfit(sizes, seconds, 1, w=1 / np.asarray(seconds))
    return [float(fixed + slope * size) for size in sizes]


def budgeted(rows: int, plan: Plan, backbone: Backbone, *, repetitions: int) -> form.Row:
    """Return the line of so many rows with a small memory for activations."""
    prepared, plan = drawn(backbone, rows=rows), plan.change(trainable="last 1")
    small = plan.change(cache_memory_mb=BUDGET_MB)
    ends = form.in_turn(
        {"ours": lambda _: ours.carry_out(small, prepared), "peer": lambda _: ours.carry_out(plan, prepared)},
        repetitions=repetitions,
    )
    took = (median(ends["ours"]), median(ends["peer"]))
    steps = len(ends["ours"][0].losses)
    more: Mapping[str, Any] = {"budget_mb": BUDGET_MB, "ms_a_step": 1000 * took[0] / steps}
    same = ours.difference(ends["ours"][0], ends["peer"][0])
    cached = ours.cached(ends["ours"][0])
    return form.row(
        f"budget, {rows} rows", "memory", took, repetitions=repetitions, loss_difference=same, **more, **cached
    )


def median(ends: Sequence[Finish]) -> float:
    """Return the median seconds."""
    return statistics.median(finish.seconds for finish in ends)


def main() -> None:
    asked = form.arguments(__doc__)
    repetitions, most = (1, 2) if asked.quick else (REPETITIONS, None)
    loaded = Preparation().backbone(PLAN.change(max_rows=20))
    backbone = dataclasses.replace(loaded, preprocessor=given.tokenizer(WORDS, padding=0))
    plan, found = PLAN.change(epochs=1) if asked.quick else PLAN, []
    with ours.own_cache():
        for name, sizes in SERIES.items():
            found += measured(name, sizes[:most], plan, backbone, repetitions=repetitions)
        found += [budgeted(rows, plan, backbone, repetitions=repetitions) for rows in BUDGET_ROWS[:most]]
    form.report("scaling", found, as_json=asked.json)


if __name__ == "__main__":
    main()

"""How close to what the machine can do at all: the rate of a matrix product, and the arithmetic that a run needs.

The peer is a machine that does nothing but matrix products (2048 × 2048), at the best rate of this one, and needs as
many operations as the run: the ratio is the share of that limit that is reached, below 1. Operations are those of
matrix products, convolutions and attention, two for each multiplication and addition; what is added up, normed or
activated in between is not counted, nor is reading and writing.

`gflop` is what our run needs, the fill of the cache included; `uncached_gflop` what the same batches need without one;
rows and epochs as in `prefix_cache.py`, fewer of them.
"""

import statistics
import time
from collections.abc import Mapping
from typing import Any

import form
import ours
import torch
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

from workbench.plan.choices import Plan
from workbench.runs.preparation import Preparation

REPETITIONS, SIDE = 5, 2048
aten = torch.ops.aten
ROWS = {"validation_fraction": 0.1, "test_fraction": 0.0, **ours.PLAIN}
TEXT = Plan().change(backbone="minilm-l6", source="sentiment:movies", max_rows=280, **ROWS)
LANGUAGE = Plan().change(
    **{**ROWS, "batch_size": 8, "epochs": 2, "evaluation_rows": 4, "validation_fraction": 0.5},
    backbone="smollm2-135m",
    source="everyday-chat",
    max_rows=10,
    trainable="last 4",
    method="lora",
)
CASES: dict[str, Plan] = {
    "head": TEXT.change(trainable="head"),
    "top2": TEXT.change(trainable="last 2"),
    "all": TEXT.change(trainable="all", epochs=2),
    "smollm2 top4 lora": LANGUAGE,
}
VARIANTS: Mapping[str, Mapping[str, Any]] = {"exact": ours.EXACT, "bf16": ours.FAST}


def attention(query: torch.Size, key: torch.Size, value: torch.Size, *_: Any, **__: Any) -> int:
    """Return the operations of attention of these shapes."""
    return sdpa_flop_count(query, key, value)


def attention_backward(
    gradient: torch.Size, query: torch.Size, key: torch.Size, value: torch.Size, *_: Any, **__: Any
) -> int:
    """Return the operations of its gradient."""
    return sdpa_backward_flop_count(gradient, query, key, value)


ATTENTION = {  # on a CPU it goes by another name, which torch's counter does not know
    aten._scaled_dot_product_flash_attention_for_cpu: attention,
    aten._scaled_dot_product_flash_attention_for_cpu_backward: attention_backward,
}


def gemm_rate(precision: str, *, repetitions: int = 6) -> float:
    """Return the best rate of a square matrix product, in operations a second."""
    left, right = torch.randn(2, SIDE, SIDE).to(torch.bfloat16 if precision == "bf16" else torch.float32)
    taken = []
    for _ in range(repetitions):
        begun = time.perf_counter()
        left @ right
        taken.append(time.perf_counter() - begun)
    return 2 * SIDE**3 / min(taken)


class Counter(FlopCounterMode):
    """Counts operations without asking in which module: torch's way of knowing forbids `autograd.grad` meanwhile."""

    def __init__(self) -> None:
        super().__init__(display=False, custom_mapping=ATTENTION)
        self.mod_tracker = Nowhere()


class Nowhere:
    """Stands where a tracker of modules would."""

    parents = ("Global",)

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        pass


def operations(plan: Plan, preparation: Preparation) -> int:
    """Return the operations that the whole run needs."""
    with Counter() as counter:
        ours.carry_out(plan, preparation)
    return int(counter.get_total_flops())


def measured(name: str, preparation: Preparation, *, repetitions: int) -> list[form.Row]:
    """Return the lines of one case."""
    plans = {variant: CASES[name].change(**changes) for variant, changes in VARIANTS.items()}
    first = {v: ours.carry_out(plan.change(max_steps=1), preparation) for v, plan in plans.items()}
    precisions = {v: ours.precision(finish) for v, finish in first.items()}  # measured now, not while we count
    needed = {variant: operations(plan, preparation) for variant, plan in plans.items()}
    uncached = {v: operations(plan.change(prefix_cache="off"), preparation) for v, plan in plans.items()}
    sides = {variant: lambda _, plan=plan: ours.carry_out(plan, preparation) for variant, plan in plans.items()}
    rates = {f"gemm {p}": lambda _, p=p: gemm_rate(p) for p in sorted({*precisions.values()})}
    ends = form.in_turn(sides | rates, repetitions=repetitions)
    found = []
    for variant in plans:
        seconds = statistics.median(finish.seconds for finish in ends[variant])
        precision = precisions[variant]
        rate = max(ends[f"gemm {precision}"])
        fields = {"gflop": needed[variant] / 1e9, "uncached_gflop": uncached[variant] / 1e9}
        fields |= {"gflop_a_second": needed[variant] / seconds / 1e9, "gemm_gflop_a_second": rate / 1e9}
        took = (seconds, needed[variant] / rate)
        found.append(
            form.row(f"{name} {variant}", "gemm", took, repetitions=repetitions, precision=precision, **fields)
        )
    return found


def main() -> None:
    asked = form.arguments(__doc__)
    repetitions = 1 if asked.quick else REPETITIONS
    if asked.quick:
        CASES.update({name: plan.change(epochs=2, max_rows=40) for name, plan in CASES.items()})
    preparation, found = Preparation(), []
    with ours.own_cache():
        for name in list(CASES)[: 2 if asked.quick else None]:
            found += measured(name, preparation, repetitions=repetitions)
    form.report("limits", found, as_json=asked.json)


if __name__ == "__main__":
    main()

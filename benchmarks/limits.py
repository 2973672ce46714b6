"""How close does a run come to the limit of the machine, the rate of its matrix products?

The peer is an ideal run: the operations of the real run at the best rate that this machine reaches in matrix products
(2048 × 2048). So the ratio is the share of that limit that the run reaches; it is below 1. The operations of matrix
products, convolutions and attention are counted, two for each multiply-add. Sums, norms, activation functions and
memory access are not counted.

`gflop` are the operations of our run, with the fill of the cache; `uncached_gflop` those of the same batches without a
cache. The cases are those of `prefix_cache.py` with fewer rows and epochs.
"""

import statistics
import time
from collections.abc import Mapping
from typing import Any

import form
import ours
import torch
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

from workbench.plan.plan import Plan
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
    """Return the number of operations of attention with these shapes."""
    return sdpa_flop_count(query, key, value)


def attention_backward(
    gradient: torch.Size, query: torch.Size, key: torch.Size, value: torch.Size, *_: Any, **__: Any
) -> int:
    """Return the number of operations of the gradient of attention."""
    return sdpa_backward_flop_count(gradient, query, key, value)


ATTENTION = {  # the names of attention on CPUs, which torch's counter does not know
    aten._scaled_dot_product_flash_attention_for_cpu: attention,
    aten._scaled_dot_product_flash_attention_for_cpu_backward: attention_backward,
}


def gemm_rate(precision: str, *, repetitions: int = 6) -> float:
    """Return the best rate of a square matrix product, in operations per second."""
    left, right = torch.randn(2, SIDE, SIDE).to(torch.bfloat16 if precision == "bf16" else torch.float32)
    taken = []
    for _ in range(repetitions):
        start = time.perf_counter()
        left @ right
        taken.append(time.perf_counter() - start)
    return 2 * SIDE**3 / min(taken)


class Counter(FlopCounterMode):
    """Counts operations, but not per module: torch's module tracker does not work together with `autograd.grad`."""

    def __init__(self) -> None:
        super().__init__(display=False, custom_mapping=ATTENTION)
        self.mod_tracker = NoTracker()


class NoTracker:
    """Takes the place of torch's module tracker and does nothing."""

    parents = ("Global",)

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        pass


def operations(plan: Plan, preparation: Preparation) -> int:
    """Return the number of operations of the whole run."""
    with Counter() as counter:
        ours.run_plan(plan, preparation)
    return int(counter.get_total_flops())


def measure(name: str, preparation: Preparation, *, repetitions: int) -> list[form.Row]:
    """Return the rows of one case."""
    plans = {variant: CASES[name].change(**changes) for variant, changes in VARIANTS.items()}
    first = {v: ours.run_plan(plan.change(max_steps=1), preparation) for v, plan in plans.items()}
    precisions = {v: ours.precision(result) for v, result in first.items()}  # chosen now, not while we count
    needed = {variant: operations(plan, preparation) for variant, plan in plans.items()}
    uncached = {v: operations(plan.change(prefix_cache="off"), preparation) for v, plan in plans.items()}
    sides = {variant: lambda _, plan=plan: ours.run_plan(plan, preparation) for variant, plan in plans.items()}
    rates = {f"gemm {p}": lambda _, p=p: gemm_rate(p) for p in sorted({*precisions.values()})}
    results = form.in_turn(sides | rates, repetitions=repetitions)
    found = []
    for variant in plans:
        seconds = statistics.median(result.seconds for result in results[variant])
        precision = precisions[variant]
        rate = max(results[f"gemm {precision}"])
        fields = {"gflop": needed[variant] / 1e9, "uncached_gflop": uncached[variant] / 1e9}
        fields |= {"gflop_per_second": needed[variant] / seconds / 1e9, "gemm_gflop_per_second": rate / 1e9}
        took = (seconds, needed[variant] / rate)
        found.append(
            form.row(f"{name} {variant}", "gemm", took, repetitions=repetitions, precision=precision, **fields)
        )
    return found


def main() -> None:
    options = form.arguments(__doc__)
    repetitions = 1 if options.quick else REPETITIONS
    if options.quick:
        CASES.update({name: plan.change(epochs=2, max_rows=40) for name, plan in CASES.items()})
    preparation, found = Preparation(), []
    with ours.own_cache():
        for name in list(CASES)[: 2 if options.quick else None]:
            found += measure(name, preparation, repetitions=repetitions)
    form.report("limits", found, as_json=options.json)


if __name__ == "__main__":
    main()

"""The learning rate of a step, as a pure function: a resumed run needs no scheduler state to be exact."""

import math

from workbench.plan.choices import Tuning

JOINING = 10  # steps of warm-up, at least, for parameters that begin to learn in mid-run


def learning_rate(step: int, steps: int, choice: Tuning) -> float:
    """Return the rate of the 0-based `step` of `steps`.

    Linear warm-up over the first `warmup_fraction` of the steps, then constant, linear or cosine decay
    (Loshchilov & Hutter, arXiv 1608.03983, one half-period to zero). No step has a rate of zero: the first warm-up step
    is 1 / (warm-up + 1) of the peak, and zero would be reached one step after the last.
    """
    warmup = round(steps * choice.warmup_fraction)
    if step < warmup:
        return choice.learning_rate * (step + 1) / (warmup + 1)
    done = (step - warmup) / max(1, steps - warmup)  # in [0, 1)
    factor = {"constant": 1.0, "linear": 1.0 - done, "cosine": 0.5 * (1.0 + math.cos(math.pi * done))}
    return choice.learning_rate * factor[choice.schedule]


def joining(step: int, joined: int, steps: int, choice: Tuning) -> float:
    """Return the share of the rate that parameters get at the 0-based `step` which began to learn after `joined` steps.

    Those there from the start get all of it. Others warm up linearly over the plan's share of the steps that were left,
    ten at least: AdamW knows nothing of their gradients yet, and its first steps are as long as the rate allows.
    """
    warmup = max(JOINING, round((steps - joined) * choice.warmup_fraction))
    return 1.0 if joined == 0 else min(1.0, (step - joined + 1) / (warmup + 1))

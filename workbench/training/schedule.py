"""The learning rate of a step as a pure function, so that an exact resume needs no scheduler state."""

import math

from workbench.plan.choices import Tuning

LATE_WARMUP_STEPS = 10  # minimum steps of warm-up for parameters that become trainable in mid-run


def learning_rate(step: int, steps: int, choice: Tuning) -> float:
    """Return the learning rate of the 0-based `step` in a run of `steps`.

    A linear warm-up over the first `warmup_fraction` of the steps is followed by a constant rate, or a linear or cosine
    decay (Loshchilov & Hutter, arXiv 1608.03983, one half-period to zero). The rate is never zero: the warm-up starts
    at 1 / (warm-up steps + 1) of the peak, and the decay would reach zero one step after the last.
    """
    warmup = round(steps * choice.warmup_fraction)
    if step < warmup:
        return choice.learning_rate * (step + 1) / (warmup + 1)
    done = (step - warmup) / max(1, steps - warmup)  # in [0, 1)
    factor = {"constant": 1.0, "linear": 1.0 - done, "cosine": 0.5 * (1.0 + math.cos(math.pi * done))}
    return choice.learning_rate * factor[choice.schedule]


def late_warmup(step: int, trainable_since: int, steps: int, choice: Tuning) -> float:
    """Return the factor on the learning rate, at the 0-based `step`, of parameters that became trainable in mid-run.

    It rises linearly to 1 over `warmup_fraction` of the steps that were left, at least ten: AdamW has no averages of
    their gradients yet, and its first steps are as long as the rate allows. It is 1 for parameters that were trainable
    from the start.

    Args:
        step: Steps taken.
        trainable_since: Steps taken when these parameters became trainable.
        steps: Steps of the run.
        choice: The plan's hyperparameters.
    """
    warmup = max(LATE_WARMUP_STEPS, round((steps - trainable_since) * choice.warmup_fraction))
    return 1.0 if trainable_since == 0 else min(1.0, (step - trainable_since + 1) / (warmup + 1))

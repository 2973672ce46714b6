import math

import pytest
import torch
from transformers import get_cosine_schedule_with_warmup, get_linear_schedule_with_warmup

from workbench.plan.choices import Tuning
from workbench.training.schedule import learning_rate


def rates(schedule, steps=40, warmup_fraction=0.25, peak=0.2):
    choice = Tuning(learning_rate=peak, schedule=schedule, warmup_fraction=warmup_fraction)
    return [learning_rate(step, steps, choice) for step in range(steps)]


@pytest.mark.parametrize(
    ("schedule", "reference"),
    [("cosine", get_cosine_schedule_with_warmup), ("linear", get_linear_schedule_with_warmup)],
)
def test_decay_is_that_of_transformers(schedule, reference):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.2)
    scheduler = reference(optimizer, num_warmup_steps=10, num_training_steps=40)
    theirs = []
    for _ in range(40):
        theirs.append(scheduler.get_last_lr()[0])
        optimizer.step()
        scheduler.step()
    assert rates(schedule)[10:] == pytest.approx(theirs[10:], abs=1e-12)


def test_warm_up_rises_evenly_to_the_peak():
    assert rates("constant")[:10] == pytest.approx([0.2 * (step + 1) / 11 for step in range(10)])
    assert rates("constant")[10:] == [0.2] * 30


@pytest.mark.parametrize("schedule", ["constant", "linear", "cosine"])
@pytest.mark.parametrize("warmup_fraction", [0.0, 0.06, 1.0])
@pytest.mark.parametrize("steps", [1, 2, 7])
def test_no_step_is_wasted_on_a_rate_of_zero(schedule, warmup_fraction, steps):
    assert all(rate > 0 and math.isfinite(rate) for rate in rates(schedule, steps, warmup_fraction))

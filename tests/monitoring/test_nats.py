import pytest
import torch
from torch.nn import functional as F

from workbench.monitoring import nats


def drawn(targets, classes, *, dtype=torch.float32):
    draw = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(targets, classes, generator=draw)
    truth = torch.randint(classes, (targets,), generator=draw)
    logits[torch.arange(targets), truth] += 8
    return logits.to(dtype), truth


@pytest.mark.parametrize(("targets", "classes"), [(96, 49_152), (96, 50_257), (60_000, 24), (40_000, 2), (1, 5)])
def test_nats_are_those_of_float64_to_a_ten_millionth_of_a_target(targets, classes):
    logits, truth = drawn(targets, classes)
    exact = F.cross_entropy(logits.double(), truth, reduction="sum").item()
    assert nats.summed(logits, truth).item() / targets == pytest.approx(exact / targets, abs=2e-7)
    assert nats.summed(logits.requires_grad_(), truth).item() / targets == pytest.approx(exact / targets, abs=2e-7)


def test_the_sum_keeps_every_digit_of_the_single_losses():
    logits, truth = drawn(60_000, 24)
    single = F.cross_entropy(logits, truth, reduction="none").tolist()
    assert nats.summed(logits, truth).item() == pytest.approx(sum(single), rel=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("targets", "classes"), [(7, 3), (100, 24), (33, 5_000)])
def test_the_gradient_has_the_bits_of_plain_cross_entropy(targets, classes, dtype):
    logits, truth = drawn(targets, classes, dtype=dtype)
    ours, plain = logits.clone().requires_grad_(), logits.clone().requires_grad_()
    (nats.summed(ours, truth) / targets).backward()
    (F.cross_entropy(plain.float(), truth, reduction="sum") / targets).backward()
    assert torch.equal(ours.grad, plain.grad)


@pytest.mark.parametrize("classes", [3, 5_000])
def test_no_target_is_no_nats_and_what_is_not_finite_stays_so(classes):
    logits = torch.zeros(0, classes, requires_grad=True)
    nats.summed(logits, torch.zeros(0, dtype=torch.int64)).backward()
    assert logits.grad.shape == (0, classes)
    for value in (torch.nan, torch.inf):
        spoilt = torch.zeros(2, classes).index_fill_(1, torch.tensor([1]), value)
        for needed in (False, True):
            assert not nats.summed(spoilt.requires_grad_(needed), torch.tensor([0, 2])).isfinite()

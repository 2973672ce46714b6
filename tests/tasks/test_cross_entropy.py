import pytest
import torch
from torch.nn import functional as F

from workbench.tasks import cross_entropy


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
    assert cross_entropy.summed(logits, truth).item() / targets == pytest.approx(exact / targets, abs=2e-7)
    assert cross_entropy.summed(logits.requires_grad_(), truth).item() / targets == pytest.approx(
        exact / targets, abs=2e-7
    )


def test_the_sum_keeps_every_digit_of_the_single_losses():
    logits, truth = drawn(60_000, 24)
    single = F.cross_entropy(logits, truth, reduction="none").tolist()
    assert cross_entropy.summed(logits, truth).item() == pytest.approx(sum(single), rel=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("targets", "classes"), [(7, 3), (100, 24), (33, 5_000)])
def test_the_gradient_has_the_bits_of_plain_cross_entropy(targets, classes, dtype):
    logits, truth = drawn(targets, classes, dtype=dtype)
    ours, plain = logits.clone().requires_grad_(), logits.clone().requires_grad_()
    (cross_entropy.summed(ours, truth) / targets).backward()
    (F.cross_entropy(plain.float(), truth, reduction="sum") / targets).backward()
    assert torch.equal(ours.grad, plain.grad)


@pytest.mark.parametrize("classes", [3, 5_000])
def test_no_target_is_no_nats_and_what_is_not_finite_stays_so(classes):
    logits = torch.zeros(0, classes, requires_grad=True)
    cross_entropy.summed(logits, torch.zeros(0, dtype=torch.int64)).backward()
    assert logits.grad.shape == (0, classes)
    for value in (torch.nan, torch.inf):
        spoilt = torch.zeros(2, classes).index_fill_(1, torch.tensor([1]), value)
        for needed in (False, True):
            assert not cross_entropy.summed(spoilt.requires_grad_(needed), torch.tensor([0, 2])).isfinite()


@pytest.mark.parametrize(("targets", "classes"), [(400, 49_152), (100, 24), (33, 5_000)])
def test_a_layers_nats_and_gradient_are_those_that_all_logits_at_once_give_in_float64(targets, classes):
    draw = torch.Generator().manual_seed(0)
    hidden, weight = torch.randn(targets, 16, generator=draw), torch.randn(classes, 16, generator=draw)
    bias, truth = torch.randn(classes, generator=draw), torch.randint(classes, (targets,), generator=draw)
    ours = [value.clone().requires_grad_() for value in (hidden, weight, bias)]
    wide = [value.double().requires_grad_() for value in (hidden, weight, bias)]
    found = cross_entropy.of_layer(*ours, truth)
    exact = F.cross_entropy(F.linear(*wide), truth, reduction="sum")
    assert found.item() / targets == pytest.approx(exact.item() / targets, rel=1e-7)
    (found / targets).backward()
    (exact / targets).backward()
    for mine, its in zip(ours, wide, strict=True):
        assert (mine.grad - its.grad).norm() < 1e-6 * its.grad.norm()


@pytest.mark.parametrize("learns", [(True, False, False), (False, True, False), (False, False, True), (False,) * 3])
def test_a_layer_gets_no_gradient_that_is_not_wanted(learns):
    shapes = (2, 3), (5, 3), (5,)
    values = [torch.ones(shape).requires_grad_(is_needed) for shape, is_needed in zip(shapes, learns, strict=True)]
    found = cross_entropy.of_layer(*values, torch.tensor([0, 4]))
    assert found.requires_grad == any(learns)
    if any(learns):
        found.backward()
    assert tuple(value.grad is not None for value in values) == learns
    with torch.no_grad():
        assert cross_entropy.of_layer(*values, torch.tensor([0, 4])).item() == pytest.approx(found.item(), rel=1e-12)


def test_what_is_not_finite_in_a_layer_stays_so_and_no_target_is_no_nats():
    weight = torch.ones(5, 3, requires_grad=True)
    for value in (torch.nan, torch.inf):
        assert not cross_entropy.of_layer(torch.full((2, 3), value), weight, None, torch.tensor([0, 2])).isfinite()
    nothing = cross_entropy.of_layer(
        torch.zeros(0, 3, requires_grad=True), weight, None, torch.zeros(0, dtype=torch.int64)
    )
    nothing.backward()
    assert (nothing.item(), weight.grad.any().item()) == (0, False)


def test_in_bf16_a_layer_multiplies_in_bf16_and_counts_in_float64():
    draw = torch.Generator().manual_seed(0)
    hidden, weight = torch.randn(50, 16, generator=draw), torch.randn(5_000, 16, generator=draw)
    truth = torch.randint(5_000, (50,), generator=draw)
    hidden.requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        found = cross_entropy.of_layer(hidden, weight, None, truth)
        logits = F.linear(hidden, weight)
        exact = F.cross_entropy(logits.double(), truth, reduction="sum").item()
    assert (found.dtype, hidden.dtype) == (torch.float64, torch.float32)
    assert found.item() == pytest.approx(exact, rel=1e-6)
    found.backward()
    mine, hidden.grad = hidden.grad, None
    cross_entropy.summed(logits, truth).backward()
    assert (mine - hidden.grad).norm() < 0.01 * hidden.grad.norm()

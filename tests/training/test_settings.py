import pytest
import torch
import transformers as tf
from torch import nn

from workbench.plan.choices import Tuning
from workbench.training.settings import Settings, make_contiguous

GOOD = {
    "precision": "bf16", "channels_last": True, "attention": "eager", "fused": True, "threads": 2,
    "measured": ["bf16 2 × as fast"],
}  # fmt: skip


def test_what_is_noted_is_read_back():
    settings = Settings("bf16", True, "eager", False, 3, ("so", "and so"))
    assert Settings.from_dict(settings.to_dict()) == settings


@pytest.mark.parametrize(
    "nonsense",
    [
        None,
        [],
        "bf16",
        {},
        {**GOOD, "precision": "fp8"},
        {**GOOD, "precision": None},
        {**GOOD, "channels_last": 1},
        {**GOOD, "attention": "flash"},
        {**GOOD, "threads": 0},
        {**GOOD, "threads": 10**9},
        {**GOOD, "threads": True},
        {**GOOD, "measured": "words"},
        {**GOOD, "measured": ["a"] * 100},
        {**GOOD, "measured": ["a" * 10_000]},
        {**GOOD, "measured": ["a\0"]},
        {**GOOD, "more": 1},
        {name: value for name, value in GOOD.items() if name != "fused"},
    ],
)
def test_what_is_no_settings_is_not_read(nonsense):
    assert Settings.from_dict(GOOD) is not None
    assert Settings.from_dict(nonsense) is None


def test_what_the_plan_says_outright_wins():
    said = ("bf16 2 × as fast as fp32: taken", "eager attention 3 × as fast as torch's own: taken", "2 threads")
    noted = Settings("bf16", attention="eager", measured=said)
    assert noted.overridden_by(Tuning(precision="auto")) is noted
    assert noted.overridden_by(Tuning(precision="bf16")) is noted
    assert noted.overridden_by(Tuning(precision="fp32")) == Settings(
        "fp32", measured=("fp32, as the plan says", "2 threads")
    )


def test_laying_out_changes_no_value_and_can_be_undone():
    model = tf.ResNetForImageClassification(
        tf.ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic")
    )
    before = {name: value.clone() for name, value in model.state_dict().items()}
    parameters = list(model.parameters())
    Settings(channels_last=True).apply_to(model)
    weight = next(module.weight for module in model.modules() if isinstance(module, nn.Conv2d))
    assert weight.is_contiguous(memory_format=torch.channels_last)
    assert not weight.is_contiguous()
    make_contiguous(model)
    assert all(now is then for now, then in zip(model.parameters(), parameters, strict=True))
    assert all(torch.equal(value, before[name]) and value.is_contiguous() for name, value in model.state_dict().items())


def test_pixels_lie_as_the_convolutions_do_and_nothing_else_changes():
    batch = {"pixel_values": torch.rand(2, 3, 4, 5), "labels": torch.tensor([0, 1]), "mask": torch.ones(2, 1, 3, 3) > 0}
    moved = Settings(channels_last=True).to_device(batch, torch.device("cpu"))
    assert moved["pixel_values"].is_contiguous(memory_format=torch.channels_last)
    assert moved["mask"].stride() == batch["mask"].stride()
    assert all(torch.equal(moved[name], batch[name]) for name in batch)
    plain = Settings().to_device(batch, torch.device("cpu"))
    assert plain["pixel_values"].is_contiguous()


def test_a_plan_in_fp32_stays_so_inside_an_autocast_of_the_caller():
    device = torch.device("cpu")
    with torch.autocast("cpu", torch.bfloat16), Settings().autocast(device):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.float32
    with Settings(precision="bf16").autocast(device):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.bfloat16

"""EfficientNet-Lite gives what its publishers' own code gives, and behaves as any model of transformers does."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F
from transformers import AutoImageProcessor, AutoModelForImageClassification

from workbench import packs
from workbench.errors import PackError
from workbench.models import efficientnet_lite as lite

pytestmark = pytest.mark.slow  # the whole file takes some seconds


TINY = {"image_size": 32, "stem_channels": 8, "head_channels": 16, "stages": [[1, 3, 1, 1, 8], [2, 5, 2, 6, 16]]}


def tiny(**changes):
    torch.manual_seed(0)
    config = lite.EfficientNetLiteConfig(**{**TINY, "num_labels": 3, **changes})
    return lite.EfficientNetLiteForImageClassification(config).eval()


@pytest.mark.parametrize(
    ("width", "depth", "parameters"),
    [
        (1.0, 1.0, 4_652_008),
        (1.0, 1.1, 5_416_680),
        (1.1, 1.2, 6_092_072),
        (1.2, 1.4, 8_197_096),
        (1.4, 1.8, 13_006_568),
    ],
)
def test_sizes_of_lite0_to_lite4_are_the_published_ones(width, depth, parameters):
    with torch.device("meta"):
        config = lite.EfficientNetLiteConfig(num_labels=1000, width=width, depth=depth)
        model = lite.EfficientNetLiteForImageClassification(config)
    assert sum(p.numel() for p in model.parameters()) == parameters


@pytest.mark.parametrize("size", [7, 8, 9])
@pytest.mark.parametrize(("kernel", "stride"), [(3, 1), (3, 2), (5, 2), (1, 1)])
def test_same_padding(size, kernel, stride):
    convolution = lite.SameConv2d(2, 3, kernel_size=kernel, stride=stride, bias=False)
    image = torch.randn(1, 2, size, size)
    out = convolution(image)
    side = -(-size // stride)
    assert out.shape == (1, 3, side, side)
    total = max((side - 1) * stride + kernel - size, 0)  # the odd pixel goes right and below, as TensorFlow has it
    before, after = total // 2, total - total // 2
    padded = F.pad(image, (before, after, before, after))
    assert torch.equal(out, F.conv2d(padded, convolution.weight, stride=stride))


def test_it_is_saved_and_loaded_as_any_model(tmp_path):
    model, images = tiny(), torch.randn(2, 3, 32, 32)
    model.save_pretrained(tmp_path)
    loaded = AutoModelForImageClassification.from_pretrained(tmp_path)
    assert isinstance(loaded, lite.EfficientNetLiteForImageClassification)
    assert torch.equal(loaded(images).logits, model(images).logits)


def test_another_number_of_classes_gets_a_fresh_head(tmp_path):
    tiny().save_pretrained(tmp_path)
    loaded = AutoModelForImageClassification.from_pretrained(tmp_path, num_labels=5, ignore_mismatched_sizes=True)
    assert loaded.classifier.weight.shape == (5, 16)
    assert loaded.classifier.weight.std() > 0
    assert torch.equal(loaded.efficientnet_lite.stem[0].weight, tiny().efficientnet_lite.stem[0].weight)


def test_loss_is_the_mean_cross_entropy():
    model, images, labels = tiny(), torch.randn(4, 3, 32, 32), torch.tensor([0, 1, 2, 0])
    out = model(images, labels=labels)
    assert torch.allclose(out.loss, F.cross_entropy(out.logits, labels))


def test_skipped_blocks_keep_the_mean():
    block = tiny().efficientnet_lite.blocks[2]
    assert block.has_shortcut
    block.drop_rate = 0.5
    features = torch.randn(1, 16, 4, 4).expand(4000, -1, -1, -1)
    expected = block(features[:1])
    block.layers.eval()
    block.training = True
    out = block(features)
    skipped = (out == features).flatten(1).all(1)
    assert 0.45 < skipped.float().mean() < 0.55
    torch.testing.assert_close(out.mean(0, keepdim=True), expected, atol=0.1, rtol=0.1)


@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_pixels_become_x_minus_127_over_128(mode, tmp_path):
    lite.image_processor(lite.EfficientNetLiteConfig()).save_pretrained(tmp_path)
    processor = AutoImageProcessor.from_pretrained(tmp_path, backend="pil")
    values = np.random.default_rng(0).integers(0, 256, (224, 224, 3), dtype=np.uint8)
    image = Image.fromarray(values).convert(mode)
    pixels = processor(image, return_tensors="pt").pixel_values[0].double().permute(1, 2, 0)
    wanted = (torch.tensor(np.array(image.convert("RGB"))).double() - 127) / 128
    assert (pixels - wanted).abs().max() < 1e-6


def test_a_folder_without_weights_says_so(tmp_path):
    with pytest.raises(PackError, match=r"0 weight files \(\.pth\); expected one"):
        lite.convert(tmp_path, tmp_path / "out")


def test_other_weights_say_so(tmp_path):
    torch.save({"weight": torch.zeros(2)}, tmp_path / "other.pth")
    with pytest.raises(PackError, match=r"other\.pth does not hold the weights"):
        lite.convert(tmp_path, tmp_path / "out")


def test_published_weights_give_the_publishers_logits():
    folder = packs.get("efficientnet-lite0")
    model = AutoModelForImageClassification.from_pretrained(folder)
    images = torch.rand(4, 3, 224, 224, generator=torch.Generator().manual_seed(0)) * 2 - 1
    with torch.no_grad():
        logits = model(images).logits
    # Taken from the package efficientnet-lite-pytorch 0.1.0 on the same input.
    assert logits.argmax(1).tolist() == [21, 21, 21, 21]
    torch.testing.assert_close(logits.sum(1), torch.tensor([-75.2983, -73.9088, -70.6789, -72.2926]), atol=2e-3, rtol=0)
    first = torch.tensor([-2.9129, 0.2042, 0.9092, -0.2103, 0.9590])
    torch.testing.assert_close(logits[0, :5], first, atol=1e-4, rtol=0)
    assert json.loads((folder / "config.json").read_text())["model_type"] == "efficientnet_lite"

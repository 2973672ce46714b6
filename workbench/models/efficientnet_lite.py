"""EfficientNet-Lite as an ordinary transformers image classifier, and the conversion of its published weights.

The network is that of Tan and Le (arXiv 1905.11946) with the three changes of the Lite variants: it has no
squeeze-and-excite, it uses ReLU6 instead of swish, and its stem, head and outer stages do not grow with width and
depth. Importing this module registers it with the Auto classes, so `AutoModelForImageClassification` loads a saved
folder.

Left out: names of the ImageNet classes, which the published weights do not include.
"""

import math
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForImageClassification,
    PreTrainedConfig,
    PreTrainedModel,
    initialization,
)
from transformers.modeling_outputs import BaseModelOutputWithPoolingAndNoAttention, ImageClassifierOutputWithNoAttention
from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

from workbench.errors import PackError
from workbench.models.quiet import quiet

STAGES = (  # repeats, kernel size, stride, expansion, channels out: table 1 of the paper
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)


class EfficientNetLiteConfig(PreTrainedConfig):  # type: ignore[misc]
    """Configuration of an EfficientNet-Lite; the defaults are those of Lite0.

    Lite1 to Lite4 differ in (width, depth, image_size, dropout): (1.0, 1.1, 240, 0.2), (1.1, 1.2, 260, 0.3),
    (1.2, 1.4, 280, 0.3), (1.4, 1.8, 300, 0.3).
    """

    model_type = "efficientnet_lite"

    num_channels: int = 3
    image_size: int = 224  # pixels a side
    width: float = 1.0  # factor for the channels of the stages
    depth: float = 1.0  # factor for the repeats of the inner stages
    stages: list[list[int]] | tuple[tuple[int, ...], ...] = STAGES
    stem_channels: int = 32
    head_channels: int = 1280
    dropout: float = 0.2  # before the classifier
    drop_connect: float = (
        0.2  # upper limit of the probability of skipping a block, which grows from 0 at the first block
    )
    batch_norm_eps: float = 1e-3
    batch_norm_momentum: float = 0.01  # weight of the new batch


class SameConv2d(nn.Conv2d):
    """A convolution with TensorFlow's "SAME" padding: its output has ceil(input / stride) pixels per side."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 (torch uses this name)
        """Map (batch, channels in, height, width) to (batch, channels out, ceil(height/stride), ceil(width/stride))."""
        down, right = (self._padding_of(axis, input.shape[axis + 2]) for axis in (0, 1))
        padding = (right // 2, right - right // 2, down // 2, down - down // 2)
        return super().forward(F.pad(input, padding))

    def _padding_of(self, axis: int, size: int) -> int:
        kernel, stride = self.kernel_size[axis], self.stride[axis]
        return max((math.ceil(size / stride) - 1) * stride + kernel - size, 0)


def _convolution(config: EfficientNetLiteConfig, channels: tuple[int, int], **options: Any) -> list[nn.Module]:
    norm = nn.BatchNorm2d(channels[1], eps=config.batch_norm_eps, momentum=config.batch_norm_momentum)
    return [SameConv2d(*channels, bias=False, **options), norm]


class EfficientNetLiteBlock(nn.Module):
    """An inverted residual block: a widening 1×1, a depthwise and a narrowing 1×1 convolution (arXiv 1801.04381)."""

    def __init__(
        self,
        config: EfficientNetLiteConfig,
        channels: tuple[int, int],
        *,
        kernel_size: int,
        stride: int,
        expansion: int,
        drop_rate: float,
    ) -> None:
        super().__init__()
        wide = channels[0] * expansion
        widen = _convolution(config, (channels[0], wide), kernel_size=1)
        filter_each = _convolution(config, (wide, wide), kernel_size=kernel_size, stride=stride, groups=wide)
        narrow = _convolution(config, (wide, channels[1]), kernel_size=1)
        first = [*widen, nn.ReLU6()] if expansion > 1 else []
        self.layers = nn.Sequential(*first, *filter_each, nn.ReLU6(), *narrow)
        self.has_shortcut = stride == 1 and channels[0] == channels[1]
        self.drop_rate = drop_rate

    def forward(self, features: Tensor) -> Tensor:
        """Map (batch, channels in, height, width) to (batch, channels out, height / stride, width / stride)."""
        out: Tensor = self.layers(features)
        if not self.has_shortcut:
            return out
        if self.training and self.drop_rate:  # stochastic depth: these rows use the shortcut alone
            kept = torch.rand(len(out), 1, 1, 1, device=out.device) >= self.drop_rate
            out = out * kept / (1 - self.drop_rate)
        return features + out


def _blocks(config: EfficientNetLiteConfig) -> list[EfficientNetLiteBlock]:
    rows: list[tuple[tuple[int, int], int, int, int]] = []
    channels = config.stem_channels
    for index, (repeats, kernel_size, stride, expansion, base) in enumerate(config.stages):
        is_outer = index in (0, len(config.stages) - 1)
        out = _scaled_channels(base, config.width)
        for repeat in range(repeats if is_outer else math.ceil(repeats * config.depth)):
            rows.append(((channels, out), kernel_size, stride if repeat == 0 else 1, expansion))
            channels = out
    return [
        EfficientNetLiteBlock(
            config, pair, kernel_size=k, stride=s, expansion=e, drop_rate=config.drop_connect * i / len(rows)
        )
        for i, (pair, k, s, e) in enumerate(rows)
    ]


def _scaled_channels(base: int, width: float) -> int:
    """Return base × width rounded to a multiple of 8, at least 90 % of it, as the reference implementation does."""
    if width == 1.0:
        return base
    scaled = base * width
    rounded = max(8, int(scaled + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * scaled else rounded


class EfficientNetLitePreTrainedModel(PreTrainedModel):  # type: ignore[misc]
    """Base class of both models below: configuration and initialisation."""

    config_class = EfficientNetLiteConfig
    base_model_prefix = "efficientnet_lite"
    main_input_name = "pixel_values"
    _no_split_modules: ClassVar[list[str]] = ["EfficientNetLiteBlock"]

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, nn.Conv2d):
            initialization.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


class EfficientNetLiteModel(EfficientNetLitePreTrainedModel):
    """The network up to its pooled features."""

    def __init__(self, config: EfficientNetLiteConfig) -> None:
        super().__init__(config)
        stem = _convolution(config, (config.num_channels, config.stem_channels), kernel_size=3, stride=2)
        self.stem = nn.Sequential(*stem, nn.ReLU6())
        self.blocks = nn.ModuleList(_blocks(config))
        last = _scaled_channels(config.stages[-1][4], config.width)
        self.top = nn.Sequential(*_convolution(config, (last, config.head_channels), kernel_size=1), nn.ReLU6())
        self.post_init()

    def forward(self, pixel_values: Tensor, **_: Any) -> BaseModelOutputWithPoolingAndNoAttention:
        """Map images (batch, channels, height, width) to features, and to their mean (batch, head_channels)."""
        hidden = self.stem(pixel_values)
        for block in self.blocks:
            hidden = block(hidden)
        hidden = self.top(hidden)  # (batch, head_channels, height / 32, width / 32)
        return BaseModelOutputWithPoolingAndNoAttention(last_hidden_state=hidden, pooler_output=hidden.mean((2, 3)))


class EfficientNetLiteForImageClassification(EfficientNetLitePreTrainedModel):
    """The network with dropout and a linear classifier on its pooled features."""

    def __init__(self, config: EfficientNetLiteConfig) -> None:
        super().__init__(config)
        self.efficientnet_lite = EfficientNetLiteModel(config)
        self.dropout = nn.Dropout(config.dropout)
        self.classifier = nn.Linear(config.head_channels, config.num_labels)
        self.post_init()

    def forward(
        self, pixel_values: Tensor, labels: Tensor | None = None, **_: Any
    ) -> ImageClassifierOutputWithNoAttention:
        """Map images (batch, channels, height, width) to logits (batch, labels); with `labels`, to a mean loss too."""
        logits = self.classifier(self.dropout(self.efficientnet_lite(pixel_values).pooler_output))
        loss = None if labels is None else F.cross_entropy(logits, labels)
        return ImageClassifierOutputWithNoAttention(loss=loss, logits=logits)


AutoConfig.register(EfficientNetLiteConfig.model_type, EfficientNetLiteConfig, exist_ok=True)
AutoModel.register(EfficientNetLiteConfig, EfficientNetLiteModel, exist_ok=True)
AutoModelForImageClassification.register(EfficientNetLiteConfig, EfficientNetLiteForImageClassification, exist_ok=True)


def image_processor(config: EfficientNetLiteConfig) -> ViTImageProcessorPil:
    """Return a processor that maps PIL images to (x − 127) / 128 at the configured size, as the weights expect."""
    size = {"height": config.image_size, "width": config.image_size}
    channels = config.num_channels
    return ViTImageProcessorPil(
        size=size, do_convert_rgb=True, image_mean=[127 / 255] * channels, image_std=[128 / 255] * channels
    )


def convert(source: Path, target: Path) -> None:
    """Write the published Lite0 weights, with configuration and image processor, as a safetensors folder.

    Args:
        source: The legacy `.pth` file, or a folder that holds it at any depth.
        target: The folder to write; it is created if missing.

    Raises:
        PackError: There is not exactly one such file, or its weights are not those of Lite0.
    """
    files = [source] if source.is_file() else sorted(source.rglob("*.pth"))
    if len(files) != 1:
        raise PackError(f"{source} holds {len(files)} weight files (.pth); expected one", hint="fetch the pack again")
    published = torch.load(files[0], map_location="cpu", weights_only=True)
    model = EfficientNetLiteForImageClassification(EfficientNetLiteConfig(num_labels=1000))
    own = model.state_dict()
    if [v.shape for v in own.values()] != [v.shape for v in published.values()]:
        raise PackError(f"{files[0].name} does not hold the weights of EfficientNet-Lite0", hint="fetch the pack again")
    model.load_state_dict(dict(zip(own, published.values(), strict=True)))  # both list their layers in forward order
    with quiet():
        model.save_pretrained(target)
        image_processor(model.config).save_pretrained(target)

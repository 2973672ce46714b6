"""Turns an EfficientNet-Lite into the EfficientNet of transformers, which every program can load.

The two differ in one layer: a block of EfficientNet also multiplies its channels by weights between 0 and 1
(squeeze-and-excite). Here these weights are 1 for any image, because they are sigmoid(0 · x + 100), which is 1.0 in
float32. So both give the same logits up to rounding.
"""

import math
from typing import Any

import torch

_ALWAYS_ONE = 100.0  # its sigmoid is 1.0, and the gradient of that is 0, so training keeps it


def as_stock(model: Any, *, image_size: int | None = None) -> Any:
    """Return the same network as a class of transformers, in eval mode; the model itself if it is one, or can't be.

    It can't be if the image size is odd or the stem or the top have other widths: EfficientNet fixes these.

    Args:
        model: An EfficientNet-Lite, or any other model.
        image_size: The size of the images that it is for, in pixels a side; by default that of its config.
    """
    from transformers import EfficientNetConfig, EfficientNetForImageClassification

    from workbench.models.efficientnet_lite import EfficientNetLiteForImageClassification, _scaled_channels

    if not isinstance(model, EfficientNetLiteForImageClassification):
        return model
    lite, side = model.config, image_size or model.config.image_size
    outs = [_scaled_channels(base, lite.width) for *_, base in lite.stages]
    last = len(lite.stages) - 1
    repeats = [n if i in (0, last) else math.ceil(n * lite.depth) for i, (n, *_) in enumerate(lite.stages)]
    config = EfficientNetConfig(
        num_channels=lite.num_channels,
        image_size=side,
        width_coefficient=1.0,
        depth_coefficient=1.0,
        kernel_sizes=[kernel for _, kernel, *_ in lite.stages],
        in_channels=[lite.stem_channels, *outs[:-1]],
        out_channels=outs,
        depthwise_padding=_odd(lite, repeats, side),
        strides=[stride for _, _, stride, *_ in lite.stages],
        num_block_repeats=repeats,
        expand_ratios=[expansion for *_, expansion, _ in lite.stages],
        squeeze_expansion_ratio=1e-6,  # one channel, which is the least
        hidden_act="relu6",
        hidden_dim=lite.head_channels,
        batch_norm_eps=lite.batch_norm_eps,
        batch_norm_momentum=lite.batch_norm_momentum,
        dropout_rate=lite.dropout,
        drop_connect_rate=lite.drop_connect,
        id2label=lite.id2label,
        label2id=lite.label2id,
    )
    if side % 2 or (lite.stem_channels, lite.head_channels) != (32, 1280):
        return model
    stock = EfficientNetForImageClassification(config)
    _copy(model, stock)
    return stock.to(next(model.parameters()).dtype).eval()


def _odd(lite: Any, repeats: list[int], side: int) -> list[int]:
    """Return the numbers of the blocks that halve an odd number of pixels, which pads both sides alike."""
    odd: list[int] = []
    number, size = 0, math.ceil(side / 2)
    for count, (_, _, stride, *_) in zip(repeats, lite.stages, strict=True):
        if stride == 2:
            odd += [number] * (size % 2)
            size = math.ceil(size / 2)
        number += count
    return odd


@torch.no_grad()
def _copy(lite: Any, stock: Any) -> None:
    """Copy all weights and statistics: both list their layers in the order in which they compute."""
    own = {name: tensor for name, tensor in stock.state_dict().items() if ".squeeze_excite." not in name}
    for mine, theirs in zip(own.values(), lite.state_dict().values(), strict=True):
        mine.copy_(theirs)
    for name, tensor in stock.state_dict().items():
        if name not in own:
            tensor.fill_(_ALWAYS_ONE if name.endswith("expand.bias") else 0.0)

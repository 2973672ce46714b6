"""Low-rank adapters (LoRA, arXiv 2106.09685) beside the layers of chosen blocks, by PEFT.

An adapter adds B·A·x · alpha / rank to the output of its layer. B starts at zero, so nothing changes at step 0. Every
linear layer and every ungrouped convolution of a block gets one. Left out: embeddings, heads, weights outside of layers
(fused experts), and layers whose weight is read without calling them (the output projection in `MultiheadAttention` of
torch), where an adapter would have no effect.
"""

import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from workbench.errors import PlanError
from workbench.models.blocks import Block
from workbench.plan.choices import Transfer

if TYPE_CHECKING:
    from torch import Tensor, nn

BASE = ".base_layer"  # PEFT inserts it between the path of an adapted layer and the names of its weights
ADAPTER = re.compile(r"\.lora_(A|B)\.")


def is_adapter(name: str) -> bool:
    """Return whether a parameter of that name belongs to an adapter."""
    return ADAPTER.search(name) is not None


def own_name(name: str) -> str:
    """Return the name that a parameter had before adapters were inserted."""
    return name.replace(BASE, "")


def targets(model: "nn.Module", blocks: Sequence[Block]) -> "dict[str, nn.Module]":
    """Return path -> layer for every layer of the blocks that can have an adapter."""
    from torch import nn

    found: dict[str, nn.Module] = {}
    for prefix in (path for block in blocks for path in block.modules):
        unread: set[nn.Module] = set()
        for path, module in model.get_submodule(prefix).named_modules(prefix=prefix):
            if isinstance(module, nn.MultiheadAttention):
                unread |= {*module.modules()}
            if _fits(module) and module not in unread and not path.endswith(BASE) and not is_adapter(f"{path}."):
                found[path] = module
    return found


def _fits(layer: Any) -> bool:
    from torch import nn
    from transformers.pytorch_utils import Conv1D

    layer = getattr(layer, "base_layer", layer)
    for kind in (nn.Conv1d, nn.Conv2d, nn.Conv3d):
        if isinstance(layer, kind):
            is_plain = type(layer).__init__ is kind.__init__ and layer.padding_mode == "zeros"
            return is_plain and layer.groups == 1 and {*layer.dilation} == {1}  # PEFT's A would not dilate
    return isinstance(layer, (nn.Linear, Conv1D))


def adapter_size(layer: Any, rank: int) -> int:
    """Return the number of weights in A and B of an adapter of that rank for the layer."""
    weight = getattr(layer, "base_layer", layer).weight
    if weight.ndim > 2:
        return int(rank * (weight[0].numel() + weight.shape[0]))  # A: the convolution's kernel; B: 1×1
    return int(rank * sum(weight.shape))


def inject(model: "nn.Module", layers: "Mapping[str, nn.Module]", choice: Transfer, *, seed: int) -> None:
    """Insert an adapter into each of the layers that has none, in place; A is drawn from the seed and B is zero.

    Raises:
        PlanError: There is no layer.
    """
    from peft import LoraConfig, inject_adapter_in_model
    from torch import nn

    from workbench.seeding import seeded

    if not layers:
        raise PlanError("these blocks have no layer that an adapter fits", hint="method='weights'")
    layers = {path: layer for path, layer in layers.items() if not hasattr(layer, "base_layer")}
    if not layers:
        return
    # PEFT is given these layers only: given the model, it would choose others too in some mixtures of experts.
    held = nn.ModuleDict({str(index): layer for index, layer in enumerate(layers.values())})
    config = LoraConfig(
        r=choice.lora_rank,
        lora_alpha=choice.lora_alpha,
        lora_dropout=choice.lora_dropout,
        target_modules=list(held),
    )
    with seeded(seed), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PEFT warns that GPT-2's Conv1D is transposed, but handles it
        inject_adapter_in_model(config, held)
    for (path, layer), adapted in zip(layers.items(), held.values(), strict=True):
        _show_settings(adapted)
        model.set_submodule(path, adapted.train(layer.training))


def _show_settings(adapted: Any) -> None:
    """Copy plain attributes from the base layer to the adapted layer: some models read the stride of a convolution."""
    for name, value in vars(adapted.base_layer).items():
        if not name.startswith("_") and not hasattr(adapted, name):
            setattr(adapted, name, value)


def fold(model: "nn.Module") -> Any:
    """Fold the adapters of a model into its weights, in place; return it, equal up to rounding.

    It is then an ordinary model: `save_pretrained` writes it, and plain transformers reads it.
    """
    from peft.tuners.tuners_utils import BaseTunerLayer

    for path, layer in list(model.named_modules()):
        if isinstance(layer, BaseTunerLayer):
            layer.merge()
            model.set_submodule(path, layer.get_base_layer())
    return model


def resting_norms(model: "nn.Module", blocks: Sequence[Block]) -> "Iterator[nn.Module]":
    """Yield the norms with running statistics in blocks with adapters; these norms stay in eval mode."""
    from torch.nn.modules.batchnorm import _NormBase

    for block in blocks:
        modules = [module for path in block.modules for module in model.get_submodule(path).modules()]
        if any(hasattr(module, "lora_A") for module in modules):
            yield from (module for module in modules if isinstance(module, _NormBase) and module.track_running_stats)


def changes(model: "nn.Module") -> "Iterator[tuple[str, Tensor, Tensor]]":
    """Yield for each adapted layer the name of its weight, the weight, and what the adapter adds to it."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    for path, layer in model.named_modules():
        if isinstance(layer, BaseTunerLayer):
            for adapter in layer.active_adapters:
                yield f"{path}.weight", layer.get_base_layer().weight, layer.get_delta_weight(adapter)

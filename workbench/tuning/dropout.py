"""Dropout as a hyperparameter: one probability for every place in a model that drops anything."""

from torch import nn

_KINDS = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d)


def set_dropout(model: nn.Module, probability: float) -> int:
    """Set every dropout of the model to `probability`; return how many places were set.

    Places are dropout modules, and the float attributes such as Llama's `attention_dropout` that a forward pass reads
    instead of a module. LoRA adapters keep their own (`lora_dropout`).
    """
    places = 0
    for path, module in model.named_modules():
        if "lora_" in path:
            continue
        if isinstance(module, _KINDS):
            module.p = probability
            places += 1
        for name in [n for n, value in vars(module).items() if n.endswith("dropout") and isinstance(value, float)]:
            setattr(module, name, probability)
            places += 1
    return places

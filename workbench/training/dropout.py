"""Dropout as a hyperparameter: one probability for every dropout layer of a model."""

from torch import nn

_KINDS = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d)


def set_dropout(model: nn.Module, probability: float) -> tuple[str, ...]:
    """Set every dropout of the model to `probability`; return the paths of the modules that have one.

    This covers dropout modules, and float attributes that a forward pass reads instead of a module, such as Llama's
    `attention_dropout`. LoRA adapters keep their own probability (`lora_dropout`).
    """
    own = [(path, module) for path, module in model.named_modules() if "lora_" not in path]
    return tuple(path for path, module in own if _set(module, probability))


def _set(module: nn.Module, probability: float) -> bool:
    names = [name for name, value in vars(module).items() if name.endswith("dropout") and isinstance(value, float)]
    if isinstance(module, _KINDS):
        names.append("p")
    for name in names:
        setattr(module, name, probability)
    return bool(names)

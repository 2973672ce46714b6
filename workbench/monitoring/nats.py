"""Cross-entropy counted well enough to be proven: nats summed in float64, exact to 1e-6 a target.

Two things spoil a loss that is counted in fp32. The sum loses digits over many thousand targets. And over the 49,000
words of a language model, log-softmax adds so many exponentials up in a row that its probabilities do not add up to
one: SmolLM2's loss comes out 1.5e-5 nats too low at every target alike, so that no averaging helps. Here what they
do add up to, a few thousand at a time, is put right. The gradient is left as fp32 gives it.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

CHUNK = 4096  # probabilities that are added up in fp32 before float64 takes over


def summed(logits: Tensor, targets: Tensor) -> Tensor:
    """Return the cross-entropy summed over the targets, a scalar in nats; float64 where the device has it.

    Backward gives the very bits that `F.cross_entropy(logits.float(), targets, reduction="sum")` gives.

    Args:
        logits: What the model says, in any precision.  # (targets, classes)
        targets: True classes, none of them left out.  # (targets,)
    """
    widest = torch.float32 if logits.device.type == "mps" else torch.float64  # Apple's GPUs have no float64
    said = F.log_softmax(logits.float(), dim=-1)  # (targets, classes)
    nats = F.nll_loss(said, targets, reduction="none").sum(dtype=widest)
    if logits.shape[-1] <= CHUNK:
        return nats
    with torch.no_grad():
        masses = [chunk.exp().sum(-1).to(widest) for chunk in said.split(CHUNK, dim=-1)]  # (targets,) each
        excess = torch.stack(masses).sum(0).log().sum()
    return nats + excess

"""Cross-entropy counted well enough to be proven: nats summed in float64, exact to 1e-6 a target.

Two things spoil a loss that is counted in fp32. The sum loses digits over many thousand targets. And over the 49,000
words of a language model, log-softmax adds so many exponentials up in a row that its probabilities do not add up to
one: SmolLM2's loss comes out 1.5e-5 nats too low at every target alike, so that no averaging helps. Here what they
do add up to, a few thousand at a time, is put right. The gradient of `summed` is left as fp32 gives it.

`of_layer` counts the same for a linear output layer, a few hundred targets at a time, so that their logits never exist
all at once. Left out: layers that are no plain matrix, and gradients of gradients.
"""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

CHUNK = 4096  # probabilities that are added up in fp32 before float64 takes over
LOGITS = 2**24  # that `of_layer` holds at a time: 64 MB in fp32, 341 targets of 49,152 words


def summed(logits: Tensor, targets: Tensor) -> Tensor:
    """Return the cross-entropy summed over the targets, a scalar in nats; float64 where the device has it.

    Backward gives the very bits that `F.cross_entropy(logits.float(), targets, reduction="sum")` gives.

    Args:
        logits: What the model says, in any precision.  # (targets, classes)
        targets: True classes, none of them left out.  # (targets,)
    """
    said = F.log_softmax(logits.float(), dim=-1)  # (targets, classes)
    nats = F.nll_loss(said, targets, reduction="none").sum(dtype=_widest(logits))
    if logits.shape[-1] <= CHUNK:
        return nats
    with torch.no_grad():
        excess = _excess((chunk.exp() for chunk in said.split(CHUNK, dim=-1)), nats.dtype)
    return nats + excess


def of_layer(hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor) -> Tensor:
    """Return the summed cross-entropy of the logits `hidden @ weight.T + bias`, as `summed` would.

    Under autocast the products are taken in its precision, from a weight that is cast once, and softmax in fp32; what
    its exponentials add up to is counted in float64, for the gradient as well.
    The gradient is made on the way, chunk by chunk, and only for what needs one (as Liger Kernel's fused linear
    cross-entropy does, arXiv 2410.10989).

    Args:
        hidden: What enters the output layer at each target.  # (targets, width)
        weight: Its matrix.  # (classes, width)
        bias: Its bias, if it has one.  # (classes,)
        targets: True classes, none of them left out.  # (targets,)
    """
    nats: Tensor = _OfLayer.apply(hidden, weight, bias, targets)  # type: ignore[no-untyped-call]
    return nats


class _OfLayer(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor) -> Tensor:
        kind, values = hidden.device.type, (hidden, weight, bias)
        precision = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else weight.dtype
        matrix, offset = weight.to(precision), None if bias is None else bias.to(precision)
        slopes = [
            torch.zeros_like(value, dtype=torch.float32) if value is not None and is_needed else None
            for value, is_needed in zip(values, ctx.needs_input_grad, strict=False)
        ]
        nats = torch.zeros((), dtype=_widest(hidden), device=hidden.device)
        with torch.autocast(kind, enabled=False):
            room = _Room(matrix, offset, min(len(targets), _at_a_time(len(weight))))
            for start in range(0, len(targets), max(1, room.rows)):
                rows = slice(start, start + room.rows)
                some = hidden[rows].to(precision)  # (some, width)
                nats += room.nats(some, targets[rows])
                if any(ctx.needs_input_grad):
                    _add(slopes, rows, room.slope(targets[rows]), some, matrix)
        ctx.dtypes = [None if value is None else value.dtype for value in values]
        ctx.save_for_backward(*slopes)
        return nats

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, scale: Tensor) -> tuple[Tensor | None, ...]:
        found = zip(ctx.saved_tensors, ctx.dtypes, strict=True)
        return (*(None if slope is None else (slope * scale.float()).to(dtype) for slope, dtype in found), None)


def _at_a_time(classes: int) -> int:
    return max(1, LOGITS // classes)


class _Room:
    """Room for the logits of some targets, used again and again: memory that is fresh costs as much as the arithmetic.

    Args:
        matrix: Of the layer, in the precision of its products.  # (classes, width)
        offset: Its bias, if it has one.  # (classes,)
        rows: For how many targets there is room.
    """

    def __init__(self, matrix: Tensor, offset: Tensor | None, rows: int) -> None:
        self.matrix, self.offset, self.rows = matrix, offset, rows
        self.logits = matrix.new_empty(rows, len(matrix))
        self.shares = (
            self.logits if matrix.dtype == torch.float32 else torch.empty_like(self.logits, dtype=torch.float32)
        )
        self.mass = torch.empty(0)  # what the exponentials of each target add up to  # (some,)

    def nats(self, hidden: Tensor, targets: Tensor) -> Tensor:
        """Return the summed nats of some targets; the exponentials of their logits stay, less the largest."""
        some, transposed = slice(len(targets)), self.matrix.t()
        logits, shares = self.logits[some], self.shares[some]  # (some, classes)
        if self.offset is None:
            torch.mm(hidden, transposed, out=logits)
        else:
            torch.addmm(self.offset, hidden, transposed, out=logits)
        if self.shares is not self.logits:
            shares.copy_(logits)
        shares -= shares.amax(-1, keepdim=True)
        true = shares.gather(-1, targets.unsqueeze(1)).squeeze(1).to(_widest(hidden))
        shares.exp_()
        self.mass = _mass(shares.split(CHUNK, dim=-1), true.dtype)
        return (self.mass.log() - true).sum()

    def slope(self, targets: Tensor) -> Tensor:
        """Return the gradient of those nats by the logits, in the precision of the products."""
        some = slice(len(targets))
        shares = self.shares[some]
        shares *= self.mass.reciprocal().float().unsqueeze(1)
        shares[torch.arange(len(targets), device=targets.device), targets] -= 1
        return shares if self.shares is self.logits else self.logits[some].copy_(shares)


def _add(slopes: list[Tensor | None], rows: slice, slope: Tensor, hidden: Tensor, matrix: Tensor) -> None:
    """Add what some targets give to the gradients of hidden (theirs alone), weight and bias, where one is wanted."""
    for_hidden, for_weight, for_bias = slopes
    if for_hidden is not None:
        for_hidden[rows] = slope @ matrix
    if for_weight is not None and for_weight.dtype == slope.dtype:
        for_weight.addmm_(slope.T, hidden)
    elif for_weight is not None:
        for_weight += slope.T @ hidden
    if for_bias is not None:
        for_bias += slope.sum(0, dtype=for_bias.dtype)


def _excess(probabilities: Iterable[Tensor], precision: torch.dtype) -> Tensor:
    """Return the logarithm of what each target's probabilities add up to, summed over the targets, in nats."""
    return _mass(probabilities, precision).log().sum()


def _mass(parts: Iterable[Tensor], precision: torch.dtype) -> Tensor:
    """Return what the parts of each row add up to, for every row."""
    return torch.stack([part.sum(-1).to(precision) for part in parts]).sum(0)


def _widest(logits: Tensor) -> torch.dtype:
    return torch.float32 if logits.device.type == "mps" else torch.float64  # Apple's GPUs have no float64

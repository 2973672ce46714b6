"""Cross-entropy with a proven accuracy of 1e-6 nats per target: the losses of the targets are summed in float64.

A loss computed in fp32 has two errors. The sum over many thousand targets loses digits. And in a vocabulary of 49,000
words, log-softmax adds up so many exponentials in fp32 that its probabilities do not sum to one: the loss of SmolLM2
is 1.5e-5 nats too low at every target, and averaging does not remove this error. This module sums the probabilities
in chunks of a few thousand, adds the chunks in float64, and corrects the loss by the logarithm of that sum. The
gradient of `summed` is the usual fp32 gradient.

`of_layer` computes the same loss from the inputs of a linear output layer, for a few hundred targets at a time, so
that the logits of all targets never exist at once.

Left out: output layers that are not a plain matrix product, and second derivatives.
"""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

CHUNK = 4096  # probabilities that are summed in fp32; the chunks are then added in float64
LOGITS = 2**24  # logits that `of_layer` holds at a time: 64 MB in fp32, 341 targets of 49,152 words


def summed(logits: Tensor, targets: Tensor) -> Tensor:
    """Return the cross-entropy summed over the targets, a scalar in nats; float64 where the device supports it.

    The gradient has the same bits as that of `F.cross_entropy(logits.float(), targets, reduction="sum")`.

    Args:
        logits: The model's logits, in any precision.  # (targets, classes)
        targets: True classes; IGNORED is not allowed.  # (targets,)
    """
    log_probabilities = F.log_softmax(logits.float(), dim=-1)  # (targets, classes)
    nats = F.nll_loss(log_probabilities, targets, reduction="none").sum(dtype=_widest(logits))
    if logits.shape[-1] <= CHUNK:
        return nats
    with torch.no_grad():
        sums = _sum((chunk.exp() for chunk in log_probabilities.split(CHUNK, dim=-1)), nats.dtype)  # 1 but for rounding
    return nats + sums.log().sum()


def of_layer(hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor) -> Tensor:
    """Return the summed cross-entropy of the logits `hidden @ weight.T + bias`, as `summed` would.

    Under autocast the matrix products use its precision, with a weight that is cast once. Softmax runs in fp32, and
    the sum of its exponentials in float64, also for the gradient. Forward computes the gradients as well, chunk by
    chunk and only for the tensors that need one, as the fused linear cross-entropy of Liger Kernel does
    (arXiv 2410.10989).

    Args:
        hidden: Inputs of the output layer at the targets.  # (targets, width)
        weight: Weight matrix of the layer.  # (classes, width)
        bias: Bias of the layer, if it has one.  # (classes,)
        targets: True classes; IGNORED is not allowed.  # (targets,)
    """
    nats: Tensor = _OfLayer.apply(hidden, weight, bias, targets)  # type: ignore[no-untyped-call]
    return nats


class _OfLayer(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor) -> Tensor:
        kind, values = hidden.device.type, (hidden, weight, bias)
        precision = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else weight.dtype
        matrix, offset = weight.to(precision), None if bias is None else bias.to(precision)
        gradients = [
            torch.zeros_like(value, dtype=torch.float32) if value is not None and is_needed else None
            for value, is_needed in zip(values, ctx.needs_input_grad, strict=False)
        ]
        nats = torch.zeros((), dtype=_widest(hidden), device=hidden.device)
        with torch.autocast(kind, enabled=False):
            buffer = _Buffer(matrix, offset, min(len(targets), max(1, LOGITS // len(weight))))
            for start in range(0, len(targets), max(1, buffer.rows)):
                rows = slice(start, start + buffer.rows)
                chunk = hidden[rows].to(precision)  # (chunk, width)
                nats += buffer.nats(chunk, targets[rows])
                if any(ctx.needs_input_grad):
                    _add(gradients, rows, buffer.gradient(targets[rows]), chunk, matrix)
        ctx.dtypes = [None if value is None else value.dtype for value in values]
        ctx.save_for_backward(*gradients)
        return nats

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, scale: Tensor) -> tuple[Tensor | None, ...]:
        pairs = zip(ctx.saved_tensors, ctx.dtypes, strict=True)
        return (*(None if grad is None else (grad * scale.float()).to(dtype) for grad, dtype in pairs), None)


class _Buffer:
    """A buffer for the logits of one chunk of targets.

    All chunks use the same memory, because allocating it anew costs as much time as the arithmetic.

    Args:
        matrix: Weight matrix of the layer, in the precision of its products.  # (classes, width)
        offset: Bias of the layer, if it has one.  # (classes,)
        rows: Number of targets that the buffer has room for.
    """

    def __init__(self, matrix: Tensor, offset: Tensor | None, rows: int) -> None:
        self.matrix, self.offset, self.rows = matrix, offset, rows
        self.logits = matrix.new_empty(rows, len(matrix))
        self.probabilities = (  # first the shifted logits, then their exponentials, then the probabilities
            self.logits if matrix.dtype == torch.float32 else torch.empty_like(self.logits, dtype=torch.float32)
        )
        self.sums = torch.empty(0)  # sum of the exponentials of each target  # (chunk,)

    def nats(self, hidden: Tensor, targets: Tensor) -> Tensor:
        """Return the summed loss of a chunk in nats; keep the exponentials of its logits (minus the largest logit)."""
        chunk, transposed = slice(len(targets)), self.matrix.t()
        logits, exponentials = self.logits[chunk], self.probabilities[chunk]  # (chunk, classes)
        if self.offset is None:
            torch.mm(hidden, transposed, out=logits)
        else:
            torch.addmm(self.offset, hidden, transposed, out=logits)
        if self.probabilities is not self.logits:
            exponentials.copy_(logits)
        exponentials -= exponentials.amax(-1, keepdim=True)
        true = exponentials.gather(-1, targets.unsqueeze(1)).squeeze(1).to(_widest(hidden))
        exponentials.exp_()
        self.sums = _sum(exponentials.split(CHUNK, dim=-1), true.dtype)
        return (self.sums.log() - true).sum()

    def gradient(self, targets: Tensor) -> Tensor:
        """Return the gradient of that loss with respect to the logits, in the precision of the products."""
        chunk = slice(len(targets))
        gradient = self.probabilities[chunk]
        gradient *= self.sums.reciprocal().float().unsqueeze(1)  # softmax
        gradient[torch.arange(len(targets), device=targets.device), targets] -= 1
        return gradient if self.probabilities is self.logits else self.logits[chunk].copy_(gradient)


def _add(gradients: list[Tensor | None], rows: slice, of_logits: Tensor, hidden: Tensor, matrix: Tensor) -> None:
    """Add the share of one chunk to the gradients of hidden (only its rows), weight and bias that are needed."""
    of_hidden, of_weight, of_bias = gradients
    if of_hidden is not None:
        of_hidden[rows] = of_logits @ matrix
    if of_weight is not None and of_weight.dtype == of_logits.dtype:
        of_weight.addmm_(of_logits.T, hidden)
    elif of_weight is not None:
        of_weight += of_logits.T @ hidden
    if of_bias is not None:
        of_bias += of_logits.sum(0, dtype=of_bias.dtype)


def _sum(parts: Iterable[Tensor], precision: torch.dtype) -> Tensor:
    """Return the sum of each row, whose columns are split into `parts`."""
    return torch.stack([part.sum(-1).to(precision) for part in parts]).sum(0)


def _widest(logits: Tensor) -> torch.dtype:
    return torch.float32 if logits.device.type == "mps" else torch.float64  # Apple's GPUs have no float64

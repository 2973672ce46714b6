"""Proves that a model can start at a cut: with NaN from below the cut, and by its logits and gradients.

Left out: finding a candidate for a cut (find_cut.py).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from workbench.speed.prefix_cache.cut import ROWS, TIME, Cut, UncuttableError
from workbench.speed.prefix_cache.patch import ReplaceArguments, patched, replace_activations, start_at_cut
from workbench.speed.prefix_cache.record_calls import Recording

CLOSE = 1e-5  # tolerance for rounding, relative to the largest logit


@dataclass(frozen=True)
class ProbeBatch:
    """A real batch, and a function that runs the model on it.

    Attributes:
        run: Runs the model and returns its logits.
        rows: Number of rows in the batch.
        time: Positions per row; 0 if rows are not sequences.
    """

    run: Callable[[], Tensor]
    rows: int
    time: int


ProbeBatches = tuple[ProbeBatch, ProbeBatch]  # they differ in rows and, if rows can differ in length, in time


@dataclass(frozen=True)
class Prover:
    """Tests cuts of a model on one batch.

    Attributes:
        model: The model.
        batch: The batch.
        recording: What happened when the whole model ran the batch.
        cut: The cut that skips as many modules as possible.
    """

    model: nn.Module
    batch: ProbeBatch
    recording: Recording
    cut: Cut

    def skip_most(self, blocks: set[str]) -> Cut:
        """Return a proven cut that skips all candidates, or else the blocks and each other module that can be skipped.

        Some modules that run before the entry, such as rotary position tables, are also read by the blocks above it.
        They can't be skipped.

        Args:
            blocks: Paths of the candidates in the repeated blocks; skipping these saves the most.

        Raises:
            UncuttableError: The blocks can't be skipped.
        """
        try:
            return self.prove(self.cut)
        except UncuttableError as error:
            if not blocks:
                raise
            reason = error
        try:
            cut = self.prove(self._with_skipped(blocks))
        except UncuttableError:
            raise reason from None
        for path in self.cut.skipped.keys() - blocks:
            try:
                cut = self.prove(self._with_skipped({*cut.skipped, path}))
            except UncuttableError:
                continue
        return cut

    def _with_skipped(self, paths: set[str]) -> Cut:
        skipped = {path: stand_in for path, stand_in in self.cut.skipped.items() if path in paths}
        return replace(self.cut, skipped=skipped)

    def prove(self, cut: Cut) -> Cut:
        """Return the cut with its slots, found by letting the skipped modules return NaN.

        Raises:
            UncuttableError: NaN reaches the logits, or the entry can't start from one cached value.
        """
        true, found = self.recording.inputs, list[int]()

        def replace_arguments(leaves: list[Any]) -> list[Any]:
            found.extend(index for index, leaf in enumerate(leaves) if _has_nan(leaf))
            return [true[index] if index in found else leaf for index, leaf in enumerate(leaves)]

        try:
            logits = self._logits(cut, replace_arguments, fill=torch.nan)
        except Exception as error:  # a forward may raise anything at NaN
            raise UncuttableError(f"{cut.boundary} can't start from cached activations: {error}") from None
        if not found:
            raise UncuttableError(f"{cut.boundary} reads no activations that can be cached")
        if not is_close(logits, self.recording.logits):
            raise UncuttableError(
                f"the activations of the frozen blocks are read elsewhere than by {cut.boundary}, too"
            )
        if any(true[index] is not true[found[0]] for index in found):
            raise UncuttableError(f"{cut.boundary} reads {len(found)} different values from the frozen blocks")
        return replace(cut, slots=tuple(found))

    def _logits(self, cut: Cut, replace_arguments: ReplaceArguments, fill: float = 0.0) -> Tensor:
        rows, time = self.batch.rows, self.batch.time
        with torch.no_grad(), patched(self.model, cut, rows, time, replace_arguments, fill=fill):
            return self.batch.run()

    def narrow_to_first(self, cut: Cut) -> Cut:
        """Return the cut with only the first position of each row cached, if the upper part reads no other."""
        axis = cut.shape.axis(TIME)
        axis = 1 if axis is None and len(cut.shape.sizes) == 3 else axis
        if axis is None or cut.shape.axis(ROWS) != 0 or self._reads_beyond_first(cut, axis):
            return cut
        sizes = tuple(1 if dimension == axis else size for dimension, size in enumerate(cut.shape.sizes))
        narrow = replace(cut, shape=replace(cut.shape, sizes=sizes), first_of=axis)
        first = self.recording.inputs[cut.slots[0]].narrow(axis, 0, 1)
        try:
            logits = self._logits(narrow, replace_activations(cut, first))
        except Exception:  # its forward needs every position
            return cut
        return narrow if is_close(logits, self.recording.logits) else cut

    def check_above(self, cut: Cut) -> None:
        """Compare the logits and the gradients of trainable parameters between the whole model and a start at the cut.

        Raises:
            UncuttableError: They differ.
        """
        trainable = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        value = self.recording.inputs[cut.slots[0]]
        value = value if cut.first_of is None else value.narrow(cut.first_of, 0, 1)
        with torch.enable_grad():
            whole = gradients(self.batch.run(), trainable)
            with start_at_cut(self.model, cut, value, rows=self.batch.rows, time=self.batch.time):
                logits = self.batch.run()
                above = gradients(logits, trainable)
        if not is_close(logits.detach(), self.recording.logits):
            raise UncuttableError(f"the logits differ if the model starts at {cut.boundary}")
        for one, other in zip(whole, above, strict=True):
            is_same = one is other if one is None or other is None else is_close(other, one, tolerance=1e-4)
            if not is_same:
                raise UncuttableError(f"a trainable parameter is also used below {cut.boundary}")

    def _reads_beyond_first(self, cut: Cut, axis: int) -> bool:
        """Whether any logit has a gradient at a position other than the first."""
        probe = self.recording.inputs[cut.slots[0]].clone().requires_grad_(True)
        rows, time = self.batch.rows, self.batch.time
        with torch.enable_grad(), patched(self.model, cut, rows, time, replace_activations(cut, probe)):
            logits = self.batch.run()
        gradient = gradients(logits, [probe])[0]
        return gradient is None or bool(gradient.narrow(axis, 1, gradient.shape[axis] - 1).any())


def gradients(logits: Tensor, by: Sequence[Tensor]) -> tuple[Tensor | None, ...]:
    """Return the gradients of a randomly weighted sum of the logits with respect to each of the tensors."""
    if logits.grad_fn is None or not by:
        return (None,) * len(by)
    weights = torch.rand(logits.shape, generator=torch.Generator().manual_seed(0)).to(logits)
    return torch.autograd.grad((logits * weights).sum(), by, allow_unused=True)


def _has_nan(leaf: Any) -> bool:
    return isinstance(leaf, Tensor) and leaf.is_floating_point() and bool(leaf.isnan().any())


def is_close(these: Tensor, those: Tensor, *, tolerance: float = CLOSE) -> bool:
    """Whether two tensors are equal up to rounding, relative to the largest number; NaN is never equal."""
    if these.shape != those.shape:
        return False
    scale = max(1.0, float(those.abs().max())) if those.numel() else 1.0
    return bool(((these - those).abs() <= tolerance * scale).all())

"""Proves that a model can begin at a cut: with poison below it, and by its answers and gradients above it.

Left out: where to look for a cut (cutting.py).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from workbench.speed.prefix_cache.cut import ROWS, TIME, Cut, UncuttableError
from workbench.speed.prefix_cache.patch import begun, giving, patched
from workbench.speed.prefix_cache.record_calls import Tape

CLOSE = 1e-5  # of the largest logit: what two ways of adding the same numbers up may differ by


@dataclass(frozen=True)
class Trial:
    """A real batch, and how to have the model answer it.

    Attributes:
        run: Runs the model and returns its logits.
        rows: Of the batch.
        time: Places of each row; 0 where rows have none.
    """

    run: Callable[[], Tensor]
    rows: int
    time: int


@dataclass(frozen=True)
class Search:
    """A model, a batch, what truly happens with it, and the cut with all that could be skipped."""

    model: nn.Module
    trial: Trial
    tape: Tape
    cut: Cut

    def widest(self, heavy: set[str]) -> Cut:
        """Return the cut that skips everything, or else the blocks and whatever else can be.

        Tables of positions and the like are made before the entry starts as well, and are read by all blocks.
        """
        try:
            return self.proven(self.cut)
        except UncuttableError as error:
            if not heavy:
                raise
            whole = error
        try:
            cut = self.proven(self._skipping(heavy))
        except UncuttableError:
            raise whole from None
        for path in self.cut.skipped.keys() - heavy:
            try:
                cut = self.proven(self._skipping({*cut.skipped, path}))
            except UncuttableError:
                continue
        return cut

    def _skipping(self, paths: set[str]) -> Cut:
        return replace(self.cut, skipped={path: kept for path, kept in self.cut.skipped.items() if path in paths})

    def proven(self, cut: Cut) -> Cut:
        """Return the cut with its slots, if poison below it reaches nothing but them. Raises UncuttableError."""
        true, met = self.tape.given, list[int]()

        def hand_over(leaves: list[Any]) -> list[Any]:
            met.extend(place for place, leaf in enumerate(leaves) if _is_poisoned(leaf))
            return [true[place] if place in met else leaf for place, leaf in enumerate(leaves)]

        try:
            answer = self._answer(cut, hand_over, fill=torch.nan)
        except Exception as error:  # a stranger's forward may raise whatever it likes at NaN
            raise UncuttableError(f"{cut.boundary} can't start from what was kept: {error}") from None
        if not met:
            raise UncuttableError(f"{cut.boundary} reads nothing that can be kept")
        if not is_close(answer, self.tape.answer):
            raise UncuttableError(f"what the frozen blocks give is read elsewhere than by {cut.boundary}, too")
        if any(true[place] is not true[met[0]] for place in met):
            raise UncuttableError(f"{cut.boundary} reads {len(met)} different values of the frozen blocks")
        return replace(cut, slots=tuple(met))

    def _answer(self, cut: Cut, hand_over: Callable[[list[Any]], list[Any]], fill: float = 0.0) -> Tensor:
        rows, time = self.trial.rows, self.trial.time
        with torch.no_grad(), patched(self.model, cut, rows, time, hand_over=hand_over, fill=fill):
            return self.trial.run()

    def narrowed(self, cut: Cut) -> Cut:
        """Return the cut with only the first place of each row kept, if no other is read above it."""
        axis = cut.shape.axis(TIME)
        axis = 1 if axis is None and len(cut.shape.sizes) == 3 else axis
        if axis is None or cut.shape.axis(ROWS) != 0 or self._reads_beyond_first(cut, axis):
            return cut
        sizes = tuple(1 if place == axis else size for place, size in enumerate(cut.shape.sizes))
        narrow = replace(cut, shape=replace(cut.shape, sizes=sizes), first_of=axis)
        first = self.tape.given[cut.slots[0]].narrow(axis, 0, 1)
        try:
            return narrow if is_close(self._answer(narrow, giving(cut, first)), self.tape.answer) else cut
        except Exception:  # its forward wants every place to be there
            return cut

    def check_above(self, cut: Cut) -> None:
        """Compare answer and gradient of what learns, from the inputs and from the cut. Raises UncuttableError."""
        learning = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        value = self.tape.given[cut.slots[0]]
        value = value if cut.first_of is None else value.narrow(cut.first_of, 0, 1)
        with torch.enable_grad():
            whole = slopes(self.trial.run(), learning)
            with begun(self.model, cut, value, rows=self.trial.rows, time=self.trial.time):
                answer = self.trial.run()
                above = slopes(answer, learning)
        if not is_close(answer.detach(), self.tape.answer):
            raise UncuttableError(f"from {cut.boundary} on, the model answers otherwise than from its inputs")
        for one, other in zip(whole, above, strict=True):
            is_same = one is other if one is None or other is None else is_close(other, one, tolerance=1e-4)
            if not is_same:
                raise UncuttableError(f"something that learns does so through the blocks below {cut.boundary} as well")

    def _reads_beyond_first(self, cut: Cut, axis: int) -> bool:
        """Whether any logit has a slope in a place of a row other than the first."""
        probe = self.tape.given[cut.slots[0]].clone().requires_grad_(True)
        with (
            torch.enable_grad(),
            patched(self.model, cut, self.trial.rows, self.trial.time, hand_over=giving(cut, probe)),
        ):
            logits = self.trial.run()
        slope = slopes(logits, [probe])[0]
        return slope is None or bool(slope.narrow(axis, 1, slope.shape[axis] - 1).any())


def slopes(logits: Tensor, by: Sequence[Tensor]) -> tuple[Tensor | None, ...]:
    """Return the gradient of a sum of the logits, each with a weight of its own, by each of the tensors."""
    if logits.grad_fn is None or not by:
        return (None,) * len(by)
    weights = torch.rand(logits.shape, generator=torch.Generator().manual_seed(0)).to(logits)
    return torch.autograd.grad((logits * weights).sum(), by, allow_unused=True)


def _is_poisoned(leaf: Any) -> bool:
    return isinstance(leaf, Tensor) and leaf.is_floating_point() and bool(leaf.isnan().any())


def is_close(these: Tensor, those: Tensor, *, tolerance: float = CLOSE) -> bool:
    """Whether two answers are the same but for rounding, relative to the largest of them; NaN never is."""
    if these.shape != those.shape:
        return False
    scale = max(1.0, float(those.abs().max())) if those.numel() else 1.0
    return bool(((these - those).abs() <= tolerance * scale).all())

"""Proof: what a run has measured of its blocks: how far each has moved, and that frozen ones have not changed."""

from typing import Any

from widgets import wording
from workbench.events import CheckpointSaved, Event, FrozenMoved, RunChosen, WeightsMoved

KINDS: frozenset[type[Event]] = frozenset({RunChosen, WeightsMoved, FrozenMoved, CheckpointSaved})
NAMED = 3  # maximum number of tensors that are named


class Proof:
    """What the session's run has measured of its blocks."""

    def __init__(self) -> None:
        self._clear()

    def _clear(self) -> None:
        self._moved: WeightsMoved | None = None
        self._broken: FrozenMoved | None = None
        self._verified: CheckpointSaved | None = None

    def note(self, event: Event) -> None:
        """Remember a measurement."""
        match event:
            case RunChosen():
                self._clear()
            case WeightsMoved():
                self._moved = event
            case FrozenMoved():
                self._broken = event
            case CheckpointSaved(frozen_tensors=frozen_tensors) if frozen_tensors:
                self._verified = event

    def moved(self, block: str) -> dict[str, Any] | None:
        """Return how far a block moved, None if that was not measured.

        "words" and "unit" say it, and "part" compares it with the block that moved most in the same unit.
        """
        if self._moved is None:
            return None
        relative, rms = self._moved.by_block, self._moved.rms_by_block
        if block in rms:
            words, unit, far = f"{rms[block]:.2g} RMS", ", since its weights started at zero", rms
        else:
            words, unit, far = wording.percent(relative.get(block, 0.0)), " of the norm of its weights", relative
        part = far.get(block, 0.0) / (max(far.values(), default=0.0) or 1.0)  # 0 for a block that was never trained
        return {"words": words, "unit": unit, "part": part}

    def picture(self) -> dict[str, str]:
        """Return the text of the green or the red badge."""
        return {"verified": "" if self._broken else self._verdict(), "broken": self._warning()}

    def _verdict(self) -> str:
        event = self._verified
        if event is None:
            return ""
        return f"frozen parts verified at step {event.step:,} ({wording.plural(event.frozen_tensors, 'tensor')})"

    def _warning(self) -> str:
        event = self._broken
        if event is None:
            return ""
        rest = len(event.tensors) - NAMED
        names = ", ".join(event.tensors[:NAMED]) + (f" and {rest:,} more" if rest > 0 else "")
        return f"frozen tensors changed by step {event.step:,}: {names}. Do not trust what this run says is frozen."

"""Fields of a plan: each says its range and unit, when a change takes effect, and what it touches.

All of it stands in the metadata of the dataclass field, so that no second list of field names exists anywhere.
"""

import dataclasses
import typing
from typing import Any, Literal

from workbench.plan.checking import in_range, typed

When = Literal["at the next step", "in a fork", "at the next run"]
# What has to be made again when the field changes: the rows and their split, the pretrained model, the encoded
# examples, the order of the batches, or what is trainable together with its optimizer.
Touched = Literal["rows", "model", "examples", "order", "trainable"]


def setting(
    default: Any,
    *,
    low: float | None = None,
    high: float | None = None,
    unit: str = "",
    takes_effect: When = "at the next run",
    touches: tuple[Touched, ...] = (),
) -> Any:
    """Return a dataclass field of a plan.

    Args:
        default: The value of a plan that does not say.
        low: The smallest number allowed, if the field holds a number.
        high: The largest.
        unit: Shown beside the value in the panel.
        takes_effect: "at the next step": a live run obeys a change from its next step on, and so does a fork. "in a
            fork": a fork can change it at any step. "at the next run": only a run from the beginning can.
        touches: What has to be made again when the value changes.
    """
    metadata: dict[str, Any] = {"takes_effect": takes_effect, "touches": touches}
    if low is not None:
        metadata |= {"low": low, "high": high, "unit": unit}
    return dataclasses.field(default=default, metadata=metadata)


def touched_by(entry: "dataclasses.Field[Any]") -> tuple[Touched, ...]:
    """Return what has to be made again when a field changes."""
    touches: tuple[Touched, ...] = entry.metadata.get("touches", ())
    return touches


class Choice:
    """Base of the sections of a plan. It checks the type and the range of each field when the section is made."""

    def __post_init__(self) -> None:
        hints = typing.get_type_hints(type(self))
        for entry in dataclasses.fields(self):  # type: ignore[arg-type]
            value = typed(entry.name, getattr(self, entry.name), hints[entry.name])
            object.__setattr__(self, entry.name, in_range(entry, value))

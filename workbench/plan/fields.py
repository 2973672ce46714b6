"""Metadata for the fields of a plan: range and unit, when a change takes effect, and what has to be rebuilt for it.

All of it is in the metadata of the dataclass field, so that no second list of field names exists anywhere.
"""

import dataclasses
import typing
from typing import Any, Literal

from workbench.plan.checking import in_range, typed

When = Literal["at the next step", "in a fork", "at the next run"]
# What has to be rebuilt when the field changes: the rows and their split, the pretrained model, the encoded examples,
# the order of the batches, or the set of trainable parameters together with the optimizer.
Touched = Literal["rows", "model", "examples", "order", "trainable"]


def setting(
    default: Any,
    *,
    low: float | None = None,
    high: float | None = None,
    unit: str = "",
    takes_effect: When = "at the next run",
    touches: tuple[Touched, ...] = (),
    help: str = "",  # noqa: A002 - what argparse and typer call it too
) -> Any:
    """Return a dataclass field of a plan.

    Args:
        default: The default value.
        low: The smallest allowed number, if the field is a number.
        high: The largest allowed number.
        unit: Unit, which the panel shows next to the value.
        takes_effect: When a change can take effect. "at the next step": in a live run or in a fork. "in a fork": in a
            fork, at any step. "at the next run": only in a run from its start.
        touches: What has to be rebuilt when the value changes.
        help: A sentence with which the settings panel shows a field that it has no words of its own for.
    """
    metadata: dict[str, Any] = {"takes_effect": takes_effect, "touches": touches, "help": help}
    if low is not None:
        metadata |= {"low": low, "high": high, "unit": unit}
    return dataclasses.field(default=default, metadata=metadata)


def touched_by(entry: "dataclasses.Field[Any]") -> tuple[Touched, ...]:
    """Return what has to be rebuilt when a field changes."""
    touches: tuple[Touched, ...] = entry.metadata.get("touches", ())
    return touches


class Choice:
    """Base class of the sections of a plan. It checks type and range of every field when a section is created."""

    def __post_init__(self) -> None:
        hints = typing.get_type_hints(type(self))
        for entry in dataclasses.fields(self):  # type: ignore[arg-type]
            value = typed(entry.name, getattr(self, entry.name), hints[entry.name])
            object.__setattr__(self, entry.name, in_range(entry, value))

"""Metadata for the fields of a plan: what a field means, range and unit, when a change takes effect, what it rebuilds.

All of it is in the metadata of the dataclass field, so that no second list of field names exists anywhere: the panel,
`help(Plan)`, docs/plan.md and the error messages all read it there.
"""

import dataclasses
import typing
from typing import Any, Literal

from workbench.plan.checking import in_range, typed

When = Literal["at the next step", "in a fork", "at the next run"]
# What has to be rebuilt when the field changes: the rows and their split, the pretrained model, the encoded examples,
# the order of the batches, or the set of trainable parameters together with the optimizer.
Touched = Literal["rows", "model", "examples", "order", "trainable"]
Switch = Literal["auto", "off"]

WHEN: dict[When, str] = {  # in a sentence
    "at the next step": "Takes effect at the next step.",
    "in a fork": "Takes effect at the next run (or in a fork).",
    "at the next run": "Takes effect at the next run.",
}


def setting(
    default: Any,
    *,
    help: str,  # noqa: A002 - what argparse and typer call it too
    low: float | None = None,
    high: float | None = None,
    unit: str = "",
    text: str = "text",
    none: str = "",
    takes_effect: When = "at the next run",
    touches: tuple[Touched, ...] = (),
) -> Any:
    """Return a dataclass field of a plan.

    Args:
        default: The default value.
        help: What the field means, in a sentence or two. The panel, `help(Plan)` and docs/plan.md show it.
        low: The smallest allowed number, if the field is a number.
        high: The largest allowed number.
        unit: Unit, which the panel shows next to the value.
        text: What a text is here, with its article, for example "a column name".
        none: What None means, if it is allowed.
        takes_effect: When a change can take effect. "at the next step": in a live run or in a fork. "in a fork": in a
            fork, at any step. "at the next run": only in a run from its start.
        touches: What has to be rebuilt when the value changes.
    """
    metadata: dict[str, Any] = {"help": help, "text": text, "none": none}
    metadata |= {"takes_effect": takes_effect, "touches": touches}
    if low is not None:
        metadata |= {"low": low, "high": high, "unit": unit}
    return dataclasses.field(default=default, metadata=metadata)


def touched_by(entry: "dataclasses.Field[Any]") -> tuple[Touched, ...]:
    """Return what has to be rebuilt when a field changes."""
    touches: tuple[Touched, ...] = entry.metadata["touches"]
    return touches


class Choice:
    """Base class of the sections of a plan. It checks type and range of every field when a section is created."""

    def __post_init__(self) -> None:
        hints = typing.get_type_hints(type(self))
        for entry in dataclasses.fields(self):  # type: ignore[arg-type]
            value = typed(entry, getattr(self, entry.name), hints[entry.name])
            object.__setattr__(self, entry.name, in_range(entry, value))

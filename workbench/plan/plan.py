"""The Plan: frozen data that says everything a run needs, and nothing else.

A panel, three lines of code, the command line and a sweep all build the same Plan and so start the same run. Every
field has its unit in its metadata and is checked when the plan is created, not in epoch 3. Field names are unique
across the sections, so `plan.change(learning_rate=1e-4)` needs no path.

A plan contains no objects such as models, tables or callbacks, on purpose. So it can be written as JSON, sent by mail
and read back, and reading a stranger's plan runs no code of theirs.
"""

import dataclasses
import inspect
import json
import operator
import os
import typing
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from workbench.errors import PlanError
from workbench.plan import aliases, files, reference
from workbench.plan.checking import known_only, without_repeats
from workbench.plan.choices import Baseline, Data, Monitoring, Retention, Transfer, Tuning
from workbench.plan.fields import Choice, Touched, touched_by
from workbench.plan.to_python import to_python
from workbench.untrusted import shown


@dataclass(frozen=True, init=False)
class Plan:
    """Everything a run needs. A plan is immutable; `change` returns a new one.

    Args:
        choices: Fields by name, or whole sections by name; the others have their defaults.

    Raises:
        PlanError: A name is unknown (the message gives the nearest known one), or a value is invalid.

    Examples:
        >>> Plan(learning_rate=1e-4, trainable="last 2").tuning.learning_rate
        0.0001
        >>> Plan().change(learning_rate=1e-4, trainable="last 2") == Plan(learning_rate=1e-4, trainable="last 2")
        True
    """

    baseline: Baseline = field(default_factory=Baseline)
    data: Data = field(default_factory=Data)
    transfer: Transfer = field(default_factory=Transfer)
    tuning: Tuning = field(default_factory=Tuning)
    retention: Retention = field(default_factory=Retention)
    monitoring: Monitoring = field(default_factory=Monitoring)

    def __init__(self, **choices: Any) -> None:
        for entry in dataclasses.fields(self):
            kind = typing.cast("type[Choice]", entry.type)
            section = choices.pop(entry.name) if entry.name in choices else kind()
            if not isinstance(section, kind):
                raise PlanError(f"{entry.name} is {shown(section)}; expected a {kind.__name__}")
            object.__setattr__(self, entry.name, section)
        if choices:
            vars(self).update(vars(self.change(**choices)))

    def change(self, /, **changes: Any) -> Self:
        """Return a plan with these fields changed; fields are named without their section.

        Raises:
            PlanError: A field is unknown (the message gives the nearest known one), or a value is invalid.
        """
        by_section: dict[str, dict[str, Any]] = {}
        for name, value in changes.items():
            if name not in SECTION_OF:
                raise PlanError(f"a plan has no field {shown(name)}", hint=aliases.meant(name, SECTION_OF))
            by_section.setdefault(SECTION_OF[name], {})[name] = value
        return dataclasses.replace(
            self, **{s: dataclasses.replace(getattr(self, s), **fields) for s, fields in by_section.items()}
        )

    def with_absolute_paths(self) -> Self:
        """Return the plan with absolute paths for the files and folders that exist on this machine.

        A run may be executed later, by a process with another working directory.
        """
        places = {"source": self.data.source, "backbone": self.baseline.backbone}
        return self.change(**{name: _absolute(place) for name, place in places.items()})

    def touching(self, what: Touched) -> tuple[tuple[str, Any], ...]:
        """Return (name, value) of the fields that affect `what`, for example the rows or the model."""
        return tuple((name, value) for name, value in self.flat().items() if what in touched_by(FIELDS[name]))

    def flat(self) -> dict[str, Any]:
        """Return name -> value of every field, without the sections."""
        return {name: getattr(getattr(self, section), name) for name, section in SECTION_OF.items()}

    def differences(self, other: "Plan") -> dict[str, tuple[Any, Any]]:
        """Return the fields that differ, as name -> (value here, value in `other`)."""
        mine, theirs = self.flat(), other.flat()
        return {name: (mine[name], theirs[name]) for name in mine if mine[name] != theirs[name]}

    def to_python(self, *, given: Collection[str] = ()) -> str:
        """Return the lines of Python that make an equal plan, with what differs from the default, and start its run.

        Args:
            given: Names of the objects that the session needs beside the plan, for example "table".
        """
        return to_python({name: mine for name, (mine, _) in self.differences(type(self)()).items()}, given)

    def to_json(self) -> str:
        """Return the plan as JSON text, from which `from_json` makes an equal plan."""
        return json.dumps(dataclasses.asdict(self), indent=2, ensure_ascii=False, allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read a plan; sections and fields that are missing get their defaults.

        Raises:
            PlanError: The text is not a JSON object, a section or field is unknown, or a value is invalid.
        """
        try:
            tree = json.loads(text, object_pairs_hook=without_repeats)
        except PlanError:
            raise
        except (ValueError, TypeError, RecursionError) as error:
            raise PlanError(f"the plan is not JSON: {error}", hint="write one with Plan().to_json()") from None
        return cls.from_dict(tree)

    def save(self, path: Path | str, *, replace: bool = False) -> Path:
        """Write the plan to a JSON file, and return its path; `open` reads it.

        Raises:
            PlanError: The file exists and `replace` is not set, or it can't be written.
        """
        return files.save(self.to_json(), path, replace=replace)

    @classmethod
    def open(cls, path: Path | str) -> Self:
        """Read a plan from a JSON file.

        Raises:
            PlanError: The file can't be read, or is not a plan.
        """
        return cls.from_json(files.read(path))

    @classmethod
    def from_dict(cls, tree: Any) -> Self:
        """Make a plan from nested dictionaries, as `from_json` does from JSON text."""
        sections = {entry.name: entry.type for entry in dataclasses.fields(cls)}
        known_only("a plan", tree, sections)
        return cls(**{name: _section(name, sections[name], body) for name, body in tree.items()})


def _absolute(place: str) -> str:
    """Return the absolute path if `place` looks like a file or folder and exists; anything else is a name."""
    is_place = "/" in place or os.sep in place or Path(place).suffix != ""
    return str(Path(place).resolve()) if is_place and Path(place).exists() else place


def _section(name: str, kind: Any, body: Any) -> Any:
    known_only(f"the section {name!r}", body, {entry.name for entry in dataclasses.fields(kind)})
    return kind(**body)


FIELDS: dict[str, "dataclasses.Field[Any]"] = {  # name of a field -> its dataclass field, which has the metadata
    entry.name: entry
    for section in dataclasses.fields(Plan)
    for entry in dataclasses.fields(section.type)  # type: ignore[arg-type]
}
SECTION_OF: dict[str, str] = {  # name of a field -> name of its section
    entry.name: section.name
    for section in dataclasses.fields(Plan)
    for entry in dataclasses.fields(section.type)  # type: ignore[arg-type]
}
LIVE_FIELDS = tuple(name for name, entry in FIELDS.items() if entry.metadata["takes_effect"] == "at the next step")
FORK_FIELDS = (  # what a fork can change at any step: it affects only the steps that follow
    *LIVE_FIELDS,
    *(name for name, entry in FIELDS.items() if entry.metadata["takes_effect"] == "in a fork"),
)
_ORDER = operator.attrgetter(*(name for name, entry in FIELDS.items() if "order" in touched_by(entry)))


def order_of(choice: Tuning) -> tuple[Any, ...]:
    """Return the values that determine the order of the batches."""
    return tuple(_ORDER(choice))


Plan.__doc__ = f"{inspect.cleandoc(Plan.__doc__ or '')}\n\n{reference.text(Plan)}\n"  # what `help(Plan)` shows

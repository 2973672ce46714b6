"""The reference of the fields of a plan, from their metadata: for `help(Plan)`, and as the page docs/plan.md."""

import dataclasses
import textwrap
from collections.abc import Iterator
from typing import Any

from workbench.plan import words

Entry = dataclasses.Field[Any]
_WIDTH = 92  # of a line in `help`
_WHEN = """\
A change takes effect …
- at the next step: of a run under way too (`run.change`), or of a fork of it;
- in a fork: a run under way keeps its value, but a fork of it can take another one from any step on;
- at the next run: only a run from its start can take another value."""
_WAYS = """\
`Plan(learning_rate=1e-4)` makes a plan, and `plan.change(learning_rate=1e-4)` returns one with another value; fields
are named without their section. `plan.save("plan.json")` and `Plan.open("plan.json")` keep it in a file, and
`plan.to_python()` writes the lines that run it."""


def text(plan: type) -> str:
    """Return the reference as plain text, a paragraph for each section."""
    sections = [
        f"{section.name}: {_title(section)}\n" + "\n".join(_paragraph(entry) for entry in _entries(section))
        for section in dataclasses.fields(plan)
    ]
    return "\n\n".join([_WAYS, _WHEN, *sections])


def _paragraph(entry: Entry) -> str:
    values, unit, when = _facts(entry)
    facts = f"{values[0].upper()}{values[1:]}{f' ({unit})' if unit else ''}. Takes effect {when}."
    lines = (textwrap.fill(line, _WIDTH - 6) for line in (entry.metadata["help"], facts))
    return "\n".join([f"  {entry.name} = {entry.default!r}", *(textwrap.indent(line, " " * 6) for line in lines)])


def page(plan: type) -> str:
    """Return the reference as a page in Markdown, a table for each section."""
    tables = [f"## {section.name}\n\n{_title(section)}\n\n{_table(section)}" for section in dataclasses.fields(plan)]
    return "\n\n".join(["# The fields of a plan", _WAYS, _WHEN.replace("…\n", "…\n\n"), *tables]) + "\n"


def _table(section: Entry) -> str:
    rows = [["field", "default", "values", "unit", "takes effect", "meaning"], ["---"] * 6]
    for entry in _entries(section):
        values, unit, when = _facts(entry)
        rows.append([f"`{entry.name}`", f"`{entry.default!r}`", values, unit, when, entry.metadata["help"]])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _entries(section: Entry) -> Iterator[Entry]:
    yield from dataclasses.fields(section.type)  # type: ignore[arg-type]


def _title(section: Entry) -> str:
    return (section.type.__doc__ or "").splitlines()[0]


def _facts(entry: Entry) -> tuple[str, str, str]:
    """Return which values a field can have, their unit, and when a change takes effect."""
    return words.kind(entry), entry.metadata.get("unit", ""), entry.metadata["takes_effect"]

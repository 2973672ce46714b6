"""Writes the lines of Python that make a plan and start its run."""

from collections.abc import Collection, Mapping
from typing import Any

_WIDTH = 79
STANDS_FOR = {"table": "source", "model": "backbone"}  # object given to a session -> the field that it sets


def to_python(changes: Mapping[str, Any], given: Collection[str] = ()) -> str:
    """Return the lines that make a plan, start its run and wait for its end; a script can run them too.

    Args:
        changes: The fields of the plan that differ from the default, with their values.
        given: Names of the objects that the session needs beside the plan, for example "table".
    """
    told = {name: value for name, value in changes.items() if name not in {STANDS_FOR.get(thing) for thing in given}}
    objects = "".join(f", {name}={name}" for name in given)
    return f"import workbench as wb\n\nplan = {_plan(told)}\nrun = wb.Session(plan{objects}).start().wait()\n"


def _plan(changes: Mapping[str, Any]) -> str:
    written = [f"{name}={_value(value)}" for name, value in changes.items()]
    if not written:
        return "wb.Plan()"
    line = f"wb.Plan().change({', '.join(written)})"
    if len("plan = ") + len(line) <= _WIDTH:
        return line
    return "wb.Plan().change(\n" + "".join(f"    {one},\n" for one in written) + ")"


def _value(value: Any) -> str:
    """Return a value as Python writes it, with double quotes where that is as short."""
    if isinstance(value, tuple):
        return f"({', '.join(map(_value, value))}{',' if len(value) == 1 else ''})"
    if not isinstance(value, str):
        return repr(value)
    quoted = repr("'" + value)  # Python writes a text with a single quote, and no double one, in double quotes
    return '"' + quoted[2:] if quoted.startswith('"') else repr(value)

"""Arguments by name: an unknown one raises an error that names what is meant, in place of a raw TypeError."""

import difflib
import functools
import inspect
import reprlib
from collections.abc import Callable, Collection
from typing import Any, ParamSpec, TypeVar

from workbench.errors import QUESTION, PlanError
from workbench.plan.plan import SECTION_OF

Given = ParamSpec("Given")
Result = TypeVar("Result")


def named(function: Callable[Given, Result]) -> Callable[Given, Result]:
    """Let a call with an unknown argument raise a PlanError that names the nearest one, or says that the plan has it.

    A generator function then raises it at once, before the first item is requested.
    """
    known = [name for name in inspect.signature(function).parameters if name != "self"]

    @functools.wraps(function)
    def checked(*given: Given.args, **options: Given.kwargs) -> Result:
        for name, value in options.items():
            if name not in known:
                raise PlanError(_unknown(name), hint=_meant(name, value, known))
        return function(*given, **options)

    return checked


def _unknown(name: str) -> str:
    where = "; the plan has a field of this name" if name in SECTION_OF else ""
    return f"there is no argument {name!r}{where}"


def _meant(name: str, value: Any, known: Collection[str]) -> str:
    if name in SECTION_OF:
        return f"give it in the plan: wb.Plan({name}={reprlib.repr(value)})"
    if close := difflib.get_close_matches(name, known, n=1):
        return f"{QUESTION} {close[0]!r}?"
    return f"use one of {', '.join(known)}; choices for training are in the plan: wb.Plan(…)"

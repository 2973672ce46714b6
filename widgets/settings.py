"""SettingsPanel: base class of the panels that show fields of the plan, with units and when they take effect.

What a field means, its range, its unit and when it takes effect come from its metadata in `workbench.plan.choices`. A
panel adds titles and sliders.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from widgets import live, wording
from widgets.panel import Panel, page, style
from workbench.errors import PlanError, WorkbenchError
from workbench.events import ChangeRefused, Event, PlanChanged
from workbench.plan.fields import WHEN
from workbench.plan.plan import FIELDS, LIVE_FIELDS, Plan


@dataclass(frozen=True)
class Control:
    """A field of the plan as a panel shows it."""

    name: str  # field of the plan
    title: str
    group: str = ""  # of the fields that show after a click
    slider: tuple[str, tuple[float, ...]] | None = None  # ("log" | "linear", (low, high)) or ("list", values)
    options: tuple[str, ...] = ()


def tip(name: str) -> str:
    """Return the tooltip of a field of the plan: what it means, and when a change takes effect."""
    about = FIELDS[name].metadata
    return f"{about['help']} {WHEN[about['takes_effect']]}"


class SettingsPanel(Panel):
    """Fields of the session's plan.

    Attributes:
        controls: The fields that the panel shows.
    """

    _esm = page("settings.js")
    _css = style("settings.css")
    kinds = live.KINDS | {PlanChanged}
    controls: ClassVar[tuple[Control, ...]]

    def __init__(self, session: Any = None, **objects: Any) -> None:
        self._errors: dict[str, str] = {}  # field -> error in the value that was typed
        self._refusals = 0  # a new count makes the page restore the value of the plan
        self._effects = live.Effects()
        super().__init__(session, **objects)

    def actions(self) -> Mapping[str, Callable[..., None]]:
        """Return the action of the fields."""
        return {"change": self._change}

    def note(self, event: Event) -> None:
        """Update since when changes are in effect; clear the error of a field that has a new value."""
        if isinstance(event, ChangeRefused):
            self._errors |= dict.fromkeys(self._effects.asked, wording.in_labels(event.what))
        self._effects.note(event)
        if isinstance(event, PlanChanged):
            self._errors = {name: error for name, error in self._errors.items() if name not in event.fields}

    def field(
        self, control: Control, *, options: Mapping[str, str] | None = None, error: str = "", is_hidden: bool = False
    ) -> dict[str, Any]:
        """Return a field with its value, unit, range and error.

        Args:
            control: The field.
            options: Its values in words, in place of those of the control; "" stands for None.
            error: What is wrong with the value of the plan, if nothing is wrong with what was typed.
            is_hidden: Whether the field has no meaning now.
        """
        about = FIELDS[control.name].metadata
        choices = options or {option: option for option in control.options}
        return {
            "name": control.name,
            "title": control.title,
            "group": control.group,
            "value": self.session.plan.flat()[control.name],
            "unit": about.get("unit", ""),
            "tip": tip(control.name),
            "none": about["none"],
            "slider": control.slider,
            "options": [{"value": value, "title": title} for value, title in choices.items()],
            "is_live": control.name in LIVE_FIELDS,
            "is_hidden": is_hidden,
            "effect": self._effects.of(control.name, self.session),
            "error": self._errors.get(control.name) or error,
        }

    def _change(self, name: str, value: Any) -> None:
        """Change one field of the plan. An invalid value shows an error at the field, and the plan is not changed."""
        if name not in {control.name for control in self.controls}:
            raise PlanError(f"the panel has no field {name!r}")
        self._errors.pop(name, None)
        try:
            self._effects.change(self.session, **{name: value})
        except WorkbenchError as error:
            self._errors[name] = (
                wording.in_labels(error.what) if self._is_taken(name, value) else kept(error, name, self.session.plan)
            )
            self._refusals += 1

    def _is_taken(self, name: str, value: Any) -> bool:
        """Whether the plan has the value, so that the error is of the run under way."""
        return bool(self.session.plan.flat()[name] == value)


def kept(error: WorkbenchError, name: str, plan: Plan) -> str:
    """Return what is wrong with a value, without the name that stands beside it, and which value the plan keeps."""
    fault = wording.in_labels(error.what.rpartition("; ")[2].removeprefix("it "))
    fault = re.sub(r"None \((.*)\)", r"empty (\1)", fault)
    return f"{fault}; kept {wording.value_of(name, plan.flat()[name])}"

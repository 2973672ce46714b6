"""HyperparameterPanel: the numbers of the optimizer and the loop, each with its unit and when it takes effect.

Ranges and units come from `workbench.plan.choices`; this file adds the words, and how a slider covers the usual values.
"""

import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from widgets import live
from widgets.panel import Panel, page, style
from workbench.errors import PlanError, WorkbenchError
from workbench.events import ChangeRefused, Event, PlanChanged, RunChosen, RunStarted
from workbench.plan.choices import FIELDS, LIVE_FIELDS, Batching, Precision, SaveModel, Schedule, Switch

if TYPE_CHECKING:
    from workbench.session.session import Session


@dataclass(frozen=True)
class Control:
    """A field of the plan as the panel shows it."""

    name: str  # field of the plan
    title: str
    tip: str  # what it does, in words
    none: str = ""  # what leaving it empty means
    slider: tuple[str, tuple[float, ...]] | None = None  # ("log" | "linear", (low, high)) or ("list", its stops)
    options: tuple[str, ...] = ()


POWERS = tuple(float(2**power) for power in range(10))
FIRST = (
    Control(
        "learning_rate",
        "learning rate",
        "How far a step moves the weights, after warm-up.",
        slider=("log", (1e-6, 1e-1)),
    ),
    Control("batch_size", "batch size", "Rows that are looked at together.", slider=("list", POWERS)),
    Control(
        "epochs",
        "epochs",
        "How often every row is learnt from.",
        slider=("list", (0.1, 0.25, 0.5, 1, 2, 3, 4, 5, 6, 8, 10, 15, 20, 30, 50)),
    ),
    Control(
        "dropout",
        "dropout",
        "Share of activations left out at random while training, against overfitting.",
        none="model's own",
        slider=("linear", (0.0, 0.6)),
    ),
)
MORE = (
    Control("schedule", "schedule", "How the learning rate falls after warm-up.", options=typing.get_args(Schedule)),
    Control("warmup_fraction", "warm-up", "Share of the steps in which the learning rate rises from zero."),
    Control("weight_decay", "weight decay", "Pulls weight matrices towards zero."),
    Control("clip_norm", "clip gradient", "Longer gradients are cut to this length.", none="off"),
    Control("accumulation_steps", "accumulate", "Batches whose gradients are summed for one step."),
    Control(
        "precision",
        "precision",
        "Number format of the arithmetic; auto tries both for a moment and takes bf16 where it is a tenth faster.",
        options=typing.get_args(Precision),
    ),
    Control(
        "batching",
        "batches",
        "Rows of like length together, so that little is padding; or at random.",
        options=typing.get_args(Batching),
    ),
    Control(
        "batch_tokens",
        "token budget",
        "As many rows a batch as stay within so many tokens, padding included.",
        none="by batch size",
    ),
    Control(
        "packing",
        "packing",
        "Language models: short texts end to end in one row in place of padding, where the model can read them so.",
        options=typing.get_args(Switch),
    ),
    Control(
        "prefix_cache",
        "frozen blocks once",
        "Computes what the frozen lowest blocks give once and keeps it, for all epochs, evaluations and runs.",
        options=typing.get_args(Switch),
    ),
    Control(
        "cache_memory_mb",
        "cache in memory",
        "What frozen blocks gave is held in memory up to here, and mapped from disk beyond.",
        none="¼ of free",
    ),
    Control("max_steps", "at most", "Ends the run after so many steps.", none="by epochs"),
    Control("seed", "seed", "The same seed gives the same run."),
    Control("evaluate_every", "evaluate every", "How often held-out rows are measured.", none="10 × a run"),
    Control("checkpoint_every", "checkpoint", "How often the run is kept, to resume it.", none="each evaluation"),
    Control("keep_last", "keep last", "Checkpoints that stay on disk, beside the best one.", none="all"),
    Control(
        "save_model",
        "save model",
        "Whose weights are written at the end, for use without this panel.",
        options=typing.get_args(SaveModel),
    ),
)


class HyperparameterPanel(Panel):
    """The hyperparameters of the session's plan."""

    _esm = page("hyperparameter.js")
    _css = style("hyperparameter.css")
    kinds = live.KINDS | {PlanChanged}

    def __init__(self, session: "Session") -> None:
        self._errors: dict[str, str] = {}  # field -> what was wrong with the value that was typed
        self._refusals = 0  # makes the page put the kept value back
        self._effects = live.Effects()
        self._machine = ""  # how the run computes, and what was measured of that
        super().__init__(session)

    def actions(self) -> Mapping[str, Callable[..., None]]:
        """Return the action of the fields."""
        return {"change": self._change}

    def note(self, event: Event) -> None:
        """Know since when a change holds, and forget an error that another value has put right."""
        if isinstance(event, ChangeRefused):
            self._errors |= dict.fromkeys(self._effects.asked, event.what)
        self._effects.note(event)
        if isinstance(event, RunStarted):
            self._machine = " · ".join(event.settings)
        if isinstance(event, RunChosen):
            self._machine = ""
        if isinstance(event, PlanChanged):
            self._errors = {name: error for name, error in self._errors.items() if name not in event.fields}

    def picture(self) -> dict[str, Any]:
        """Return every field with its value, unit, range and error."""
        return {
            "first": [self._field(control) for control in FIRST],
            "more": [self._field(control) for control in MORE],
            "refusals": self._refusals,
            "is_running": self._effects.is_live,
            "machine": self._machine,
        }

    def _field(self, control: Control) -> dict[str, Any]:
        about = FIELDS[control.name].metadata
        effect = about.get("takes_effect", "at the next run")
        return {
            "name": control.name,
            "title": control.title,
            "value": self.session.plan.flat()[control.name],
            "unit": about.get("unit", ""),
            "tip": f"{control.tip} Takes effect {effect}.",
            "none": control.none,
            "slider": control.slider,
            "options": control.options,
            "is_live": control.name in LIVE_FIELDS,
            "effect": self._effects.of(control.name, self.session),
            "error": self._errors.get(control.name, ""),
        }

    def _change(self, name: str, value: Any) -> None:
        """Change one field; a value that can't be is said at the field, and the earlier one kept."""
        if name not in {control.name for control in (*FIRST, *MORE)}:
            raise PlanError(f"the panel has no field {name!r}")
        self._errors.pop(name, None)
        try:
            self._effects.change(self.session, **{name: value})
        except WorkbenchError as error:
            self._errors[name] = error.what
            self._refusals += 1

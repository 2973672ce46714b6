"""HyperparameterPanel: the settings of the optimizer and the training loop.

This file has the titles and the ranges of the sliders. The rest is in settings.py.
"""

import typing
from typing import Any

from widgets import live, wording
from widgets.panel import page, style
from widgets.settings import Control, SettingsPanel
from workbench.events import Event, RunChosen, RunStarted
from workbench.plan import words
from workbench.plan.choices import Batching, Device, Precision, SaveModel, Schedule, Switch
from workbench.plan.plan import FIELDS, SECTION_OF

POWERS = tuple(float(2**power) for power in range(10))
EPOCHS = (0.1, 0.25, 0.5, 1, 2, 3, 4, 5, 6, 8, 10, 15, 20, 30, 50)
FIRST = (
    Control("learning_rate", "learning rate", slider=("log", (1e-6, 1e-1))),
    Control("batch_size", "batch size", slider=("list", POWERS)),
    Control("epochs", "epochs", slider=("list", EPOCHS)),
    Control("dropout", "dropout", slider=("linear", (0.0, 0.6))),
)
OPTIMIZER, BATCHES, SPEED, KEEPING = "optimizer", "batches", "speed", "keeping"
MORE = (
    Control("schedule", "schedule", OPTIMIZER, options=typing.get_args(Schedule)),
    Control("warmup_fraction", "warm-up", OPTIMIZER),
    Control("weight_decay", "weight decay", OPTIMIZER),
    Control("clip_norm", "gradient clipping", OPTIMIZER),
    Control("max_steps", "max steps", OPTIMIZER),
    Control("seed", "seed", OPTIMIZER),
    Control("accumulation_steps", "gradient accumulation", BATCHES),
    Control("batching", "batching", BATCHES, options=typing.get_args(Batching)),
    Control("batch_tokens", "token budget", BATCHES),
    Control("packing", "packing", BATCHES, options=typing.get_args(Switch)),
    Control("device", "device", SPEED, options=typing.get_args(Device)),
    Control("precision", "precision", SPEED, options=typing.get_args(Precision)),
    Control("prefix_cache", "cache frozen blocks", SPEED, options=typing.get_args(Switch)),
    Control("cache_memory_mb", "cache in memory", SPEED),
    Control("evaluate_every", "evaluate every", KEEPING),
    Control("checkpoint_every", "checkpoint every", KEEPING),
    Control("keep_last", "keep last", KEEPING),
    Control("save_model", "save model", KEEPING, options=typing.get_args(SaveModel)),
)


def _others() -> tuple[Control, ...]:
    """Return the hyperparameters of the plan that are not listed above, so that a new one appears by itself."""
    listed = {control.name for control in (*FIRST, *MORE)}
    others = [FIELDS[name] for name, section in SECTION_OF.items() if section == "tuning" and name not in listed]
    return tuple(
        Control(entry.name, wording.field(entry.name), OPTIMIZER, options=tuple(words.literals(entry.type)))
        for entry in others
    )


class HyperparameterPanel(SettingsPanel):
    """The hyperparameters of the session's plan."""

    _esm = page("fields.js", "settings.js", "hyperparameter.js")
    _css = style("settings.css", "hyperparameter.css")
    controls = (*FIRST, *MORE, *_others())

    def __init__(self, session: Any = None, **objects: Any) -> None:
        self._machine = ""  # settings of the computation, and the timings that led to them
        super().__init__(session, **objects)

    def note(self, event: Event) -> None:
        """Remember what the run found out about the machine."""
        super().note(event)
        if isinstance(event, RunStarted):
            self._machine = " · ".join(event.settings)
        if isinstance(event, RunChosen):
            self._machine = ""

    def picture(self) -> dict[str, Any]:
        """Return every field with its value, unit, range and error."""
        return {
            "first": [self.field(control) for control in FIRST],
            "more": [self.field(control) for control in self.controls[len(FIRST) :]],
            "refusals": self._refusals,
            "is_running": self._effects.is_live,
            "machine": self._machine if live.is_of_plan(self.session) else "",
        }

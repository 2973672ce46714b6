"""HyperparameterPanel: the settings of the optimizer and the training loop.

This file has the descriptions and the ranges of the sliders. The rest is in settings.py.
"""

import typing
from typing import TYPE_CHECKING, Any

from widgets.panel import page, style
from widgets.settings import Control, SettingsPanel
from workbench.events import Event, RunChosen, RunStarted
from workbench.plan.choices import Batching, Precision, SaveModel, Schedule, Switch
from workbench.plan.plan import FIELDS

if TYPE_CHECKING:
    from workbench.session.session import Session

POWERS = tuple(float(2**power) for power in range(10))
FIRST = (
    Control(
        "learning_rate",
        "learning rate",
        "Learning rate of the optimizer after warm-up.",
        slider=("log", (1e-6, 1e-1)),
    ),
    Control("batch_size", "batch size", "Rows per batch.", slider=("list", POWERS)),
    Control(
        "epochs",
        "epochs",
        "Number of passes over the training rows.",
        slider=("list", (0.1, 0.25, 0.5, 1, 2, 3, 4, 5, 6, 8, 10, 15, 20, 30, 50)),
    ),
    Control(
        "dropout",
        "dropout",
        "Share of activations set to zero at random in training, against overfitting.",
        none="model's own",
        slider=("linear", (0.0, 0.6)),
    ),
)
MORE = (
    Control("schedule", "schedule", "How the learning rate falls after warm-up.", options=typing.get_args(Schedule)),
    Control("warmup_fraction", "warm-up", "Share of the steps in which the learning rate rises from zero."),
    Control("weight_decay", "weight decay", "Pulls weight matrices towards zero."),
    Control("clip_norm", "clip gradient", "A gradient with a larger norm is scaled down to it.", none="off"),
    Control("accumulation_steps", "accumulate", "Batches whose gradients are summed for one step."),
    Control(
        "precision",
        "precision",
        "Number format of the arithmetic; auto times both and uses bf16 if it is at least a tenth faster.",
        options=typing.get_args(Precision),
    ),
    Control(
        "batching",
        "batches",
        "Groups rows of similar length, so that little is padding; or a random order.",
        options=typing.get_args(Batching),
    ),
    Control(
        "batch_tokens",
        "token budget",
        "As many rows per batch as fit into so many tokens, including padding.",
        none="by batch size",
    ),
    Control(
        "packing",
        "packing",
        "Language models: puts several short texts into one row to avoid padding, if the model supports it.",
        options=typing.get_args(Switch),
    ),
    Control(
        "prefix_cache",
        "frozen blocks once",
        "Caches the activations of the frozen lowest blocks for all epochs, evaluations and runs.",
        options=typing.get_args(Switch),
    ),
    Control(
        "cache_memory_mb",
        "cache in memory",
        "Cached activations are held in memory up to this size, and mapped from disk beyond it.",
        none="¼ of free",
    ),
    Control("max_steps", "at most", "Ends the run after so many steps.", none="by epochs"),
    Control("seed", "seed", "The same seed gives the same run."),
    Control(
        "evaluate_every", "evaluate every", "How often the model is evaluated on held-out rows.", none="10 × a run"
    ),
    Control(
        "checkpoint_every", "checkpoint", "How often a checkpoint is saved, to resume the run.", none="each evaluation"
    ),
    Control("keep_last", "keep last", "Checkpoints that stay on disk, in addition to the best one.", none="all"),
    Control(
        "save_model",
        "save model",
        "Which weights are saved as a model at the end, for use without this panel.",
        options=typing.get_args(SaveModel),
    ),
)


def _described_by_the_plan() -> tuple[Control, ...]:
    """Return the fields of the plan that bring a sentence of their own, so that this file need not list them."""
    return tuple(
        Control(
            name,
            name.replace("_", " "),
            entry.metadata["help"],
            options=typing.get_args(entry.type) if typing.get_origin(entry.type) is typing.Literal else (),
        )
        for name, entry in FIELDS.items()
        if entry.metadata.get("help")
    )


class HyperparameterPanel(SettingsPanel):
    """The hyperparameters of the session's plan."""

    _esm = page("fields.js", "settings.js", "hyperparameter.js")
    _css = style("settings.css", "hyperparameter.css")
    controls = (*FIRST, *MORE, *_described_by_the_plan())

    def __init__(self, session: "Session") -> None:
        self._machine = ""  # settings of the computation, and the timings that led to them
        super().__init__(session)

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
            "machine": self._machine,
        }

"""Loads what a plan names, and keeps it for the next run that names the same.

A run changes the model it trains, so each gets a copy; the pristine one stays here for the panels and later runs.
Rows, a model and metrics can be given as objects in place of names; a plan then says "table" or "object".
"""

import threading
from collections.abc import Callable
from typing import Any, Self

from workbench import data, models, tasks
from workbench.data import Split
from workbench.errors import RunError
from workbench.models import Backbone, from_object
from workbench.models.copy_on_write import settle, twin
from workbench.plan.choices import Plan
from workbench.tasks.examples import Examples

TABLE_SOURCE = "table"  # the source of a plan whose rows were given as an object
OBJECT_BACKBONE = "object"  # the backbone of a plan whose model was


class Preparation:
    """The split, the backbone and the encoded examples of a plan; each loaded once until its choices change.

    Args:
        table: A pandas frame or `datasets.Dataset` to learn from, in place of the plan's `source`.
        model: A transformers model with a head for the rows' classes, in place of the plan's `backbone`.
        preprocessor: The tokenizer or image processor of that model.
        metrics: What is measured beside the metrics of the task: `evaluate.Metric` objects, or their names.
    """

    def __init__(
        self, table: Any = None, *, model: Any = None, preprocessor: Any = None, metrics: tuple[Any, ...] = ()
    ) -> None:
        self.table, self.model, self.preprocessor = table, model, preprocessor
        self.metrics = tuple(metrics)
        self._known: dict[str, tuple[Any, Any]] = {}  # what -> (the choices it was made from, it)
        self._elder: Preparation | None = None  # whose snapshot this is
        self._lock = threading.RLock()

    @property
    def objects(self) -> dict[str, Any]:
        """What was given as objects, by name."""
        found = {"table": self.table, "model": self.model, "preprocessor": self.preprocessor}
        return {name: value for name, value in found.items() if value is not None} | (
            {"metrics": self.metrics} if self.metrics else {}
        )

    def snapshot(self) -> Self:
        """Return another that knows the same now, and goes its own way from here.

        What this one is loading at the time, or has loaded since, the other waits for and takes over if it fits.
        """
        twin = type(self)(**self.objects)
        twin._known, twin._elder = dict(self._known), self
        return twin

    def with_objects(self, table: Any, model: Any, preprocessor: Any) -> Self:
        """Return another one with these objects in place of its own, where they are given."""
        return type(self)(
            self.table if table is None else table,
            model=self.model if model is None else model,
            preprocessor=self.preprocessor if preprocessor is None else preprocessor,
            metrics=self.metrics,
        )

    def label_objects(self, plan: Plan) -> Plan:
        """Return the plan, saying what was given as an object: no name would give the same."""
        if self.table is not None:
            plan = plan.change(source=TABLE_SOURCE)
        return plan if self.model is None else plan.change(backbone=OBJECT_BACKBONE)

    def check_objects(self, plan: Plan) -> None:
        """Check that every object the plan speaks of is here.

        Raises:
            RunError: One has to be given again.
        """
        if plan.data.source == TABLE_SOURCE and self.table is None:
            raise RunError(
                "the rows of this plan were given as an object, which no folder keeps",
                hint="give them again: attach(name, table=frame), or Session(plan, table=frame)",
            )
        if plan.baseline.backbone == OBJECT_BACKBONE and self.model is None:
            raise RunError(
                "the model of this plan was given as an object, which no folder keeps",
                hint="give it again: attach(name, model=model, preprocessor=tokenizer)",
            )

    def split(self, plan: Plan) -> Split:
        """Return the rows, read and split. Raises DataError."""
        self.check_objects(plan)
        split: Split = self._once("split", _rows_of(plan), lambda: data.load(plan.data, table=self.table))
        return split

    def backbone(self, plan: Plan) -> Backbone:
        """Return the pretrained model with a head for the rows' classes; not to be changed. Raises BackboneError."""
        split = self.split(plan)
        backbone: Backbone = self._once("backbone", _model_of(plan, split), lambda: self._load(plan, split))
        return backbone

    def examples(self, plan: Plan) -> tuple[Examples, Examples]:
        """Return the training and validation examples, encoded for the backbone."""
        split, backbone = self.split(plan), self.backbone(plan)
        choices = (_rows_of(plan), plan.touching("examples"), _model_of(plan, split))
        examples: tuple[Examples, Examples] = self._once(
            "examples", choices, lambda: tasks.encode(split, backbone, plan.data)
        )
        return examples

    def own_backbone(self, plan: Plan) -> Backbone:
        """Return a copy of the backbone that a run may change; it takes memory for what does change."""
        backbone = self.backbone(plan)
        own: Backbone = twin(backbone, backbone.model)
        return own

    def forget(self, *whats: str) -> None:
        """Let go of the "split", "backbone" or "examples"; they are loaded again when asked for."""
        for what in whats:
            self._known.pop(what, None)

    def current_split(self, plan: Plan) -> Split | None:
        """Return the split of this plan if it is loaded, without waiting for one that is under way."""
        found: Split | None = self._current("split", _rows_of(plan))
        return found

    def current_backbone(self, plan: Plan) -> Backbone | None:
        """Return the backbone of this plan if it is loaded, without waiting for one that is under way."""
        split = self.current_split(plan)
        found: Backbone | None = self._current("backbone", _model_of(plan, split)) if split else None
        return found

    def _load(self, plan: Plan, split: Split) -> Backbone:
        if self.model is not None:
            return from_object.adopt(self.model, self.preprocessor, task=split.task, labels=split.labels)
        name, seed = plan.baseline.backbone, plan.tuning.seed
        backbone = models.load(name, task=split.task, labels=split.labels, seed=seed)
        settle(backbone.model)  # each run takes a copy, which is then free until it changes
        return backbone

    def _current(self, what: str, choices: Any) -> Any:
        made_from, value = self._known.get(what, (None, None))
        return value if made_from == choices else None

    def _once(self, what: str, choices: Any, make: Callable[[], Any]) -> Any:
        with self._lock:
            if what not in self._known or self._known[what][0] != choices:
                found = self._elder._awaited(what, choices) if self._elder is not None else None
                self._known[what] = (choices, make() if found is None else found)
            return self._known[what][1]

    def _awaited(self, what: str, choices: Any) -> Any:
        with self._lock:  # held while anything is made
            return self._current(what, choices)


def _rows_of(plan: Plan) -> Any:
    """Return the fields that the rows and their split depend on."""
    return plan.with_absolute_paths().touching("rows")


def _model_of(plan: Plan, split: Split) -> Any:
    """Return the fields that the pretrained model depends on, and what its head depends on."""
    return (plan.with_absolute_paths().touching("model"), split.task, split.labels)

"""Loads the data and the backbone that a plan names, and caches them for the next run with the same choices.

A run changes the model that it trains, so every run gets a copy; the unchanged model stays here for panels and later
runs. Rows, a model and metrics can be given as objects; the plan then has "table" as source or "object" as backbone.
"""

import os
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Self

from workbench import data, models
from workbench.data import Split
from workbench.errors import PlanError, RunError, a
from workbench.models import Backbone, from_object
from workbench.plan.plan import Plan

if TYPE_CHECKING:
    from workbench.tasks.examples import Examples

TABLE_SOURCE = "table"  # the source of a plan whose rows were given as an object
OBJECT_BACKBONE = "object"  # the backbone of a plan whose model was given as an object
_EXAMPLE = "wb.Session(wb.Plan().change(epochs=1), table=frame)"


def plan_and_table(given: Any, table: Any = None) -> tuple[Plan, Any]:
    """Return the plan and the table that the first argument of a session or a run stands for.

    Args:
        given: A plan, a table (pandas frame, `datasets.Dataset` or `DatasetDict`), the name of a source or path of a
            file, or None.
        table: The table that was given by its own name, if any.

    Raises:
        PlanError: `given` is none of these, or there are two tables.
        DataError: `table` is no table.
    """
    if isinstance(table, str | os.PathLike):
        given, table = (given or Plan()).change(source=os.fspath(table)), None
    if table is not None:
        data.check_table(table)
    if given is None or isinstance(given, Plan):
        return given or Plan(), table
    if isinstance(given, str | os.PathLike):
        return Plan().change(source=os.fspath(given)), table
    if not data.is_table(given):
        raise PlanError(
            f"expected a plan, a table or the name of a source; got {a(type(given).__name__)}", hint=_EXAMPLE
        )
    if table is not None:
        raise PlanError("two tables are given; expected a plan and a table", hint=_EXAMPLE)
    return Plan(), given


class Preparation:
    """The split, the backbone and the encoded examples of a plan; each is loaded again only if its choices change.

    Args:
        table: A pandas frame or `datasets.Dataset`, in place of the plan's `source`.
        model: A transformers model with a head for the classes of the rows, in place of the plan's `backbone`.
        preprocessor: The tokenizer or image processor of that model.
        metrics: Metrics to compute besides those of the task: `evaluate.Metric` objects, or their names.
    """

    def __init__(
        self, table: Any = None, *, model: Any = None, preprocessor: Any = None, metrics: tuple[Any, ...] = ()
    ) -> None:
        self.table, self.model, self.preprocessor = table, model, preprocessor
        self.metrics = tuple(metrics)
        self._loaded: dict[str, tuple[Any, Any]] = {}  # name of a part -> (the choices it depends on, the part)
        self._original: Preparation | None = None  # if this one is a snapshot: of which
        self._lock = threading.RLock()

    @property
    def objects(self) -> dict[str, Any]:
        """The objects that were given, by name."""
        found = {"table": self.table, "model": self.model, "preprocessor": self.preprocessor}
        return {name: value for name, value in found.items() if value is not None} | (
            {"metrics": self.metrics} if self.metrics else {}
        )

    def snapshot(self) -> Self:
        """Return a copy with everything that is loaded now; later changes of either do not affect the other.

        If the copy needs a part that this one is loading or has loaded since, it waits for it and uses it.
        """
        snapshot = type(self)(**self.objects)
        snapshot._loaded, snapshot._original = dict(self._loaded), self
        return snapshot

    def with_objects(self, table: Any, model: Any, preprocessor: Any) -> Self:
        """Return a new preparation with these objects; an object that is None is taken from this one."""
        return type(self)(
            self.table if table is None else table,
            model=self.model if model is None else model,
            preprocessor=self.preprocessor if preprocessor is None else preprocessor,
            metrics=self.metrics,
        )

    def label_objects(self, plan: Plan) -> Plan:
        """Return the plan with "table" as source or "object" as backbone, if these were given as objects."""
        if self.table is not None:
            plan = plan.change(source=TABLE_SOURCE)
        return plan if self.model is None else plan.change(backbone=OBJECT_BACKBONE)

    def check_objects(self, plan: Plan) -> None:
        """Check that the objects that the plan mentions are given.

        Raises:
            RunError: An object has to be given again.
        """
        needs_table, needs_model = plan.data.source == TABLE_SOURCE, plan.baseline.backbone == OBJECT_BACKBONE
        lacking = [
            *["the rows of this run were given as a table"] * (needs_table and self.table is None),
            *["the model of this run was given as an object"] * (needs_model and self.model is None),
        ]
        if not lacking:
            return
        reader = "processor" if plan.data.task == "image-classification" else "tokenizer"
        given = ["table=frame"] * needs_table + [f"model=model, preprocessor={reader}"] * needs_model
        objects = ", ".join(given)
        model = ", the model as it was before training" if needs_model else ""
        raise RunError(
            f"{' and '.join(lacking)}, which a run folder does not store",
            hint=f"give again what the run was given{model}: wb.attach(run.folder, {objects}), "
            f"or wb.Session(plan, {objects})",
        )

    def split(self, plan: Plan) -> Split:
        """Return the rows, read and split. Raises DataError."""
        self.check_objects(plan)
        split: Split = self._once("split", _rows_of(plan), lambda: data.load(plan.data, table=self.table))
        return split

    def backbone(self, plan: Plan) -> Backbone:
        """Return the pretrained model with a head for the classes; do not change it. Raises BackboneError."""
        split = self.split(plan)
        backbone: Backbone = self._once("backbone", _model_of(plan, split), lambda: self._load(plan, split))
        return backbone

    def examples(self, plan: Plan) -> "tuple[Examples, Examples]":
        """Return the training and validation examples, encoded for the backbone."""
        from workbench import tasks

        split, backbone = self.split(plan), self.backbone(plan)
        choices = (_rows_of(plan), plan.touching("examples"), _model_of(plan, split))
        examples: tuple[Examples, Examples] = self._once(
            "examples", choices, lambda: tasks.encode(split, backbone, plan.data)
        )
        return examples

    def own_backbone(self, plan: Plan) -> Backbone:
        """Return a copy of the backbone that a run may change; only changed tensors use additional memory."""
        from workbench.models.copy_on_write import twin

        backbone = self.backbone(plan)
        own: Backbone = twin(backbone, backbone.model)
        return own

    def forget(self, *parts: str) -> None:
        """Release the "split", "backbone" or "examples"; they are loaded again when needed."""
        for part in parts:
            self._loaded.pop(part, None)

    def current_split(self, plan: Plan) -> Split | None:
        """Return the split of this plan if it is loaded, without waiting while it is loading."""
        found: Split | None = self._current("split", _rows_of(plan))
        return found

    def current_backbone(self, plan: Plan) -> Backbone | None:
        """Return the backbone of this plan if it is loaded, without waiting while it is loading."""
        split = self.current_split(plan)
        found: Backbone | None = self._current("backbone", _model_of(plan, split)) if split else None
        return found

    def _load(self, plan: Plan, split: Split) -> Backbone:
        from workbench.models.copy_on_write import settle

        if self.model is not None:
            return from_object.adopt(self.model, self.preprocessor, task=split.task, labels=split.labels)
        name, seed = plan.baseline.backbone, plan.tuning.seed
        backbone = models.load(name, task=split.task, labels=split.labels, seed=seed)
        settle(backbone.model)  # every run makes a copy, which takes no memory until it changes
        return backbone

    def _current(self, part: str, choices: Any) -> Any:
        made_from, value = self._loaded.get(part, (None, None))
        return value if made_from == choices else None

    def _once(self, part: str, choices: Any, load: Callable[[], Any]) -> Any:
        with self._lock:
            if part not in self._loaded or self._loaded[part][0] != choices:
                found = self._original._awaited(part, choices) if self._original is not None else None
                self._loaded[part] = (choices, load() if found is None else found)
            return self._loaded[part][1]

    def _awaited(self, part: str, choices: Any) -> Any:
        with self._lock:  # is held while anything is loaded
            return self._current(part, choices)


def _rows_of(plan: Plan) -> Any:
    """Return the fields that the rows and their split depend on."""
    return plan.with_absolute_paths().touching("rows")


def _model_of(plan: Plan, split: Split) -> Any:
    """Return the fields that the pretrained model depends on, and the task and labels, for its head."""
    return (plan.with_absolute_paths().touching("model"), split.task, split.labels)

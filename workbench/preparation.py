"""Loads what a plan names, and keeps it for the next run that names the same.

A run changes the model it trains, so each gets a copy; the pristine one stays here for the panels and later runs.
"""

import copy
import threading
from typing import Any

from workbench import baseline, data, tasks
from workbench.baseline import Backbone
from workbench.choices import Plan
from workbench.data import Split
from workbench.tasks.examples import Examples


class Preparation:
    """The split, the backbone and the encoded examples of a plan; each loaded once until its choices change.

    Args:
        table: A pandas frame or `datasets.Dataset` to learn from, in place of the plan's `source`.
    """

    def __init__(self, table: Any = None) -> None:
        self.table = table
        self._known: dict[str, tuple[Any, Any]] = {}  # what -> (the choices it was made from, it)
        self._lock = threading.RLock()

    def split(self, plan: Plan) -> Split:
        """Return the rows, read and split. Raises DataError."""
        return self._once("split", plan.data, lambda: data.load(plan.data, table=self.table))  # type: ignore[no-any-return]

    def backbone(self, plan: Plan) -> Backbone:
        """Return the pretrained model with a head for the rows' classes; not to be changed. Raises BackboneError."""
        return self._once("backbone", self._backbone_choices(plan), lambda: self._load(plan))  # type: ignore[no-any-return]

    def examples(self, plan: Plan) -> tuple[Examples, Examples]:
        """Return the training and validation examples, encoded for the backbone."""
        split, choices = self.split(plan), (plan.data, self._backbone_choices(plan))
        return self._once("examples", choices, lambda: tasks.encode(split, self.backbone(plan), plan.data))  # type: ignore[no-any-return]

    def own_backbone(self, plan: Plan) -> Backbone:
        """Return a copy of the backbone that a run may change."""
        return copy.deepcopy(self.backbone(plan))

    def current(self, what: str, plan: Plan) -> Any:
        """Return the "split" or "backbone" of this plan if it is loaded, without waiting for one that is under way."""
        choices = {"split": plan.data, "backbone": self._backbone_choices(plan)}[what]
        made_from, value = self._known.get(what, (None, None))
        return value if made_from == choices else None

    def _backbone_choices(self, plan: Plan) -> tuple[Any, ...]:
        return (plan.baseline, plan.data, plan.tuning.seed)  # the rows tell the task and the classes of the head

    def _load(self, plan: Plan) -> Backbone:
        split = self.split(plan)
        return baseline.load(plan.baseline.backbone, task=split.task, labels=split.labels, seed=plan.tuning.seed)

    def _once(self, what: str, choices: Any, make: Any) -> Any:
        with self._lock:
            if what not in self._known or self._known[what][0] != choices:
                self._known[what] = (choices, make())
            return self._known[what][1]

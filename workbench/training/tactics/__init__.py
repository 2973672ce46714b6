"""Tactics: early stopping, progressive unfreezing, and anything else that changes training.

To add one, write a file with a subclass of `Tactic` and add the class to TABLE. Its hyperparameters are fields of the
plan (plan/choices/).
"""

from workbench.training.tactics.early_stopping import EarlyStopping as EarlyStopping
from workbench.training.tactics.tactic import PlannedBatch as PlannedBatch
from workbench.training.tactics.tactic import Tactic as Tactic
from workbench.training.tactics.unfreezing import Unfreezing as Unfreezing

TABLE: tuple[type[Tactic], ...] = (EarlyStopping, Unfreezing)  # the engine calls them in this order

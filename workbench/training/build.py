"""Builds a learner from a plan: blocks frozen, adapters inserted, on its device, with settings, tactics and shortcuts.

engine.py trains the learner, and restore.py loads a checkpoint into it.
"""

from collections.abc import Callable, Sequence
from typing import Any

from workbench.errors import PlanError
from workbench.models import Backbone, freezing
from workbench.plan.plan import Plan
from workbench.tasks import TABLE
from workbench.tasks.examples import Examples
from workbench.training import tactics
from workbench.training.device import choose_device, idle_notes
from workbench.training.dropout import set_dropout
from workbench.training.learner import Learner
from workbench.training.optimizer import build_optimizer
from workbench.training.settings import Settings
from workbench.training.shortcut import Shortcut


def as_planned(learner: Learner) -> Settings:
    """Return the settings that the plan asks for; a precision of "auto" becomes fp32."""
    choice = learner.plan.tuning
    return Settings(precision="fp32" if choice.precision == "auto" else choice.precision)


def build(
    backbone: Backbone,
    train: Examples,
    validation: Examples,
    plan: Plan,
    *,
    trained: Sequence[str] = (),
    metrics: tuple[Any, ...] = (),
    settings: Callable[[Learner], Settings] = as_planned,
    shortcuts: Callable[[Learner], Sequence[Shortcut]] = lambda learner: (),
) -> Learner:
    """Return a learner at step 0: blocks frozen, adapters inserted, dropout set, model on its device.

    Args:
        backbone: The pretrained model; it is changed in place.
        train: The training examples.
        validation: The examples to evaluate on; the plan may ask for a sample of them.
        plan: The plan of the run.
        trained: Names of blocks that were trainable before and are frozen now, for a resumed run.
        metrics: Metrics to compute besides those of the task.
        settings: Returns the settings of this learner; it may try training steps on it.
        shortcuts: Returns the objects that make steps of this learner cheaper, in the order in which they are prepared.

    Raises:
        PlanError: The plan asks for an unknown block or a missing device, or a split is empty.
    """
    if not len(train) or not len(validation):
        raise PlanError(
            f"{len(train)} training and {len(validation)} validation rows can be used; at least 1 of each is needed",
            hint="use more rows, or texts of at least two tokens",
        )
    task, choice = TABLE[backbone.task], plan.tuning
    device = choose_device(choice.device)
    adapted = adapt(backbone, plan, trained=trained)
    backbone.model.to(device)
    learner = Learner(
        backbone,
        task,
        train,
        validation.sample(plan.monitoring.evaluation_rows or task.evaluation_rows, seed=plan.data.split_seed),
        plan,
        freezing.resolve(backbone.blocks, plan.transfer),
        device,
        Settings(),
        build_optimizer(backbone.model, choice),
        metrics=metrics,
        tactics=tuple(kind() for kind in tactics.TABLE),
    )
    learner.settings = settings(learner)
    learner.settings.apply_to(backbone.model)
    if choice.packing == "auto":  # after the settings: the mask of packed rows depends on the kind of attention
        learner.train = task.pack(train, backbone.model)
    found = [f"validation: {note}" for note in validation.notes]
    learner.notes = (*idle_notes(), *backbone.notes, *learner.train.notes, *found, *adapted)
    learner.optimizer = build_optimizer(backbone.model, choice, fused=learner.settings.fused)
    learner.note_freezing(trained)
    learner.shortcuts = tuple(shortcuts(learner))
    return learner


def adapt(backbone: Backbone, plan: Plan, *, trained: Sequence[str] = (), seed: int | None = None) -> tuple[str, ...]:
    """Freeze blocks, insert adapters and set the dropout, in place; return notes for the user.

    Blocks in `trained` get adapters too if the plan asks for adapters.

    Args:
        backbone: The pretrained model; it is changed in place.
        plan: The plan of the run.
        trained: Names of blocks that were trainable before and are frozen now.
        seed: Seed of the weights of new adapters; by default the plan's.

    Raises:
        PlanError: The plan asks for an unknown block, or nothing would be trainable.
    """
    chosen = plan.tuning.seed if seed is None else seed
    freezing.freeze(backbone.model, backbone.blocks, plan.transfer, seed=chosen, adapted=trained)
    if (dropout := plan.tuning.dropout) is None:
        return ()
    trainable = freezing.resolve(backbone.blocks, plan.transfer)
    frozen = tuple(f"{path}." for block in backbone.blocks if block.name not in trainable for path in block.modules)
    places = [place for place in set_dropout(backbone.model, dropout) if not f"{place}.".startswith(frozen)]
    return () if places else (f"dropout {dropout:g} has no effect: no trainable block has a dropout layer",)

"""Makes a learner of what a plan names: frozen, adapted, on its device, with its settings, tactics and shortcuts.

What it learns afterwards is in engine.py, and how a checkpoint is put back into it in restore.py.
"""

from collections.abc import Callable, Sequence
from typing import Any

from workbench.errors import PlanError
from workbench.models import Backbone, freezing
from workbench.plan.choices import Plan
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
    """Return the settings that the plan asks for, in fp32 where it leaves that open."""
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
    shortcuts: Sequence[Shortcut] = (),
) -> Learner:
    """Return a learner at step 0: blocks frozen, adapters in place, dropout set, model on its device.

    Args:
        backbone: Its model is changed in place.
        train: The training examples.
        validation: The examples of evaluations; a sample is drawn as the plan says.
        plan: The choices.
        trained: Names of blocks that were trainable before and are frozen now, for a run that is resumed.
        metrics: What is measured besides the metrics of the task.
        settings: Returns how this learner computes; it may try steps of it.
        shortcuts: What makes steps cheaper, in the order in which they are prepared.

    Raises:
        PlanError: The plan asks for a block, device or dropout that is not there, or there is nothing to train on.
    """
    if not len(train) or not len(validation):
        raise PlanError(
            f"{len(train)} training and {len(validation)} validation examples; expected at least one each",
            hint="more rows, or texts of at least two tokens",
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
    if choice.packing == "auto":  # the attention mask depends on the attention that was chosen
        learner.train = task.pack(train, backbone.model)
    found = [f"validation: {note}" for note in validation.notes]
    learner.notes = (*idle_notes(), *backbone.notes, *learner.train.notes, *found, *adapted)
    learner.optimizer = build_optimizer(backbone.model, choice, fused=learner.settings.fused)
    learner.note_freezing(trained)
    learner.shortcuts = tuple(shortcuts)
    return learner


def adapt(backbone: Backbone, plan: Plan, *, trained: Sequence[str] = (), seed: int | None = None) -> tuple[str, ...]:
    """Freeze blocks, insert adapters and set the dropout, in place; return notes for the user.

    Blocks in `trained` get adapters too if the plan asks for adapters. New ones are drawn from `seed`, or the plan's.

    Raises:
        PlanError: The plan asks for a block that is not there, or nothing would be trainable.
    """
    chosen = plan.tuning.seed if seed is None else seed
    freezing.freeze(backbone.model, backbone.blocks, plan.transfer, seed=chosen, adapted=trained)
    if (dropout := plan.tuning.dropout) is None:
        return ()
    trainable = freezing.resolve(backbone.blocks, plan.transfer)
    frozen = tuple(f"{path}." for block in backbone.blocks if block.name not in trainable for path in block.modules)
    places = [place for place in set_dropout(backbone.model, dropout) if not f"{place}.".startswith(frozen)]
    return () if places else (f"dropout {dropout:g} changes nothing: no trainable block has a dropout layer",)

"""Makes a learner of what a plan names: frozen, adapted and moved to its device, its settings and narrowing found.

Left out: what it learns afterwards (engine.py), and weights that are put back into it (checkpoints.py).
"""

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from workbench.errors import PlanError
from workbench.models import Backbone, freezing
from workbench.plan.choices import Plan
from workbench.speed import first_token
from workbench.speed.settings.trials import Trial, choose_settings
from workbench.tasks import TABLE
from workbench.tasks.examples import Batch, Examples
from workbench.training.device import choose_device, idle_notes
from workbench.training.dropout import set_dropout
from workbench.training.learner import Learner, counted_nats
from workbench.training.optimizer import build_optimizer
from workbench.training.settings import Settings


def build(
    backbone: Backbone,
    train: Examples,
    validation: Examples,
    plan: Plan,
    *,
    learnt: Sequence[str] = (),
    metrics: tuple[Any, ...] = (),
    settings: Settings | None = None,
) -> Learner:
    """Return a learner at step 0: blocks frozen, adapters in place, dropout set, model on its device.

    Args:
        backbone: What learns; its model is changed in place.
        train: What it learns from.
        validation: What it is measured on; a sample is drawn as the plan says.
        plan: The choices.
        learnt: Names of blocks that learnt before and rest now, for a run that is taken up again.
        metrics: What is measured beside the metrics of the task.
        settings: How the run computed before; left out, the fastest way on this machine, which a short trial finds.

    Raises:
        PlanError: The plan asks for a block, device or dropout that is not there, or there is nothing to learn from.
    """
    if not len(train) or not len(validation):
        raise PlanError(
            f"{len(train)} training and {len(validation)} validation examples; expected at least one each",
            hint="more rows, or texts of at least two tokens",
        )
    task, choice = TABLE[backbone.task], plan.tuning
    device = choose_device(choice.device)
    adapted = adapt(backbone, plan, learnt=learnt)
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
    )
    learner.settings = settings.obeying(choice) if settings else choose_settings(trial_of(learner), choice)
    learner.settings.lay_out(backbone.model)
    if choice.packing == "auto":  # the mask is one for the way in which the model now attends
        learner.train = task.pack(train, backbone.model)
    found = [f"validation: {note}" for note in validation.notes]
    learner.notes = (*idle_notes(), *backbone.notes, *learner.train.notes, *found, *adapted)
    learner.optimizer = build_optimizer(backbone.model, choice, fused=learner.settings.fused)
    learner.note_freezing(learnt)
    learner.narrowing = _narrowing(learner)
    return learner


def _narrowing(learner: Learner) -> first_token.Narrowing | None:
    """Return what of the last block need be computed for the first place only, tried with padding and without."""
    if not learner.task.names_classes:
        return None
    model, train = learner.model.eval(), learner.train
    lengths = train.lengths
    short = min(range(len(train)), key=lengths.__getitem__)
    longer = min(range(len(train)), key=lambda index: (lengths[index] == lengths[short], lengths[index]))
    made = [learner.settings.moved(train.padded(few), learner.device) for few in ([short, longer], [longer])]
    try:
        runs = [lambda batch=batch: learner.task.score(model, batch)[0] for batch in made]
        return first_token.find(model, learner.backbone.blocks, runs)
    except Exception:  # whatever a stranger's model does when it is looked at, it can train as usual
        return None


def trial_of(learner: Learner) -> Trial:
    """Return the learner's training step, to be tried with other settings."""

    def nats(settings: Settings, batch: Batch) -> Tensor:
        learner.settings = settings
        learner.enter_training()
        return counted_nats(learner, batch)[0]

    train, choice = learner.train, learner.plan.tuning
    return Trial(
        learner.model,
        learner.device,
        train.lengths,
        train.batch,
        choice.batch_size,
        nats,
        batch_tokens=choice.batch_tokens,
        facts=(learner.backbone.task,),
    )


def adapt(backbone: Backbone, plan: Plan, *, learnt: Sequence[str] = (), seed: int | None = None) -> tuple[str, ...]:
    """Freeze blocks, put adapters in and set the dropout, in place; return what the user should know of it.

    Blocks in `learnt` get adapters too if the plan is for adapters. New ones are drawn from `seed`, or the plan's.

    Raises:
        PlanError: The plan asks for a block that is not there, or nothing would learn.
    """
    chosen = plan.tuning.seed if seed is None else seed
    freezing.apply(backbone.model, backbone.blocks, plan.transfer, seed=chosen, adapted=learnt)
    if (dropout := plan.tuning.dropout) is None:
        return ()
    trainable = freezing.resolve(backbone.blocks, plan.transfer)
    resting = tuple(f"{path}." for block in backbone.blocks if block.name not in trainable for path in block.modules)
    places = [place for place in set_dropout(backbone.model, dropout) if not f"{place}.".startswith(resting)]
    return () if places else (f"dropout {dropout:g} changes nothing: what learns has no place for it",)

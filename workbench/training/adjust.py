"""Changes of the plan while a run is under way: each takes hold before the next step, and is a fact in the log.

A learner with the same changes made after the same steps ends with the same weights, bit for bit. What can't change:
anything that the rows, the model or its adapters were made from.
"""

from workbench.errors import PlanError
from workbench.events import PlanAdjusted
from workbench.models import freezing
from workbench.plan.choices import Plan
from workbench.seeding import mixed
from workbench.training.build import adapt
from workbench.training.change import Change
from workbench.training.learner import Learner
from workbench.training.optimizer import build_optimizer


def adjust(learner: Learner, change: Change) -> PlanAdjusted | None:
    """Let the learner obey the change from its next step on; return the fact, or nothing if a wish changes nothing.

    Parameters that begin to learn enter the optimizer with a warm-up of their own; those that stop leave it, so that
    neither momentum nor decay moves them. Everything else in the optimizer stays as it was.

    Raises:
        PlanError: The plan does not allow the change, or names blocks that are not there; the learner is as it was.
    """
    plan = change.applied_to(learner.plan)
    differences = learner.plan.differences(plan)
    if not differences and not (
        change.scheduled or change.by
    ):  # those are counted in the log, so they are always logged
        return None
    trainable = freezing.resolve(learner.backbone.blocks, plan.transfer)
    is_rebuilt = {*differences} & {name for name, _ in plan.touching("trainable")}
    learner.is_consistent = False  # an interrupt from here on leaves something between two plans
    _obey(learner, plan, trainable, is_rebuilt=bool(is_rebuilt))
    learner.progress.adjustments += 1
    learner.is_consistent = True
    before = {name: was for name, (was, _) in differences.items()}
    after = {name: now for name, (_, now) in differences.items()}
    return PlanAdjusted(step=learner.step, before=before, after=after, scheduled=change.scheduled, by=change.by)


def _obey(learner: Learner, plan: Plan, trainable: tuple[str, ...], *, is_rebuilt: bool) -> None:
    was = learner.plan, learner.trainable
    learner.plan, learner.trainable = plan, trainable
    try:
        if is_rebuilt:
            _rebuild(learner)
    except PlanError:  # a block that no adapter fits
        learner.plan, learner.trainable = was
        _rebuild(learner)
        learner.is_consistent = True
        raise


def _rebuild(learner: Learner) -> None:
    """Freeze, adapt and drop out as the plan says now, and give the optimizer what learns."""
    seed = mixed(learner.plan.tuning.seed, learner.step, stream="adapters")
    adapt(learner.backbone, learner.plan, trained=learner.progress.trained, seed=seed)
    learner.model.to(learner.device)
    learner.settings.apply_to(learner.model)
    learner.note_freezing()
    rebuild_optimizer(learner)
    learner.invalidate()


def rebuild_optimizer(learner: Learner) -> None:
    """Make the optimizer anew from what learns now; what it knew of those parameters is kept."""
    known, fused = learner.optimizer.state, learner.settings.fused
    learner.optimizer = build_optimizer(
        learner.model, learner.plan.tuning, learner.progress.trainable_since, fused=fused
    )
    for parameter in learner.trainable_parameters.values():
        if parameter in known:
            learner.optimizer.state[parameter] = known[parameter]
    for parameter in learner.model.parameters():
        if not parameter.requires_grad:
            parameter.grad = None

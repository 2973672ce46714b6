"""Changes the plan of a learner in mid-run. A change applies from the next step on and is logged as an event.

The same changes after the same steps give the same weights, bit for bit. Fields that determine the rows, the model or
its adapters can't change.
"""

from workbench.errors import PlanError
from workbench.events import PlanAdjusted
from workbench.models import freezing
from workbench.plan.plan import Plan
from workbench.seeding import mixed
from workbench.training.build import adapt
from workbench.training.change import Change
from workbench.training.learner import Learner
from workbench.training.optimizer import build_optimizer


def adjust(learner: Learner, change: Change) -> PlanAdjusted | None:
    """Apply a change to the learner before its next step; return its event, or None if a request changes nothing.

    Parameters that become trainable enter the optimizer with a warm-up of their own. Parameters that become frozen
    leave the optimizer, so that neither momentum nor weight decay moves them. The state of all others is kept.

    Raises:
        PlanError: The plan does not allow the change, or names unknown blocks; the learner is then unchanged.
    """
    plan = change.applied_to(learner.plan)
    differences = learner.plan.differences(plan)
    is_counted = change.scheduled or change.by  # a resumed run counts these events, so each must be in the log
    if not differences and not is_counted:
        return None
    trainable = freezing.resolve(learner.backbone.blocks, plan.transfer)
    is_rebuilt = {*differences} & {name for name, _ in plan.touching("trainable")}
    learner.is_consistent = False  # an interrupt here leaves a mixture of two plans
    _apply(learner, plan, trainable, is_rebuilt=bool(is_rebuilt))
    learner.progress.adjustments += 1
    learner.is_consistent = True
    before = {name: old for name, (old, _) in differences.items()}
    after = {name: new for name, (_, new) in differences.items()}
    return PlanAdjusted(
        step=learner.step,
        before=before,
        after=after,
        scheduled=change.scheduled,
        by=change.by,
        steps=learner.steps,
    )


def _apply(learner: Learner, plan: Plan, trainable: tuple[str, ...], *, is_rebuilt: bool) -> None:
    before = learner.plan, learner.trainable
    learner.plan, learner.trainable = plan, trainable
    try:
        if is_rebuilt:
            _rebuild(learner)
    except PlanError:  # a block without a layer that can have an adapter
        learner.plan, learner.trainable = before
        _rebuild(learner)
        learner.is_consistent = True
        raise


def _rebuild(learner: Learner) -> None:
    """Apply freezing, adapters and dropout of the current plan, and rebuild the optimizer."""
    seed = mixed(learner.plan.tuning.seed, learner.step, stream="adapters")
    adapt(learner.backbone, learner.plan, trained=learner.progress.trained, seed=seed)
    learner.model.to(learner.device)
    learner.settings.apply_to(learner.model)
    learner.note_freezing()
    rebuild_optimizer(learner)
    learner.invalidate()


def rebuild_optimizer(learner: Learner) -> None:
    """Make a new optimizer for the trainable parameters; it keeps the state of those that were trainable before."""
    old_state, fused = learner.optimizer.state, learner.settings.fused
    learner.optimizer = build_optimizer(
        learner.model, learner.plan.tuning, learner.progress.trainable_since, fused=fused
    )
    for parameter in learner.trainable_parameters.values():
        if parameter in old_state:
            learner.optimizer.state[parameter] = old_state[parameter]
    for parameter in learner.model.parameters():
        if not parameter.requires_grad:
            parameter.grad = None

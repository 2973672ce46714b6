"""Changes of the plan while a run is under way: each takes hold before the next step, and is a fact in the log.

A learner with the same changes made after the same steps ends with the same weights, bit for bit. What can't change:
anything that the rows, the model or its adapters were made from.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from workbench.errors import PlanError, nearest
from workbench.events import PlanAdjusted
from workbench.models import freezing
from workbench.plan.choices import LIVE_FIELDS, Plan
from workbench.seeding import mixed
from workbench.training.build import adapt
from workbench.training.learner import Learner
from workbench.training.optimizer import build_optimizer

FORK_FIELDS = (  # what a fork can change in mid-run: all that only steps to come depend on
    *LIVE_FIELDS,
    *("schedule", "warmup_fraction", "weight_decay", "clip_norm", "dropout", "epochs", "max_steps"),
    *("batch_size", "batch_tokens", "batching", "accumulation_steps", "checkpoint_every", "keep_last", "save_model"),
)


@dataclass(frozen=True)
class Change:
    """Fields of the plan to change once `step` steps were taken; None: as soon as may be."""

    fields: Mapping[str, Any]
    step: int | None = None
    scheduled: bool = False  # known when the run began


def check(plan: Plan, changes: Mapping[str, Any], *, allowed: tuple[str, ...] = LIVE_FIELDS) -> Plan:
    """Return the plan with the changes made.

    Raises:
        PlanError: An unknown field, one that a run under way can't obey, or a value that can't be.
    """
    changed = plan.change(**changes)
    if plan.tuning.dropout is not None and changed.tuning.dropout is None:
        raise PlanError("dropout can't go back to the backbone's own once steps were taken", hint="dropout=0.1, or 0")
    for name in changes:
        if name not in allowed:
            raise PlanError(
                f"{name} can't change once steps were taken; {', '.join(allowed)} can",
                hint=f"{nearest(name, allowed)}, or change the plan of the next run",
            )
    return changed


def adjust(learner: Learner, change: Change) -> PlanAdjusted | None:
    """Let the learner obey the change from its next step on; return the fact, or nothing if a wish changes nothing.

    Parameters that begin to learn enter the optimizer with a warm-up of their own; those that stop leave it, so that
    neither momentum nor decay moves them. Everything else in the optimizer stays as it was.

    Raises:
        PlanError: As `check`, or the blocks asked for are not there; the learner is as it was.
    """
    plan = check(learner.plan, change.fields, allowed=FORK_FIELDS if change.scheduled else LIVE_FIELDS)
    differences = learner.plan.differences(plan)
    if not differences and not change.scheduled:  # a scheduled one is told even so: the log counts how many are done
        return None
    trainable = freezing.resolve(learner.backbone.blocks, plan.transfer)
    learner.is_whole = False  # an interrupt from here on leaves something between two plans
    _obey(learner, plan, trainable, is_rebuilt=bool({*differences} & {"trainable", "dropout", "weight_decay"}))
    learner.adjusted += 1
    learner.is_whole = True
    before = {name: was for name, (was, _) in differences.items()}
    after = {name: now for name, (_, now) in differences.items()}
    return PlanAdjusted(step=learner.step, before=before, after=after, scheduled=change.scheduled)


def _obey(learner: Learner, plan: Plan, trainable: tuple[str, ...], *, is_rebuilt: bool) -> None:
    was = learner.plan, learner.trainable
    learner.plan, learner.trainable = plan, trainable
    try:
        if is_rebuilt:
            _rebuild(learner)
    except PlanError:  # a block that no adapter fits
        learner.plan, learner.trainable = was
        _rebuild(learner)
        learner.is_whole = True
        raise


def _rebuild(learner: Learner) -> None:
    """Freeze, adapt and drop out as the plan says now, and give the optimizer what learns."""
    seed = mixed(learner.plan.tuning.seed, learner.step, stream="adapters")
    adapt(learner.backbone, learner.plan, learnt=learner.learnt, seed=seed)
    learner.model.to(learner.device)
    learner.settings.lay_out(learner.model)
    learner.note_freezing()
    rebuild_optimizer(learner)
    learner.forget_modes()
    learner.reuse = learner.reuse_of = None  # what is frozen may be something else by now


def rebuild_optimizer(learner: Learner) -> None:
    """Make the optimizer anew from what learns now; what it knew of those parameters is kept."""
    known, fused = learner.optimizer.state, learner.settings.fused
    learner.optimizer = build_optimizer(learner.model, learner.plan.tuning, learner.joined, fused=fused)
    for parameter in learner.learning.values():
        if parameter in known:
            learner.optimizer.state[parameter] = known[parameter]
    for parameter in learner.model.parameters():
        if not parameter.requires_grad:
            parameter.grad = None

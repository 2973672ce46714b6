"""Forks: a new run that starts from the state of another run after some step, with some fields of the plan changed.

Without changes the fork ends with the same weights as its parent, bit for bit, because it also makes the parent's later
changes of the plan. A field that the fork changes keeps the fork's value: later changes of it by the parent are left
out. The fork's own changes are made before its first checkpoint is written, so that everything of it, from the number
of its steps on, is that of its own plan.
"""

import dataclasses
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

from workbench.errors import PlanError
from workbench.events import PlanAdjusted, RunForked
from workbench.plan.plan import FORK_FIELDS, Plan
from workbench.runs import checkpoints
from workbench.runs.disk.run_folder import RunFolder
from workbench.runs.moment import Moment, parent_of
from workbench.runs.replay import pending_changes, write_schedule
from workbench.training import engine
from workbench.training.change import Change, check, ending_unfreezing
from workbench.training.learner import Learner, steps_in

if TYPE_CHECKING:
    from workbench.runs.preparation import Preparation


def fork(parent: RunFolder, preparation: "Preparation", step: int, changes: Mapping[str, Any]) -> RunFolder:
    """Create the run folder of a fork that starts where the parent was after `step` steps; return it, ready to run.

    Args:
        parent: The run to start from.
        preparation: Has loaded the data and the backbone of that run.
        step: Number of the parent's steps that the fork shares; with 0 it starts from the backbone, and every field of
            the plan can change.
        changes: Field of the plan -> value in the fork.

    Raises:
        PlanError: A field can't change at that step, or no step is left to take.
        RunError: The parent has not taken so many steps, or its checkpoints are damaged.
    """
    moment = Moment(parent, preparation, step)
    if step == 0:
        plan, adjustments, adjusted = moment.folder.plan().change(**changes), 0, None
        folder = RunFolder.create(plan, parent.path.parent)
    else:
        learner = moment.learner
        adjustments, changes = learner.progress.adjustments, ending_unfreezing(learner.plan, changes)
        _check(learner, preparation, changes)
        adjusted = _made(learner, changes)
        plan = learner.plan
        folder = RunFolder.create(plan, parent.path.parent)
        checkpoints.save(learner, folder.path / "checkpoints", adjustments=1 if adjusted else 0)  # those in its own log
    fields = {name: plan.flat()[name] for name in changes}
    own = [Change(fields, step, True)] if adjusted else []
    write_schedule(folder.path, [*own, *_later_changes(moment.folder, parent, adjustments, without=fields)])
    if {*fields} <= {*FORK_FIELDS}:
        known = parent.environment()
        folder.note_environment(**{name: known[name] for name in ("data", "settings") if known.get(name)})
    folder.append(RunForked(parent=parent.name, step=step, changes=fields))
    if adjusted:
        folder.append(adjusted)
    folder.close()
    return folder


def _check(learner: Learner, preparation: "Preparation", changes: Mapping[str, Any]) -> None:
    """Check that the learner can take a step with these changes. Raises PlanError."""
    plan = check(learner.plan, changes, allowed=FORK_FIELDS)
    for tactic in learner.tactics:
        tactic.check(learner, plan)
    steps = steps_in(plan, preparation.examples(plan)[0])
    if steps <= learner.step:
        raise PlanError(
            f"no step is left to take: the fork starts after step {learner.step}, and its plan ends at step {steps}",
            hint=_more_steps(plan, learner.step),
        )
    forked = dataclasses.replace(learner, plan=plan)
    if reason := next((why for tactic in forked.tactics if (why := tactic.stop_reason(forked))), None):
        raise PlanError(
            f"with these changes the run would end at once: {reason}",
            hint="use a higher stop_patience, or stop_patience=None",
        )


def _more_steps(plan: Plan, step: int) -> str:
    """Return what to try if the plan ends at or before this step."""
    limit = plan.tuning.max_steps
    more = "use more epochs" if limit is None or limit > step else f"use a higher max_steps than {step}, or None"
    return f"{more}, or fork at an earlier step"


def _made(learner: Learner, changes: Mapping[str, Any]) -> PlanAdjusted | None:
    """Make the changes of the fork, in place; return their event, or None if there are none. Raises PlanError."""
    if not changes:
        return None
    if not learner.is_due:  # the parent did not evaluate here, and its fork does not either
        learner.progress.decided_step = learner.step
    return engine.make_change(learner, Change(changes, learner.step, scheduled=True))


def _later_changes(first: RunFolder, last: RunFolder, adjustments: int, *, without: Collection[str]) -> list[Change]:
    """Return the changes that a run made after its first `adjustments` ones, and then its forks down to `last`."""
    changes = pending_changes(last.path, last.events(), adjustments if first.path == last.path else 0)
    if first.path != last.path:
        forked = next(event for event in last.events() if isinstance(event, RunForked))
        before = _later_changes(first, parent_of(last, forked), adjustments, without=())
        changes = [change for change in before if (change.step or 0) < forked.step] + changes
    kept = [_without(change, without) for change in changes]
    return [change for change in kept if change.fields]


def _without(change: Change, names: Collection[str]) -> Change:
    fields = {name: value for name, value in change.fields.items() if name not in names}
    return Change(fields, change.step, True)

"""Forks: a new run that starts from the state of another run after some step, with some fields of the plan changed.

Without changes the fork ends with the same weights as its parent, bit for bit, because it also makes the parent's later
changes of the plan. A field that the fork changes keeps the fork's value: later changes of it by the parent are left
out.
"""

import dataclasses
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

from workbench.errors import PlanError
from workbench.events import RunForked
from workbench.plan.plan import FORK_FIELDS, Plan
from workbench.runs import checkpoints
from workbench.runs.disk.run_folder import RunFolder
from workbench.runs.moment import Moment
from workbench.runs.replay import pending_changes, write_schedule
from workbench.training.change import Change, check, ending_unfreezing
from workbench.training.learner import steps_in

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
    root, adjustments = parent.path.parent, 0
    if step == 0:
        plan = parent.plan().change(**changes)
        folder = RunFolder.create(plan, root)
    else:
        learner = moment.learner
        changes = ending_unfreezing(learner.plan, changes)
        plan = _changed(moment, preparation, changes)
        folder, adjustments = RunFolder.create(plan, root), learner.progress.adjustments
        checkpoints.save(learner, folder.path / "checkpoints", adjustments=0)  # the fork's log counts from here
    fields = {name: plan.flat()[name] for name in changes}
    own = [Change(fields, step, True)] if fields and step else []
    later = [_without(change, fields) for change in pending_changes(parent.path, parent.events(), adjustments)]
    write_schedule(folder.path, own + [change for change in later if change.fields])
    if {*fields} <= {*FORK_FIELDS}:
        known = parent.environment()
        folder.note_environment(**{name: known[name] for name in ("data", "settings") if known.get(name)})
    folder.append(RunForked(parent=parent.name, step=step, changes=fields))
    folder.close()
    return folder


def _changed(moment: Moment, preparation: "Preparation", changes: Mapping[str, Any]) -> Plan:
    """Return the plan at that step with the changes, after checking that a step is left to take."""
    plan = check(moment.learner.plan, changes, allowed=FORK_FIELDS)
    for tactic in moment.learner.tactics:
        tactic.check(moment.learner, plan)
    steps = steps_in(plan, preparation.examples(plan)[0])
    if steps <= moment.step:
        raise PlanError(
            f"with these changes the run has {steps} steps; expected more than the {moment.step} that are taken",
            hint="use more epochs, or a higher max_steps",
        )
    forked = dataclasses.replace(moment.learner, plan=plan)
    if reason := next((why for tactic in forked.tactics if (why := tactic.stop_reason(forked))), None):
        raise PlanError(
            f"with these changes the run would end at once: {reason}",
            hint="use a higher stop_patience, or stop_patience=None",
        )
    return plan


def _without(change: Change, names: Collection[str]) -> Change:
    fields = {name: value for name, value in change.fields.items() if name not in names}
    return Change(fields, change.step, True)

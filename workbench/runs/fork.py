"""What if: a new run that begins where another was after some step, with some choices changed from there on.

Without a change it ends with the same weights as its parent, bit for bit, the parent's own later changes included. A
choice that is changed stays so: what the parent did to the same choice later is left out.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from workbench.errors import PlanError
from workbench.events import RunForked
from workbench.plan.choices import FORK_FIELDS, Plan
from workbench.runs import checkpoints
from workbench.runs.disk.run_folder import RunFolder
from workbench.runs.moment import Moment
from workbench.runs.replay import pending_changes, write_schedule
from workbench.training.change import Change, check, ending_unfreezing
from workbench.training.learner import steps_in

if TYPE_CHECKING:
    from workbench.runs.preparation import Preparation


def fork(parent: RunFolder, preparation: "Preparation", step: int, changes: Mapping[str, Any]) -> RunFolder:
    """Return the folder of a new run, ready to be carried out, that begins where the parent was after `step` steps.

    Args:
        parent: The run to begin from.
        preparation: What was loaded for it.
        step: Steps of the parent that the fork shares; 0 begins from the backbone, where every choice can change.
        changes: Fields of the plan -> values from there on.

    Raises:
        PlanError: A choice that can't be changed at that step, or that leaves no step to take.
        RunError: The parent has not taken so many steps, or what it kept is broken.
    """
    moment = Moment(parent, preparation, step)
    root, adjusted = parent.path.parent, 0
    if step == 0:
        plan = parent.plan().change(**changes)
        folder = RunFolder.create(plan, root)
    else:
        learner = moment.learner
        changes = ending_unfreezing(learner.plan, changes)
        plan = _changed(moment, preparation, changes)
        folder, adjusted = RunFolder.create(plan, root), learner.progress.adjustments
        checkpoints.save(learner, folder.path / "checkpoints", adjustments=0)  # the fork's log counts from here
    fields = {name: plan.flat()[name] for name in changes}
    own = [Change(fields, step, True)] if fields and step else []
    later = [_without(change, fields) for change in pending_changes(parent.path, parent.events(), adjusted)]
    write_schedule(folder.path, own + [change for change in later if change.fields])
    if {*fields} <= {*FORK_FIELDS}:
        known = parent.environment()
        folder.note_environment(**{name: known[name] for name in ("data", "settings") if known.get(name)})
    folder.append(RunForked(parent=parent.name, step=step, changes=fields))
    folder.close()
    return folder


def _changed(moment: Moment, preparation: "Preparation", changes: Mapping[str, Any]) -> Plan:
    """Return the plan of the moment with the changes made, if any step is left to take with it."""
    plan = check(moment.learner.plan, changes, allowed=FORK_FIELDS)
    for tactic in moment.learner.tactics:
        tactic.check(moment.learner, plan)
    steps = steps_in(plan, preparation.examples(plan)[0])
    if steps <= moment.step:
        raise PlanError(
            f"with these changes the run has {steps} steps, and {moment.step} are taken",
            hint="more epochs, or a higher max_steps",
        )
    return plan


def _without(change: Change, changed: Mapping[str, Any]) -> Change:
    fields = {name: value for name, value in change.fields.items() if name not in changed}
    return Change(fields, change.step, True)

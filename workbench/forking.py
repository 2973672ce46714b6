"""What if: a new run that begins where another was after some step, with some choices changed from there on.

Without a change it ends with the same weights as its parent, bit for bit, the parent's own later changes included. A
choice that is changed stays so: what the parent did to the same choice later is left out.
"""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench import checkpoints
from workbench.adjusting import FORK_FIELDS, Change, check
from workbench.checkpoints import at, state_of
from workbench.errors import PlanError, RunError
from workbench.events import RunForked
from workbench.learner import steps_in
from workbench.moments import Moment
from workbench.replaying import pending, write_schedule
from workbench.store import RunFolder

if TYPE_CHECKING:
    from workbench.preparation import Preparation


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
    root = parent.path.parent
    if step == 0:
        folder = RunFolder.create(parent.plan().change(**changes), root)
        adjusted, own = 0, []
    else:
        folder, adjusted = _begun(parent, moment, preparation, changes)
        own = [Change(dict(changes), step, True)] if changes else []
    later = [_without(change, changes) for change in pending(parent.path, parent.events(), adjusted)]
    write_schedule(folder.path, own + [change for change in later if change.fields])
    if {*changes} <= {*FORK_FIELDS} and (data := parent.environment().get("data")):
        folder.note_environment(data=data)
    folder.append(RunForked(parent=parent.name, step=step, changes=dict(changes)))
    folder.close()
    return folder


def _begun(
    parent: RunFolder, moment: Moment, preparation: "Preparation", changes: Mapping[str, Any]
) -> tuple[RunFolder, int]:
    """Return a new folder with the moment's checkpoint in it, and how often the plan had changed by then."""
    learner = None if (kept := _kept(parent, moment.step)) else moment.learner
    state = state_of(kept) if kept else None
    before = state.plan if state else moment.learner.plan
    plan = check(before, changes, allowed=FORK_FIELDS)
    steps = steps_in(plan, len(preparation.examples(plan)[0]))
    if steps <= moment.step:
        raise PlanError(
            f"with these changes the run has {steps} steps, and {moment.step} are taken",
            hint="more epochs, or max_steps",
        )
    folder = RunFolder.create(plan, parent.path.parent)
    _put(kept.path if kept else None, learner, folder.path / "checkpoints")
    return folder, state.adjusted if state else moment.learner.adjusted


def _put(kept: Path | None, learner: Any, root: Path) -> None:
    if kept is None:
        checkpoints.save(learner, root)
    else:
        shutil.copytree(kept, root / kept.name)


def _kept(parent: RunFolder, step: int) -> checkpoints.Checkpoint | None:
    try:
        return checkpoints.verified(at(parent.path / "checkpoints", step))
    except RunError:
        return None


def _without(change: Change, changed: Mapping[str, Any]) -> Change:
    fields = {name: value for name, value in change.fields.items() if name not in changed}
    return Change(fields, change.step, True)

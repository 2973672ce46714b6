"""The model in a run folder, for a run whose rows or model were given as objects and are not there any more."""

from collections.abc import Iterable
from pathlib import Path

from workbench.errors import BackboneError, RunError
from workbench.events import Event, ModelSaved, RunStarted
from workbench.models import Backbone, load_saved
from workbench.plan.plan import Plan
from workbench.runs.preparation import Preparation


def saved_backbone(
    folder: Path, plan: Plan, preparation: Preparation, saved: ModelSaved | None, events: Iterable[Event], step: int
) -> Backbone | None:
    """Return the model that the run has saved, if it is of this step and the objects to compute it are not given.

    Raises:
        RunError: An object has to be given again, and no saved model can replace it.
    """
    started = next((event for event in events if isinstance(event, RunStarted)), None)
    try:
        preparation.check_objects(plan)
        return None
    except RunError:
        if saved is None or saved.step != step or started is None:
            raise
        try:
            return load_saved(folder / saved.folder, task=started.task)
        except BackboneError:  # it was deleted, or its class is none of transformers
            pass
        raise

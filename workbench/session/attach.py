"""attach: returns the handle on any run, without an existing session."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from workbench.plan.arguments import named
from workbench.runs.disk import run_list
from workbench.session.handle import Run
from workbench.session.session import Session


@named
def attach(
    name: str = "last",
    runs: Path | str = "runs",
    *,
    table: Any = None,
    model: Any = None,
    preprocessor: Any = None,
    metrics: Sequence[Any] = (),
) -> Run:
    """Return the handle on a run, live or ended, in a new session: `run.session`.

    Args:
        name: Name of the run, path to its folder, or "last" for the newest run.
        runs: The folder that has the run folders.
        table: The rows of the run, if they were given as an object.
        model: The model of the run, if it was given as an object.
        preprocessor: The tokenizer or image processor of that model.
        metrics: Metrics to compute besides those of the task, if the run is resumed here.

    Raises:
        RunError: There is no such run, or its log can't be read.
    """
    folder = run_list.find(name, runs)
    objects: dict[str, Any] = {"table": table, "model": model, "preprocessor": preprocessor, "metrics": metrics}
    return Session(folder.plan(), runs=folder.path.parent, **objects).attach(folder.name)

"""attach: the handle on a run from anywhere, without a session of one's own."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from workbench.runs.disk import run_folder
from workbench.session.handle import Run
from workbench.session.session import Session


def attach(
    name: str = "last",
    runs: Path | str = "runs",
    *,
    table: Any = None,
    model: Any = None,
    preprocessor: Any = None,
    metrics: Sequence[Any] = (),
) -> Run:
    """Return the handle on a run, live or over, in a session of its own: `run.session`.

    Args:
        name: Of the run, a path to its folder, or "last".
        runs: The folder that runs are in.
        table: The rows of the run, where they were given as an object.
        model: Its model, where that was.
        preprocessor: What goes with that model.
        metrics: What is measured beside the metrics of the task, if the run goes on here.

    Raises:
        RunError: No such run, or its log can't be read.
    """
    folder = run_folder.find(name, runs)
    objects: dict[str, Any] = {"table": table, "model": model, "preprocessor": preprocessor, "metrics": metrics}
    return Session(folder.plan(), runs=folder.path.parent, **objects).attach(folder.name)

"""The runs in a folder as a table."""

from pathlib import Path

import pandas as pd

from workbench.runs.disk import run_list

COLUMNS = ["run", "started", "state", "backbone", "data", "step", "steps", "metric", "score", "forked_from"]


def list_runs(runs: Path | str = "runs") -> pd.DataFrame:
    """Return a table of the runs in a folder, newest first, live ones included.

    Its columns are run (the name, which `attach` takes), started, state, backbone, data, step, steps, metric and score
    (the metric that says most about the run, and its value at the best step), and forked_from.
    """
    rows = [
        {
            "run": run.name,
            "started": pd.Timestamp(run.started, unit="s"),
            "state": run.state,
            "backbone": run.backbone,
            "data": run.source,
            "step": run.step,
            "steps": run.steps,
            "metric": run.score[0] if run.score else "",
            "score": run.score[1] if run.score else float("nan"),
            "forked_from": run.parent,
        }
        for run in reversed(run_list.summaries(runs))
    ]
    return pd.DataFrame(rows, columns=COLUMNS)

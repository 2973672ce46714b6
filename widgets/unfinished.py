"""Unfinished: the runs on disk that are running, stopped or failed; a notebook can watch or resume them."""

from typing import TYPE_CHECKING

from workbench.events.run_state import UNFINISHED
from workbench.runs.disk.run_list import Summary

if TYPE_CHECKING:
    from workbench.session.session import Session

SHOWN = 20  # maximum number of runs in the list; the newest are shown


def unfinished(session: "Session") -> list[dict[str, str]]:
    """Return the unfinished runs except the one shown, newest first. It reads their logs, which may take seconds."""
    shown = session.run.name if session.run is not None else ""
    own = {run.name: f"running here, step {run.step:,}" for run in session.runs if not run.is_over}
    others = {summary.name: _state(summary) for summary in session.unfinished()}
    found = sorted((others | own).items(), reverse=True)  # their names begin with the time
    return [{"value": name, "title": f"{name}: {words}"} for name, words in found if name != shown][:SHOWN]


def _state(run: Summary) -> str:
    if run.state in UNFINISHED:
        return f"running elsewhere, step {run.step:,}"
    return f"{'stopped' if run.state == 'stopped' else 'failed'} at step {run.step:,}"

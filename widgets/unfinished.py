"""Unfinished: the runs on disk that go on elsewhere or broke off, so that a notebook can watch them or take one up."""

from typing import TYPE_CHECKING

from workbench.events.run_state import UNFINISHED
from workbench.runs.disk.run_folder import Summary

if TYPE_CHECKING:
    from workbench.session.session import Session

SHOWN = 20  # runs in the list, at most: the newest


def unfinished(session: "Session") -> list[dict[str, str]]:
    """Return the unfinished runs but the one that is shown, newest first; it reads their logs, so it takes a while."""
    shown = session.run.name if session.run is not None else ""
    own = {run.name: f"going on here, step {run.step:,}" for run in session.runs if not run.is_over}
    others = {summary.name: _state(summary) for summary in session.unfinished()}
    found = sorted((others | own).items(), reverse=True)  # their names begin with the time
    return [{"value": name, "title": f"{name}: {words}"} for name, words in found if name != shown][:SHOWN]


def _state(run: Summary) -> str:
    if run.state in UNFINISHED:
        return f"going on elsewhere, step {run.step:,}"
    return f"{'stopped' if run.state == 'stopped' else 'broke off'} at step {run.step:,}"

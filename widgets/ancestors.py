"""The events of a run together with those of the runs that it was forked from."""

from pathlib import Path
from typing import TYPE_CHECKING

from workbench.errors import RunError
from workbench.events import Event, RunForked

if TYPE_CHECKING:
    from workbench.session.session import Session


def events_with_ancestors(name: str, session: "Session", *, generations: int = 20) -> list[Event]:
    """Return the events of a run, preceded by those of the runs that it was forked from."""
    from workbench.runs.disk import run_list

    if Path(name).name != name:  # a log from an unknown source must not name other folders
        raise RunError(f"{name!r} is not the name of a run")
    known = [run for run in session.runs if run.name == name]
    root = session.run.folder.parent if session.run is not None else session.folder
    events = list(known[0].events) if known else list(run_list.find(name, root).events())
    forked = next((event for event in events[:1] if isinstance(event, RunForked)), None)
    if forked is None or generations == 0:
        return events
    before = events_with_ancestors(forked.parent, session, generations=generations - 1)
    return [event for event in before if getattr(event, "step", 0) <= forked.step] + events

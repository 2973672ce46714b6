"""How a run is called in all panels, and which runs can be compared with it."""

import time

from widgets import wording
from workbench.plan.plan import Plan
from workbench.runs.disk.run_list import Summary


def called(run: Summary) -> str:
    """Return the name of a run for people: its data, backbone and layers, and when it was started."""
    return wording.joined(wording.title(run.plan), when(run.started)) if run.plan else run.name


def when(began: float) -> str:
    """Return the local time of the day, with the day if that is not today; `began` is in seconds since the epoch."""
    then, now = time.localtime(began), time.localtime()
    is_today = (then.tm_year, then.tm_yday) == (now.tm_year, now.tm_yday)
    return time.strftime("%H:%M" if is_today else "%Y-%m-%d %H:%M", then)


def why_not_compared(one: Plan, other: Plan) -> str:
    """Return why the numbers of two runs can't be compared; "" if they can. What is guessed from the data may agree."""
    these, those = one.with_absolute_paths().data, other.with_absolute_paths().data
    if these.source != those.source:
        return "it learns from other data"
    if _differ(these.task, those.task):
        return "it has another task"
    return "it predicts another column" if _differ(these.label_column, those.label_column) else ""


def _differ(one: str | None, other: str | None) -> bool:
    return None not in (one, other) and one != other

"""RunsPanel: all runs of the session's folder, live and ended, to open, resume, fork, compare, delete and restore.

It looks at the folder in the background: when a run of the session starts or ends, and while the panel is displayed
every few seconds, since other notebooks and processes write there too.
"""

import math
import time
from collections.abc import Callable, Mapping
from typing import Any

from widgets.doing import Doing
from widgets.panel import Panel, page, style
from widgets.run_names import called, why_not_compared
from widgets.run_rows import row_of
from workbench.errors import PlanError
from workbench.events import Event, RunChosen, RunEnded, RunFailed, RunResumed, RunsOverlaid, RunStarted
from workbench.plan.plan import Plan
from workbench.runs.disk import run_list, trash
from workbench.runs.disk.run_list import Summary

SHOWN = 300  # maximum number of rows; the newest runs are shown
LOOK_AGAIN = 3.0  # seconds between two looks at the folder
OVERLAID = 3  # maximum number of runs over the shown one


class RunsPanel(Panel):
    """The list of runs, newest first."""

    _esm = page("fields.js", "runs.js")
    _css = style("runs.css")
    kinds = frozenset({RunChosen, RunStarted, RunResumed, RunEnded, RunFailed, RunsOverlaid})

    def __init__(self, session: Any = None, **objects: Any) -> None:
        self._found: list[Summary] | None = None  # newest first; None: not read yet
        self._deleted: list[str] = []  # names of the runs in the trash, the last one first
        self._deleted_title = ""  # what the last one is called
        self._looked_at, self._is_looking = -math.inf, False
        self._work, self._doing = "", Doing()  # what is being done in the background
        super().__init__(session, **objects)

    def actions(self) -> Mapping[str, Callable[..., None]]:
        """Return the actions on a run, and the undoing of a deletion."""
        return {
            "open": self._open,
            "resume": self._resume,
            "fork": self._fork,
            "overlay": self._overlay,
            "delete": self._delete,
            "restore": self._restore,
        }

    def note(self, event: Event) -> None:
        """Look again, since a run may have appeared or changed its state."""
        self._looked_at = -math.inf

    @property
    def is_ticking(self) -> bool:
        """Whether the folder is looked at again and again, which is so while the panel is displayed."""
        return self.is_seen

    def refresh(self) -> None:
        """Look at the folder if it is time to, and redraw."""
        if not self._is_looking and time.monotonic() - self._looked_at >= LOOK_AGAIN:
            self._look()
        super().refresh()

    def picture(self) -> dict[str, Any]:
        """Return the rows, what is being done, and what can be restored."""
        starts = {run.name: run.started for run in self._found or []}
        return {
            "rows": [
                row_of(run, self.session, starts=starts, reference=self._reference())
                for run in (self._found or [])[:SHOWN]
            ],
            "hidden": max(0, len(self._found or []) - SHOWN),
            "is_read": self._found is not None,
            "folder": str(self.session.folder),
            "doing": self._doing.words(self._work) if self._work else "",
            "deleted": {
                "name": self._deleted[0] if self._deleted else "",
                "title": self._deleted_title,
                "count": len(self._deleted),
            },
        }

    def _look(self) -> None:
        """Read the folder in the background. Logs that have not changed are not read again."""
        self._is_looking, self._looked_at = True, time.monotonic()

        def read() -> tuple[list[Summary], list[str], str]:
            folder = self.session.folder
            runs, deleted = sorted(run_list.summaries(folder), key=_began, reverse=True), trash.deleted_runs(folder)
            title = called(run_list.summary_of(folder / trash.TRASH / deleted[0])) if deleted else ""
            return runs, deleted, title

        def found(answer: tuple[list[Summary], list[str], str]) -> None:
            is_first, self._is_looking = self._found is None, False
            self._found, self._deleted, self._deleted_title = answer
            own = {run.name for run in self.session.runs}
            if is_first and any(run.is_live and run.name not in own for run in self._found):
                self.attention = "a run goes on elsewhere"

        def failed(error: Exception) -> None:
            self._is_looking = False
            self.alarm(error)

        self.background(read, then=found, failed=failed)

    def _do(self, words: str, work: Callable[[], Any]) -> None:
        """Do something in the background, unless something is being done, and look again."""
        if self._work:
            return
        self.calm()
        self._work = words

        def done(_: Any) -> None:
            self._work, self._looked_at = "", -math.inf

        def failed(error: Exception) -> None:
            done(None)
            self.alarm(error)

        self.background(work, then=done, failed=failed)

    def _open(self, name: str) -> None:
        self._do("opening", lambda: self.session.attach(name))

    def _resume(self, name: str) -> None:
        self._do("resuming", lambda: self.session.handle(name).resume())

    def _fork(self, name: str, step: Any, **values: Any) -> None:
        if not isinstance(step, int) or step < 0:
            raise PlanError(f"step is {step!r}; expected a whole number", hint="a fork begins after that many steps")
        Plan().change(**values)  # raises if one is invalid

        def fork() -> None:
            run = self.session.handle(name)
            known = run.plan.flat()
            run.fork(step, **{field: value for field, value in values.items() if value != known[field]})

        self._do("starting the fork", fork)

    def _overlay(self, name: str) -> None:
        """Draw this run over the shown one, or no longer; of many, the last ones are drawn."""
        plan = next((run.plan for run in self._found or [] if run.name == name), None)
        reference = self._reference()
        if name not in self.session.overlaid and plan and reference and (why := why_not_compared(plan, reference)):
            raise PlanError(f"{name} can't be compared with the run that is shown: {why}")
        others = [other for other in self.session.overlaid if other != name]
        self.session.overlay(*(others if name in self.session.overlaid else [*others, name][-OVERLAID:]))

    def _reference(self) -> Plan | None:
        """Return the plan that others are compared with: that of the run that is shown, or else of the first one."""
        if self.session.run is not None:
            return self.session.run.plan
        return next((run.plan for run in self._found or [] if run.name in self.session.overlaid), None)

    def _delete(self, name: str) -> None:
        def delete() -> None:
            trash.delete_run(name, self.session.folder)
            if name in self.session.overlaid:
                self._overlay(name)

        self._do("deleting", delete)

    def _restore(self, name: str) -> None:
        self._do("restoring", lambda: trash.restore_run(name, self.session.folder))


def _began(run: Summary) -> float:
    return run.started

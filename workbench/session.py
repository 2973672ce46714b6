"""The one mutable object: a plan that changes, what is loaded for it, and the runs it starts.

Panels, cells and callbacks all go through `change`, `start` and the handle of a run. Each returns at once; what follows
is told on the bus.
"""

import threading
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from workbench.baseline import Backbone
from workbench.choices import SECTION_OF, Plan
from workbench.data import Split
from workbench.errors import RunError, WorkbenchError, nearest
from workbench.events import Bus, Event, PlanChanged, PreparationEnded
from workbench.kernel import Run
from workbench.preparation import Preparation
from workbench.store import RunFolder

PLACES = ("kernel",)  # where a run can be carried out


class Session:
    """What a person is working on.

    Args:
        plan: Where to begin; a plan of defaults if left out.
        table: Rows given as a pandas frame or `datasets.Dataset`, in place of the plan's source.
        runs: Folder under which run folders are made.

    Attributes:
        bus: Tells of changes of the plan, of what was loaded, and everything of the runs.
        run: The latest run, if one was started.
        runs: Every run that this session started, oldest first.

    Examples:
        >>> session = Session()  # doctest: +SKIP
        >>> session.change(learning_rate=1e-4)  # doctest: +SKIP
        >>> session.start().wait()  # doctest: +SKIP
    """

    def __init__(self, plan: Plan | None = None, *, table: Any = None, runs: Path | str = "runs") -> None:
        self.bus = Bus()
        self.runs: list[Run] = []
        self._root = Path(runs)
        self._preparation = Preparation(table)
        self._plan = self._preparation.stamped(plan or Plan())
        self._lock = threading.Lock()
        self._was_asked = False  # whether anybody wants the data and the backbone loaded
        self._is_loading = False
        self._is_stale = False  # the plan changed after the loader looked at it

    @property
    def plan(self) -> Plan:
        """What the next run will do."""
        return self._plan

    @property
    def run(self) -> Run | None:
        """The latest run."""
        return self.runs[-1] if self.runs else None

    @property
    def backbone(self) -> Backbone | None:
        """The backbone of the plan as loaded, not to be changed; None while it is not (call `prepare`)."""
        return self._preparation.current_backbone(self._plan)

    @property
    def split(self) -> Split | None:
        """The rows of the plan as read and split; None while they are not (call `prepare`)."""
        return self._preparation.current_split(self._plan)

    def subscribe(self, watcher: Callable[[Event], None]) -> Callable[[], None]:
        """Call `watcher(event)` from now on; return the function that ends it. Calls come from other threads."""
        return self.bus.subscribe(watcher)

    def change(self, **changes: Any) -> Plan:
        """Change fields of the plan for the next run, and tell the panels.

        Raises:
            PlanError: An unknown field or a value that can't be; the plan stays as it was.
        """
        with self._lock:
            before, self._plan = self._plan, self._plan.change(**changes)
        if changed := tuple(before.differences(self._plan)):
            self.bus.publish(PlanChanged(fields=changed))
        if self._was_asked and any(SECTION_OF[name] in ("baseline", "data") or name == "seed" for name in changed):
            self.prepare()
        return self._plan

    def prepare(self) -> None:
        """Load the data and the backbone of the plan in the background; `PreparationEnded` tells of each."""
        with self._lock:
            self._was_asked = self._is_stale = True
            if not self._is_loading:
                self._is_loading = True
                threading.Thread(target=self._load, name="workbench-loader", daemon=True).start()

    def start(self, *, where: str = "kernel") -> Run:
        """Start a run of the plan as it is now, and return the handle on it at once.

        Raises:
            RunError: A run is under way, `where` is unknown, or the run folder can't be written.
        """
        if where not in PLACES:
            raise RunError(f"where is {where!r}; expected 'kernel'", hint=nearest(where, PLACES))
        with self._lock:
            if self.run is not None and not self.run.is_over:
                raise RunError(
                    f"{self.run.name} is still {self.run.state}", hint="stop it first, or use a Session more"
                )
            folder = RunFolder.create(self._plan, self._root)
            self.runs.append(Run(self._plan, folder, self._preparation.snapshot(), self.bus.publish))
        return self.runs[-1].start()

    def _load(self) -> None:
        while True:
            with self._lock:
                if not self._is_stale:
                    self._is_loading = False
                    return
                self._is_stale, plan = False, self._plan
            if self._loaded("data", plan, self._preparation.split) and self._loaded(
                "backbone", plan, self._preparation.backbone
            ):
                self._loaded("examples", plan, self._preparation.examples)

    def _loaded(self, part: str, plan: Plan, load: Callable[[Plan], Any]) -> bool:
        try:
            load(plan)
        except Exception as error:
            self.bus.publish(_failure(part, error))
            return False
        self.bus.publish(PreparationEnded(part=part))
        return True


def _failure(part: str, error: Exception) -> PreparationEnded:
    if isinstance(error, WorkbenchError):
        return PreparationEnded(part=part, what=error.what, hint=error.hint)
    told = "".join(traceback.format_exception(error))
    return PreparationEnded(part=part, what=f"{type(error).__name__}: {error}", traceback=told)

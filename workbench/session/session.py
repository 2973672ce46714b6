"""The session, the only mutable object: a plan that can change, what is loaded for it, and its runs.

Panels, cells and callbacks all use `change`, `start`, `attach` and the handle of a run. Each call returns at once; what
happens afterwards is published on the bus.
"""

import threading
import weakref
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from workbench import data
from workbench.data import Split
from workbench.errors import PlanError, RunError, nearest
from workbench.events import Event, PlanChanged, RunEnded, RunFailed, RunsOverlaid, run_state
from workbench.events.bus import Bus
from workbench.models import Backbone
from workbench.models.from_object import pinned
from workbench.plan.arguments import named
from workbench.plan.fields import touched_by
from workbench.plan.plan import FIELDS, Plan
from workbench.runs.disk import process, run_list
from workbench.runs.disk.run_folder import RunFolder
from workbench.runs.disk.run_list import Summary
from workbench.runs.preparation import Preparation, plan_and_table
from workbench.session.handle import Run
from workbench.session.loader import Loader
from workbench.session.slot import Slot

PLACES = ("kernel", "process")  # where a run can be executed
NOT_COMPLETED = (*run_state.UNFINISHED, "died", "failed", "stopped")


class Session:
    """The work of a person in a notebook: a plan and its runs.

    Args:
        plan: The first plan; by default a plan with default values. Or a table, or the name of a source, with such a
            plan.
        table: Rows as a pandas frame or `datasets.Dataset`, in place of the plan's source.
        model: A transformers model with a head for the classes of the rows, in place of the plan's backbone; it is
            copied.
        preprocessor: The tokenizer or image processor of that model.
        metrics: Metrics to compute besides those of the task: `evaluate.Metric` objects, or their names.
        runs: Folder in which run folders are created.

    Attributes:
        folder: The folder in which run folders are created.
        overlaid: Names of the runs whose curves are drawn over those of `run`.
        bus: Publishes changes of the plan, what was loaded, and every event of `run`.

    Examples:
        >>> session = Session()  # doctest: +SKIP
        >>> session.change(learning_rate=1e-4)  # doctest: +SKIP
        >>> session.start().wait()  # doctest: +SKIP
    """

    @named
    def __init__(
        self,
        plan: Any = None,
        *,
        table: Any = None,
        model: Any = None,
        preprocessor: Any = None,
        metrics: Sequence[Any] = (),
        runs: Path | str = "runs",
    ) -> None:
        self.bus = Bus()
        self._slot: Slot[Run] = Slot(self.bus)
        self.folder = Path(runs)
        self.overlaid: tuple[str, ...] = ()
        plan, table = plan_and_table(plan, table)
        model, preprocessor = pinned(model, preprocessor)
        self._preparation = Preparation(table, model=model, preprocessor=preprocessor, metrics=tuple(metrics))
        self._plan = self._preparation.label_objects(plan)
        self._lock = threading.Lock()
        weakref.finalize(self, self._slot.employer.dismiss)
        self._where = "kernel"
        self._loader = Loader(self._preparation, lambda: self._plan, self.bus.publish)
        self.bus.subscribe(self._on_event)

    @property
    def plan(self) -> Plan:
        """The plan of the next run."""
        return self._plan

    @property
    def run(self) -> Run | None:
        """The run that was started, attached to or resumed last."""
        return self._slot.current

    @property
    def runs(self) -> list[Run]:
        """All runs that this session started or attached to; the last one is `run`."""
        return list(self._slot.runs)

    @property
    def where(self) -> str:
        """Where the next run will be executed: in the "kernel", or in a "process", which is kept ready for it."""
        return self._where

    @where.setter
    def where(self, place: str) -> None:
        self._where = _known_place(place)
        self._keep_warm()

    @property
    def backbone(self) -> Backbone | None:
        """The loaded backbone of the plan, which must not be changed; None until `prepare` has loaded it."""
        return self._preparation.current_backbone(self._plan)

    @property
    def split(self) -> Split | None:
        """The loaded and split rows of the plan; None until `prepare` has loaded them."""
        return self._preparation.current_split(self._plan)

    @property
    def objects(self) -> tuple[str, ...]:
        """Names of the objects that the session was given beside its plan, for example "table"."""
        return tuple(self._preparation.objects)

    def subscribe(self, watcher: Callable[[Event], None]) -> Callable[[], None]:
        """Call `watcher(event)` for every event, from other threads; return a function that ends the subscription."""
        return self.bus.subscribe(watcher)

    def change(self, **changes: Any) -> Plan:
        """Change fields of the plan for the next run, and publish that to the panels.

        Raises:
            PlanError: A field is unknown or a value is invalid; the plan is then unchanged.
        """
        with self._lock:
            before, self._plan = self._plan, self._plan.change(**changes)
        if changed := tuple(before.differences(self._plan)):
            self.bus.publish(PlanChanged(fields=changed))
        if any({"rows", "model", "examples"} & {*touched_by(FIELDS[name])} for name in changed):
            self._keep_warm()
            if self._loader.was_requested:
                self.prepare()
        return self._plan

    def prepare(self) -> None:
        """Load the data and the backbone of the plan in the background; each is announced by `PreparationEnded`."""
        self._loader.load()

    def start(self, *, where: str | None = None) -> Run:
        """Start a run of the current plan, and return the handle on it at once.

        Args:
            where: "kernel": in a thread of this kernel. "process": in a worker process, which outlives the kernel. By
                default `self.where`.

        Raises:
            RunError: A run is in progress, `where` is unknown, the run folder can't be written, or an object that was
                given can't be sent to another process.
        """
        place = _known_place(where or self._where)
        with self._slot.lock:
            self._slot.refuse_if_busy()
            if place == "process":
                self._slot.employer.ready(self._preparation.objects)  # before creating the folder, since this can fail
            folder = RunFolder.create(self._plan, self.folder)
            return Run(folder, self._preparation.snapshot(), self._slot, where=place, session=self).launch()

    def attach(self, name: str = "last", *, table: Any = None, model: Any = None, preprocessor: Any = None) -> Run:
        """Return the handle on a run that another notebook or program started, live or ended.

        Args:
            name: Name of the run, path to its folder, or "last" for the newest run.
            table: The rows of the run, if they were given as an object.
            model: The model of the run, if it was given as an object.
            preprocessor: The tokenizer or image processor of that model.

        Raises:
            RunError: There is no such run, or its log can't be read.
        """
        folder = run_list.find(name, self.folder)
        own = self._own(folder)
        if own is not None and not own.is_over:
            self._slot.choose(own)
            return own
        preparation = self._preparation.snapshot()
        if any(thing is not None for thing in (table, model, preprocessor)):
            preparation = self._preparation.with_objects(table, *pinned(model, preprocessor))
        run = self._handle(folder, preparation)
        self._slot.choose(run, instead_of=own)
        return run.follow()

    def handle(self, name: str) -> Run:
        """Return the handle on a run to resume or to fork it; as long as that does not succeed, `run` stays.

        Raises:
            RunError: There is no such run, or its log can't be read.
        """
        folder = run_list.find(name, self.folder)
        return self._own(folder) or self._handle(folder, self._preparation.snapshot())

    def _own(self, folder: RunFolder) -> Run | None:
        return next((run for run in self.runs if run.folder.resolve() == folder.path.resolve()), None)

    def _handle(self, folder: RunFolder, preparation: Preparation) -> Run:
        where = "elsewhere" if process.noted(folder.path) is None else "process"
        return Run(folder, preparation, self._slot, where=where, session=self).catch_up()

    def overlay(self, *names: str) -> None:
        """Draw the curves of these runs over those of `run` in all panels; without a name, none."""
        self.overlaid = names
        self.bus.publish(RunsOverlaid(names=names))

    def unfinished(self) -> list[Summary]:
        """Return the runs in this session's folder that are live elsewhere or can be resumed, oldest first."""
        mine = {run.name for run in self.runs if not run.is_over}
        return [row for row in run_list.summaries(self.folder) if row.state in NOT_COMPLETED and row.name not in mine]

    def _on_event(self, event: Event) -> None:
        if isinstance(event, RunEnded | RunFailed):
            self._keep_warm()

    def _keep_warm(self) -> None:
        """Keep a worker process ready for the next run, if it will be executed in one."""
        if self._where != "process":
            self._slot.employer.dismiss()
        elif self.run is None or self.run.is_over:

            def wanted() -> tuple[Plan, Mapping[str, Any]]:  # is called later, so that the newest plan counts
                return self._plan.with_absolute_paths(), self._preparation.objects

            threading.Thread(
                target=self._slot.employer.warm, args=(wanted,), name="workbench-warmer", daemon=True
            ).start()


def session_of(given: Any = None, *, plan: Plan | None = None, **objects: Any) -> Any:
    """Return the session that `given` is or belongs to, or a new one.

    Args:
        given: A session, a run, or what `Session` takes first: a plan, a table, or the name of a source.
        plan: The plan of a new session.
        objects: Further arguments of a new session, such as table=.

    Raises:
        PlanError: A session or run is given with arguments of a new session, or `given` is something else.
    """
    session = given.session if isinstance(given, Run) else given
    if not hasattr(type(session), "subscribe"):
        if data.is_table(given) and plan is not None:
            return Session(plan, table=given, **objects)
        return Session(given if plan is None else plan, **objects)
    if plan is not None or objects:
        names = ", ".join(f"{name}=" for name in (*(["plan"] if plan is not None else []), *objects))
        raise PlanError(
            f"got a session and {names}; the session has its own", hint="session.change(…), or give no session"
        )
    return session


def _known_place(place: str) -> str:
    if place not in PLACES:
        raise RunError(f"where is {place!r}; expected 'kernel' or 'process'", hint=nearest(place, PLACES))
    return place

"""StopPanel: when a run stops early, and by which metric its best step is chosen."""

from dataclasses import replace
from typing import Any

from widgets import wording
from widgets.panel import page, prepare
from widgets.settings import Control, SettingsPanel
from workbench.errors import PlanError
from workbench.events import EvaluationEnded, Event, PreparationEnded, RunChosen
from workbench.events.run_state import RunState
from workbench.plan.choices import TASKS, Monitoring, TaskName

PATIENCE = Control("stop_patience", "patience")
METRIC = Control("stop_metric", "metric")
MIN_DELTA = Control("stop_min_delta", "min delta")
MODE = Control("stop_mode", "better is")
EVALUATIONS = 10  # of a run whose plan does not say how often it evaluates


class StopPanel(SettingsPanel):
    """The early stopping of the session's plan; it is off as long as there is no patience."""

    _esm = page("settings.js", "stop.js")
    kinds = SettingsPanel.kinds | {PreparationEnded, EvaluationEnded}
    controls = (PATIENCE, METRIC, MIN_DELTA, MODE)

    def __init__(self, session: Any = None, **objects: Any) -> None:
        self._run = RunState()
        self._can_ask_task = False  # asking imports torch: not before the backbone, which other panels wait for
        super().__init__(session, **objects)
        prepare(self.session)

    def note(self, event: Event) -> None:
        """Remember which metrics the run measures."""
        super().note(event)
        if isinstance(event, PreparationEnded) and event.part != "data":
            self._can_ask_task = True
        if isinstance(event, RunChosen):
            self._run = RunState()
        if isinstance(event, EvaluationEnded):
            self._run.note(event)

    def picture(self) -> dict[str, Any]:
        """Return the fields that have a meaning now, and what is wrong with them."""
        choice = self.session.plan.monitoring
        is_plain = choice.stop_patience is None and (choice.stop_min_delta, choice.stop_mode) == (0.0, "auto")
        good = _good(choice)
        fault = "" if good or choice.stop_mode != "auto" else "choose low or high: the name of the metric does not tell"
        modes = {"auto": f"auto: {good}" if good else "auto", "min": "low", "max": "high"}
        fields = [
            self.field(PATIENCE),
            self.field(METRIC, options=self._metrics(), error=self._fault()),
            self.field(MIN_DELTA, is_hidden=is_plain),
            self.field(MODE, options=modes, error=fault, is_hidden=is_plain and not fault),
        ]
        return {
            "fields": fields,
            "refusals": self._refusals,
            "is_running": self._effects.is_live,
            "note": _rule(choice),
        }

    def _metrics(self) -> dict[str, str]:
        """Return the metrics to choose from: value -> words. What is chosen is among them, even if it can't be."""
        chosen = self.session.plan.monitoring.stop_metric
        names = [*self._measured(), *([chosen] if chosen else [])]
        first = {"loss": "loss"} if chosen == "loss" else {"": "loss"}
        return first | {name: wording.metric(name) for name in names if name != "loss"}

    def _measured(self) -> tuple[str, ...]:
        """Return the names of the metrics of the task, and of those that the run shown measured on the same data."""
        run, split = self.session.run, self.session.split
        own = tuple(self._run.metrics) if run and run.plan.data == self.session.plan.data else ()
        return (*_metrics_of(split.task), *own) if split is not None and self._can_ask() else own

    def _can_ask(self) -> bool:
        return self._can_ask_task or self.session.backbone is not None

    def _fault(self) -> str:
        """Return what is wrong with the metric. A name that no task knows may be that of a metric of the user."""
        chosen, split = self.session.plan.monitoring.stop_metric, self.session.split
        if split is None or chosen is None or not self._can_ask() or chosen in self._measured():
            return ""
        if not any(chosen in _metrics_of(task) for task in TASKS):
            return ""
        names = ", ".join(map(wording.metric, _metrics_of(split.task)))
        return f"these rows are used for {wording.task(split.task)}, which measures {names}"


def _metrics_of(task: TaskName) -> tuple[str, ...]:
    from workbench.tasks import TABLE

    return tuple(TABLE[task].metrics(0.0, (), ()))


def _good(choice: Monitoring) -> str:
    """Return whether a low or a high value of the metric is good, as far as its name tells; "" if it does not."""
    from workbench.training.progress import Goal

    try:
        goal = Goal.of(replace(choice, stop_mode="auto"))
    except PlanError:
        return ""
    return {"min": "low", "max": "high"}[goal.mode]


def _rule(choice: Monitoring) -> str:
    """Return when the run stops early, in a sentence; "" if it never does."""
    patience = choice.stop_patience
    if patience is None:
        return ""
    metric = wording.metric(choice.stop_metric or "loss")
    rule = f"stops when the validation {metric} has not improved for {wording.plural(max(1, patience), 'evaluation')}"
    if choice.evaluate_every is None and patience >= EVALUATIONS:
        return f"{rule}; a run has {EVALUATIONS} evaluations unless you set evaluate every (Settings, more)"
    return rule

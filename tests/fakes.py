"""A session without training: it plays a recorded log, and answers panels as the real one does."""

import math
import threading
import time
from pathlib import Path

from workbench.errors import PlanError, RunError
from workbench.events import (
    EvaluationEnded,
    EvaluationProgressed,
    ModelSaved,
    PlanAdjusted,
    PlanChanged,
    PreparationEnded,
    RunChosen,
    RunEnded,
    RunFailed,
    RunForked,
    RunPaused,
    RunResumed,
    RunsOverlaid,
    RunStarted,
    StageStarted,
    StepEnded,
)
from workbench.events.bus import Bus
from workbench.plan.plan import LIVE_FIELDS, Plan
from workbench.runs.disk.run_folder import RunFolder


def evaluation(step, loss, *, split="validation", best=False, task="text-classification"):
    if task == "language-modeling":
        metrics = {"loss": loss, "perplexity": math.exp(loss)}
    else:
        accuracy = 1 - loss / 2
        metrics = {"loss": loss, "accuracy": accuracy, "macro_f1": accuracy - 0.02, "weighted_f1": accuracy - 0.01}
    return EvaluationEnded(step=step, split=split, metrics=metrics, rows=400, targets=400, seconds=0.1, best=best)


def log(steps=60, *, task="text-classification", every=10, seed=1):
    """A whole run: losses that fall, an evaluation every ten steps, the best one near the end."""
    baseline = {"loss": 0.69, "accuracy": 0.52, "macro_f1": 0.34}
    scale = 1.0
    if task == "language-modeling":
        baseline, scale = {"loss": 5.1, "perplexity": math.exp(5.1)}, 5.0
    events = [
        StageStarted(stage="reading the data"),
        StageStarted(stage="loading the backbone"),
        RunStarted(
            task=task, steps=steps, trainable_parameters=148_226, total_parameters=22_713_986, rows=5_188, device="cpu",
            precision="fp32", baseline=baseline, baseline_name="always guess the most common class",
        ),
        evaluation(0, 0.71 * scale, best=True, task=task),
    ]  # fmt: skip
    noise, lowest = seed, math.inf
    for step in range(1, steps + 1):
        noise = (noise * 1_103_515_245 + 12_345) % 2**31
        loss = (0.28 + 0.45 * math.exp(-4 * step / steps) + 0.08 * (noise / 2**31 - 0.5)) * scale
        events.append(
            StepEnded(
                step=step, epoch=step / 20, loss=loss, targets=32, rows=32, learning_rate=1e-3, gradient_norm=1.0,
                seconds=0.01,
            )
        )  # fmt: skip
        if step % every == 0:
            held = (0.33 + 0.4 * math.exp(-5 * step / steps) + 0.05 * (step / steps) ** 2) * scale
            progress = EvaluationProgressed(step=step, split="validation", loss=held + 0.01, rows_done=120, rows=400)
            events += [progress, evaluation(step, held, best=held < lowest, task=task)]
            lowest = min(lowest, held)
    return [*events, RunEnded(step=steps, reason="completed", best_step=steps - every, best_loss=lowest)]


class FakeMoment:
    """A step looked back at; it draws no more than a table of what it is told."""

    def __init__(self, step, table, found=None):
        self.step, self._table, self.differs, self._found = step, table, "", found

    def samples(self, count=6):
        return self._table.head(count)

    def results(self, *, progress):
        progress(1, 2)
        return self._found(self.step)


class FakeRun:
    """Plays a log on a thread, a step each `pace` seconds; without a thread it is where its log says."""

    def __init__(self, plan, events, session, *, pace=0.02, name="fake", where="kernel"):
        self.plan, self.name, self.folder = plan, name, Path("runs") / name
        self.events, self.state, self.pace, self.where = [], "preparing", pace, where
        self.is_alive, self.seconds_silent = True, 0.0
        self.differences, self.table = {}, None  # what samples are given
        self.answer, self.found, self.rows, self.test_scores = None, None, [], []  # what it says when it is asked
        self._log, self._session = events, session
        self._may_go_on, self._is_stopping = threading.Event(), False
        self._may_go_on.set()

    @property
    def step(self):
        return max((event.step for event in self.events if isinstance(event, StepEnded)), default=0)

    @property
    def steps(self):
        return max((event.steps for event in self.events if isinstance(event, RunStarted)), default=0)

    @property
    def seconds_left(self):
        return (self.steps - self.step) * self.pace if self.step else None

    @property
    def is_over(self):
        return self.state in ("stopped", "completed", "failed")

    @property
    def pending_request(self):
        if self._is_stopping and not self.is_over:
            return "stopping"
        return None if self._may_go_on.is_set() or self.state == "paused" else "pausing"

    @property
    def saved_model(self):
        return next((event for event in reversed(self.events) if isinstance(event, ModelSaved)), None)

    @property
    def load_line(self):
        saved = self.saved_model
        return saved.load.replace("folder", repr(str(self.folder / saved.folder))) if saved else None

    @property
    def use_lines(self):
        return self.load_line

    def pause(self):
        self._may_go_on.clear()

    def resume(self):
        self._session.calls.append(("resume", {}))
        if self.is_over:
            self.state, self._is_stopping = "running", False
            self.tell(RunResumed(step=self.step))
        self._may_go_on.set()

    def stop(self):
        self._is_stopping = True
        self._may_go_on.set()

    def change(self, **changes):
        self._session.calls.append(("run.change", changes))
        before = {name: self.plan.flat()[name] for name in changes}
        for name in changes:
            if name not in LIVE_FIELDS:
                raise PlanError(f"{name} can't change in a run under way")
        self.plan.change(**changes)  # says what is wrong
        if self.state != "preparing":
            self.tell(PlanAdjusted(step=self.step, before=before, after=changes))
        return self

    def at(self, step, *, progress=lambda done, of: None):
        progress(step, step)
        return FakeMoment(step, self.table, self.found)

    def predict(self, value, *, which="", step=None):
        return self.answer(value, which or step)

    def held_out(self, count):
        return self.rows[:count]

    def is_untrained(self):
        return True

    def measure(self, split):
        self.test_scores = [*self.test_scores, evaluation(self.step, 0.4, split=split)]

    def fork(self, step=None, **changes):
        self._session.calls.append(("fork", {"step": step, **changes}))
        plan = self.plan.change(**changes)
        fork = FakeRun(plan, [], self._session, name="fork")
        fork.differences = self.plan.differences(plan)
        self._session.show(fork)
        fork.tell(RunForked(parent=self.name, step=step, changes=changes))
        if changes and step:
            before = {name: self.plan.flat()[name] for name in changes}
            fork.tell(PlanAdjusted(step=step, before=before, after=changes, scheduled=True))
        return fork

    def tell(self, event):
        self.events.append(event)
        states = {RunStarted: "running", RunPaused: "paused", RunResumed: "running", RunFailed: "failed"}
        self.state = states.get(type(event), self.state)
        if isinstance(event, PlanAdjusted):
            self.plan = self.plan.change(**event.after)
        if isinstance(event, RunEnded):
            self.state = "stopped" if event.reason == "stopped by the user" else "completed"
        self._session.bus.publish(event)

    def play(self):
        for event in self._log:
            self.tell(event)
            if isinstance(event, StepEnded | StageStarted):
                time.sleep(self.pace)
            if not self._may_go_on.is_set() and self.step:
                self.tell(RunPaused(step=self.step))
                self._may_go_on.wait()
                if not self._is_stopping:
                    self.tell(RunResumed(step=self.step))
            if self._is_stopping:
                self.tell(RunEnded(step=self.step, reason="stopped by the user", best_step=0, best_loss=0.7))
                return


class FakeSession:
    """The session of the contract; `prepare` and `start` do what their arguments say and load nothing."""

    def __init__(self, plan=None, *, backbone=None, split=None, events=(), pace=0.02, folder="no runs here"):
        self.bus, self.runs, self.plan = Bus(), [], plan or Plan()
        self.backbone, self.split, self.where = backbone, split, "kernel"
        self.calls = []  # what panels asked for
        self._events, self._pace = list(events), pace
        self.folder, self.overlaid = Path(folder), ()
        self.objects = ()  # names of the objects that it was given

    @property
    def run(self):
        return self.runs[-1] if self.runs else None

    def show(self, run):
        self.runs.append(run)
        self.bus.publish(RunChosen(name=run.name))
        for event in list(run.events):
            self.bus.publish(event)
        return run

    def shown(self, *events, **attributes):
        """Have a run whose log is this one."""
        run = self.show(FakeRun(self.plan, [], self))
        vars(run).update(attributes)
        for event in events:
            run.tell(event)
        return run

    def subscribe(self, watcher):
        return self.bus.subscribe(watcher)

    def change(self, **changes):
        self.calls.append(("change", changes))
        before, self.plan = self.plan, self.plan.change(**changes)
        if changed := tuple(before.differences(self.plan)):
            self.bus.publish(PlanChanged(fields=changed))
        return self.plan

    def prepare(self):
        self.calls.append(("prepare", {}))
        parts = {"data": self.split, "backbone": self.backbone, "examples": self.split and self.backbone}
        for part, value in parts.items():
            if value is not None:
                self.bus.publish(PreparationEnded(part=part))

    def start(self, *, where=None):
        self.calls.append(("start", {"where": where or self.where}))
        if self.run is not None and not self.run.is_over:
            raise RunError("fake is still running", hint="stop it first")
        run = FakeRun(self.plan, self._events, self, pace=self._pace, where=where or self.where)
        self.show(run)
        threading.Thread(target=run.play, daemon=True).start()
        return run

    def overlay(self, *names):
        self.overlaid = names
        self.bus.publish(RunsOverlaid(names=names))

    def handle(self, name):
        return FakeRun(self.plan, [], self, name=name)

    def attach(self, name="last"):
        self.calls.append(("attach", {"name": name}))
        if not (self.folder / name).is_dir():
            raise RunError(f"there is no run {name!r}", hint="start one")
        run = FakeRun(self.plan, [], self, name=name, where="elsewhere")
        self.show(run)
        for event in RunFolder(self.folder / name).events():
            run.tell(event)
        return run


def until(condition, *, seconds=5.0):
    """Wait until the condition holds, at most so long; return whether it does."""
    end = time.monotonic() + seconds
    while not (held := condition()) and time.monotonic() < end:
        time.sleep(0.01)
    return bool(held)

"""A session without training: it plays a recorded log, and answers panels as the real one does."""

import math
import threading
import time
from pathlib import Path

from workbench.choices import Plan
from workbench.errors import RunError
from workbench.events import (
    Bus,
    EvaluationEnded,
    EvaluationProgressed,
    PlanChanged,
    PreparationEnded,
    RunEnded,
    RunPaused,
    RunResumed,
    RunStarted,
    StageStarted,
    StepEnded,
)


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
            precision="fp32", baseline=baseline, baseline_name="always the most frequent class",
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


class FakeRun:
    """Plays a log on a thread, a step each `pace` seconds; without a thread it is where its log says."""

    def __init__(self, plan, events, publish, *, pace=0.02):
        self.plan, self.name, self.folder = plan, "fake", Path("runs/fake")
        self.events, self.state, self.pace = [], "preparing", pace
        self._log, self._publish = events, publish
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
    def wish(self):
        if self._is_stopping and not self.is_over:
            return "stopping"
        return None if self._may_go_on.is_set() or self.state == "paused" else "pausing"

    def pause(self):
        self._may_go_on.clear()

    def resume(self):
        self._may_go_on.set()

    def stop(self):
        self._is_stopping = True
        self._may_go_on.set()

    def tell(self, event):
        self.events.append(event)
        states = {RunStarted: "running", RunPaused: "paused", RunResumed: "running", RunEnded: "completed"}
        self.state = states.get(type(event), self.state)
        self._publish(event)

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

    def __init__(self, plan=None, *, backbone=None, split=None, events=(), pace=0.02):
        self.bus, self.run, self.plan = Bus(), None, plan or Plan()
        self.backbone, self.split = backbone, split
        self.calls = []  # what panels asked for
        self._events, self._pace = list(events), pace

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
        for part, value in (("data", self.split), ("backbone", self.backbone)):
            if value is not None:
                self.bus.publish(PreparationEnded(part=part))

    def start(self, *, where="kernel"):
        self.calls.append(("start", {"where": where}))
        if self.run is not None and not self.run.is_over:
            raise RunError("fake is still running", hint="stop it first")
        self.run = FakeRun(self.plan, self._events, self.bus.publish, pace=self._pace)
        threading.Thread(target=self.run.play, daemon=True).start()
        return self.run


def until(condition, *, seconds=5.0):
    """Wait until the condition holds, at most so long; return whether it does."""
    end = time.monotonic() + seconds
    while not (held := condition()) and time.monotonic() < end:
        time.sleep(0.01)
    return bool(held)

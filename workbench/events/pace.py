"""How fast a run goes, and so how long it will still take. Reads events as they come, keeps a handful of numbers."""

import statistics
from collections import deque

from workbench.events import EvaluationEnded, Event, RunEnded, RunStarted, StepEnded


class Pace:
    """The speed of one run.

    Attributes:
        step: Optimizer steps taken so far.
        steps: Optimizer steps that the whole run takes; 0 until that is known.
    """

    def __init__(self) -> None:
        self.step = 0
        self.steps = 0
        self._step_seconds: deque[float] = deque(maxlen=50)
        self._evaluation_seconds = 0.0  # of the latest one
        self._evaluated_at: deque[int] = deque(maxlen=2)  # steps of the last two evaluations

    def note(self, event: Event) -> None:
        """Take one event in."""
        if isinstance(event, StepEnded):
            self.step = event.step
            self._step_seconds.append(event.seconds)
        elif isinstance(event, EvaluationEnded):
            self._evaluation_seconds = event.seconds
            self._evaluated_at.append(event.step)
        elif isinstance(event, RunEnded):
            self.step = event.step
        elif isinstance(event, RunStarted):
            self.step, self.steps = event.first_step, event.steps

    @property
    def seconds_left(self) -> float | None:
        """Time to the end at the median speed of the last steps, evaluations included; None until a step was taken."""
        if not self._step_seconds:
            return None
        gap = self._evaluated_at[1] - self._evaluated_at[0] if len(self._evaluated_at) == 2 else self.steps
        per_step = statistics.median(self._step_seconds) + self._evaluation_seconds / max(1, gap)
        return (self.steps - self.step) * per_step

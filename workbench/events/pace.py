"""Estimates the speed of a run and its remaining time from its events."""

import statistics
from collections import deque

from workbench.events import EvaluationEnded, Event, PlanAdjusted, RunEnded, RunForked, RunStarted, StepEnded


class Pace:
    """The speed of one run.

    Attributes:
        step: The number of optimizer steps taken so far.
        steps: The number of optimizer steps of the run; 0 until it is known.
    """

    def __init__(self) -> None:
        self.step = 0
        self.steps = 0
        self._step_seconds: deque[float] = deque(maxlen=50)
        self._evaluation_seconds = 0.0  # of the latest evaluation
        self._evaluated_at: deque[int] = deque(maxlen=2)  # steps of the last two evaluations

    def note(self, event: Event) -> None:
        """Update the estimate with an event."""
        if isinstance(event, StepEnded):
            self.step = event.step
            self._step_seconds.append(event.seconds)
        elif isinstance(event, EvaluationEnded):
            self._evaluation_seconds = event.seconds
            self._evaluated_at.append(event.step)
        elif isinstance(event, RunEnded | RunForked):
            self.step = event.step
        elif isinstance(event, RunStarted):
            self.step, self.steps = event.first_step, event.steps
        elif isinstance(event, PlanAdjusted):
            self.steps = event.steps or self.steps

    @property
    def seconds_left(self) -> float | None:
        """The remaining time at the median speed of the last 50 steps, with evaluations; None before the first step."""
        if not self._step_seconds:
            return None
        gap = self._evaluated_at[1] - self._evaluated_at[0] if len(self._evaluated_at) == 2 else self.steps
        per_step = statistics.median(self._step_seconds) + self._evaluation_seconds / max(1, gap)
        return (self.steps - self.step) * per_step

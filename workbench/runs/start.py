"""Finds where a run starts or continues: at its newest intact checkpoint, or at the backbone."""

from dataclasses import dataclass

from workbench.errors import RunError
from workbench.events import Event, RunEnded, RunFailed, RunForked
from workbench.events.run_state import STOPPED_BY_USER
from workbench.plan.plan import Plan
from workbench.runs.checkpoints import Checkpoint, State, all_in, newest_valid, set_aside, state_of, tidy
from workbench.runs.disk.run_folder import RunFolder


@dataclass(frozen=True)
class Start:
    """Where a run starts: a checkpoint with its state, or the backbone."""

    plan: Plan
    checkpoint: Checkpoint | None = None
    state: State | None = None

    @property
    def step(self) -> int:
        """Steps taken before."""
        return self.state.step if self.state else 0


def find_start(folder: RunFolder, logged: list[Event]) -> tuple[Start, list[RunError]]:
    """Return where the run continues, and the errors of damaged later checkpoints, which are renamed.

    Raises:
        RunError: The run is complete, or it is a fork whose first checkpoint is damaged.
    """
    last = next((event for event in reversed(logged) if isinstance(event, (RunEnded, RunFailed))), None)
    if isinstance(last, RunEnded) and last.reason != STOPPED_BY_USER:
        raise RunError(
            f"{folder.name} has ended ({last.reason}), so there is nothing to resume",
            hint="run.fork(epochs=…) trains it on",
        )
    root = folder.path / "checkpoints"
    tidy(root)
    tidy(folder.path)
    checkpoint, refusals = newest_valid(root) if logged else (None, [])
    if checkpoint is None and any(isinstance(event, RunForked) and event.step for event in logged):
        raise RunError(f"the checkpoint that {folder.name} starts from is damaged", hint="fork the parent again")
    for damaged in all_in(root):
        if checkpoint is None or damaged.step > checkpoint.step:
            set_aside(damaged)
    if checkpoint is None:
        return Start(folder.plan()), refusals
    state = state_of(checkpoint)
    return Start(state.plan, checkpoint, state), refusals

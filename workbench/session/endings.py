"""What the end of a run means: whether it can be resumed, and what to say if its log has no end."""

from workbench.errors import RunError, WorkbenchError
from workbench.events import RunEnded, RunFailed
from workbench.events.run_state import STOPPED_BY_USER, RunState


def check_resumable(name: str, state: RunState) -> None:
    """Check that there is something to resume. Raises RunError."""
    if isinstance(state.ending, RunEnded) and state.ending.reason != STOPPED_BY_USER:
        raise RunError(
            f"{name} has ended ({state.ending.reason}), so there is nothing to resume",
            hint="run.fork(epochs=…) trains it on, run.fork(step=…) starts again from any step",
        )
    if state.never_loaded:
        raise RunError(
            f"{name} failed before it had loaded its data and its backbone, so there is nothing to resume",
            hint="repair the plan with session.change(…), then session.start()",
        )


def failed(error: Exception | None, step: int) -> RunFailed:
    """Return the event for a run that ended with this error, but without an event in its log."""
    error = error or RunError("the run has ended, and its log does not say why")
    if isinstance(error, WorkbenchError):
        return RunFailed(step=step, what=error.what, hint=error.hint)
    return RunFailed(step=step, what=f"{type(error).__name__}: {error}")

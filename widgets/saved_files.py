"""SavedFiles: the files that a run writes, in words: its checkpoints, its model, and errors in saving them."""

from typing import TYPE_CHECKING, Any

from widgets import wording
from workbench.events import (
    CheckpointFailed,
    CheckpointRefused,
    CheckpointSaved,
    Event,
    ModelSaved,
    ReplayDiverged,
    RunChosen,
    RunResumed,
    RunStarted,
    StageStarted,
)

if TYPE_CHECKING:
    from workbench.session.handle import Run

KINDS: frozenset[type[Event]] = frozenset(
    {CheckpointSaved, CheckpointFailed, CheckpointRefused, ModelSaved, ReplayDiverged}
    | {RunChosen, RunStarted, RunResumed, StageStarted}
)

TEXT, IMAGE = '"a text"', '"picture.png"'  # what a model is asked, in a line of Python


class SavedFiles:
    """What the panel says about the files in a run folder."""

    def __init__(self) -> None:
        self._clear()

    def _clear(self) -> None:
        self._checkpoints = ""
        self._model: ModelSaved | None = None
        self._asks = TEXT
        self._warnings: dict[str, str] = {}  # kind of event -> only the latest warning: on a full disk every save fails

    def note(self, event: Event) -> None:
        """Remember what was saved or could not be saved."""
        match event:
            case RunChosen():
                self._clear()
            case CheckpointSaved(kept=kept, kept_bytes=size) if kept:
                self._checkpoints = f"{wording.plural(len(kept), 'checkpoint')} · {wording.size(size)}"
                self._warnings.pop("CheckpointFailed", None)
            case ModelSaved():
                self._model = event
            case CheckpointFailed(step=step, what=what, hint=hint):
                tried = f" Try: {hint}." if hint else ""
                self._warnings[event.kind] = f"No checkpoint at step {step:,}: {what}.{tried} Training continues."
            case CheckpointRefused(step=step, what=what):
                self._warnings[event.kind] = f"The checkpoint of step {step:,} was skipped: {what}."
            case ReplayDiverged(step=step, what=what):
                self._warnings[event.kind] = f"Repeating step {step:,} gave other numbers than before: {what}."
            case RunStarted(task=task):
                self._asks = IMAGE if task.startswith("image") else TEXT
            case StageStarted() | RunResumed():
                self._model = None  # the model on disk is from before

    def picture(self, run: "Run | None") -> dict[str, Any]:
        """Return the checkpoints in words, how to use the model, and the warnings."""
        return {
            "checkpoints": self._checkpoints,
            "model": "" if self._model is None else f"{self._model.which} model (step {self._model.step:,})",
            "uses": self._uses(run),
            "warnings": list(self._warnings.values()),
        }

    def _uses(self, run: "Run | None") -> list[dict[str, str]]:
        """Return where the model is, and the lines of Python that load it and ask it."""
        if self._model is None or run is None:
            return []
        ask = f"import workbench as wb; wb.attach({str(run.folder)!r}).predict([{self._asks}])"
        lines = (
            ("in the folder", str(run.folder / self._model.folder)),
            ("in any program", run.use_lines or ""),
            ("in a notebook", ask),
        )
        return [{"title": title, "line": line} for title, line in lines if line]

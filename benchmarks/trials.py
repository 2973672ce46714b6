"""One trial of `checkpoints.py`: a run in its own folder that is interrupted and then resumed in a new process.

This file decides what counts as resumed and as lost, by the same rules for every runner. `checkpoints.py` and
`interruption.py` interrupt the runs.
"""

import functools
import itertools
import re
import shutil
import statistics
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import resuming
from interruption import Child
from resuming import STEPS, Runner


@dataclass
class Reference:
    """A runner, and the facts of its undisturbed runs."""

    runner: Runner
    sample: Path  # the folder of a trial whose run stopped two steps before its end
    weights: str | None = None  # sha256 after the last step
    save_seconds: float = 0.0  # median time of a save
    step_seconds: float = 0.0  # median time of a step with its save
    checkpoint_bytes: int = 0


@dataclass(frozen=True)
class Outcome:
    """The outcome of one interrupted run."""

    resumed: bool
    lost: bool
    hit: bool
    reason: str = ""  # why it could not be resumed


class Trial:
    """One run in its own folder: it writes to `place`; `notes` is never damaged."""

    def __init__(self, folder: Path, reference: Reference) -> None:
        self.folder, self.place, self.notes = folder, folder / "place", folder / "notes"
        self.reference, self.runner = reference, reference.runner

    def begin(self) -> None:
        """Create the run without starting it."""
        self.place.mkdir(parents=True, exist_ok=True), self.notes.mkdir()
        self.runner.begin(self.place)

    def start(self, **how: int) -> Child:
        """Start or resume the run in a new process."""
        return Child(functools.partial(self.runner.train, self.place, self.notes, **how), self.notes)

    @property
    def newest_reported(self) -> int:
        """The newest step that was reported as saved."""
        return self.runner.reported(self.place, self.notes)

    @property
    def newest_begun(self) -> int:
        """The newest step whose checkpoint was begun, complete or not."""
        return resuming.newest_begun(self.runner, self.place)

    def outcome(self, safe: int, *, hit: bool) -> Outcome:
        """Resume the run and return its outcome; `safe` is the newest step whose checkpoint must be intact."""
        error = self.resume()
        is_lost = resuming.resumed_from(self.notes) < safe
        if error:
            is_lost = safe > 0 and not (self.runner.by_hand and self.resume(by_hand=safe) is None and self.is_right)
            return Outcome(False, is_lost, hit, error)
        has_ended = resuming.final_weights(self.runner, self.place) is not None
        wrong = "it resumed, but ended with wrong weights" if has_ended else "it ended without saving its last weights"
        return Outcome(self.is_right, is_lost, hit, "" if self.is_right else wrong)

    def resume(self, **how: int) -> str | None:
        """Resume the run in a new process; return the reason if it does not reach its end."""
        (self.notes / "resumed").unlink(missing_ok=True)
        with self.start(**how) as child:
            if child.finish():
                return None
        error = self.notes / "error"
        return _error_message(error.read_text()) if error.exists() else "it hung or crashed"

    @property
    def is_right(self) -> bool:
        """Whether the weights after the last step are those of the undisturbed run."""
        return resuming.final_weights(self.runner, self.place) == self.reference.weights


def _error_message(traceback: str) -> str:
    """Return the message of the last error in a traceback, without paths and numbers, which differ between trials."""
    raised = [line for line in traceback.splitlines() if re.match(r"[\w.]+: ", line)] or ["unknown"]
    message = re.sub(r"'?/\S*/|\b(line \d|0x).*", "…", raised[-1])
    return re.sub(r"\d+", "#", message)[:90]


def measure_reference(runner: Runner, root: Path) -> Reference:
    """Measure undisturbed runs, and check that a run that stops between two steps resumes to the same weights."""
    reference = Reference(runner, root / f"{runner.name}-sample")
    undisturbed, sample = Trial(root / f"{runner.name}-undisturbed", reference), Trial(reference.sample, reference)
    reference.save_seconds, reference.step_seconds = _seconds(undisturbed)
    reference.weights = resuming.final_weights(runner, undisturbed.place)
    sample.begin()
    with sample.start(stop_at=STEPS - 2) as child:
        child.finish()
    files = runner.checkpoint(sample.place, STEPS - 2).iterdir()
    reference.checkpoint_bytes = sum(file.stat().st_size for file in files)
    copied = Trial(root / f"{runner.name}-copied", reference)
    shutil.copytree(sample.folder, copied.folder)
    if (error := copied.resume()) or not copied.is_right:
        sys.exit(f"an undisturbed run of {runner.name} can't be resumed: {error or 'its weights differ'}")
    return reference


def _seconds(trial: Trial) -> tuple[float, float]:
    """Run a trial; return the median seconds of a save, from its first file to its report, and of a step with its save.

    Both are measured from outside, by polling.
    """
    trial.begin()
    begun, reported = [], []
    with trial.start() as child:
        for step in range(1, STEPS + 1):
            child.wait_until(lambda step=step: trial.newest_begun >= step)
            begun.append(time.perf_counter())
            child.wait_until(lambda step=step: trial.newest_reported >= step)
            reported.append(time.perf_counter())
        child.finish()
    saves = [after - before for before, after in zip(begun, reported, strict=True)]
    return statistics.median(saves), statistics.median(after - before for before, after in itertools.pairwise(begun))

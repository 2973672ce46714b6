"""One trial of `checkpoints.py`: a run in a folder of its own, interrupted somehow, taken up again in a fresh process.

What counts as taken up again, and as lost, is decided here, alike for every runner. How a run is interrupted is not.
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
class Known:
    """A runner, and what its runs are like when nothing happens to them."""

    runner: Runner
    sample: Path  # the folder of a trial whose run left off two steps before its end
    weights: str | None = None  # sha256 after the last step
    save_seconds: float = 0.0  # median, and so the next
    step_seconds: float = 0.0  # a step and its save
    checkpoint_bytes: int = 0


@dataclass(frozen=True)
class Outcome:
    """What became of one interrupted run."""

    resumed: bool
    lost: bool
    hit: bool
    why: str = ""  # it could not be resumed


class Trial:
    """One run in a folder of its own: `place` is where it writes, `notes` what is kept out of harm's way."""

    def __init__(self, folder: Path, known: Known) -> None:
        self.folder, self.place, self.notes = folder, folder / "place", folder / "notes"
        self.known, self.runner = known, known.runner

    def begin(self) -> None:
        """Make the run, not started yet."""
        self.place.mkdir(parents=True, exist_ok=True), self.notes.mkdir()
        self.runner.begin(self.place)

    def start(self, **how: int) -> Child:
        """Carry the run out in a fresh process, from whatever is there."""
        return Child(functools.partial(self.runner.carry_out, self.place, self.notes, **how), self.notes)

    @property
    def reported(self) -> int:
        """The newest step that was reported saved."""
        return self.runner.reported(self.place, self.notes)

    @property
    def begun(self) -> int:
        """The newest step that was begun to be saved."""
        return resuming.newest(self.runner, self.place)

    def outcome(self, safe: int, *, hit: bool) -> Outcome:
        """Take the run up again; `safe` is the newest step that should still be there."""
        error = self.resume()
        is_lost = resuming.resumed_from(self.notes) < safe
        if error:
            is_lost = safe > 0 and not (self.runner.by_hand and self.resume(by_hand=safe) is None and self.is_right)
            return Outcome(False, is_lost, hit, error)
        has_ended = resuming.final_weights(self.runner, self.place) is not None
        wrong = "it went on, to wrong weights" if has_ended else "it ended, its last weights not on disk"
        return Outcome(self.is_right, is_lost, hit, "" if self.is_right else wrong)

    def resume(self, **how: int) -> str | None:
        """Go on in a fresh process; return what kept it from its end, if anything did."""
        (self.notes / "resumed").unlink(missing_ok=True)
        with self.start(**how) as child:
            if child.finish():
                return None
        error = self.notes / "error"
        return _first_words(error.read_text()) if error.exists() else "it hung or crashed"

    @property
    def is_right(self) -> bool:
        """Whether the weights after the last step are those of the undisturbed run."""
        return resuming.final_weights(self.runner, self.place) == self.known.weights


def _first_words(traceback: str) -> str:
    """Return what was raised, without what differs from trial to trial."""
    raised = [line for line in traceback.splitlines() if re.match(r"[\w.]+: ", line)] or ["unknown"]
    said = re.sub(r"'?/\S*/|\b(line \d|0x).*", "…", raised[-1])
    return re.sub(r"\d+", "#", said)[:90]


def measured(runner: Runner, root: Path) -> Known:
    """Learn what undisturbed runs are like, and make sure that leaving off between two steps changes nothing."""
    known = Known(runner, root / f"{runner.name}-sample")
    whole, sample = Trial(root / f"{runner.name}-whole", known), Trial(known.sample, known)
    known.save_seconds, known.step_seconds = _seconds(whole)
    known.weights = resuming.final_weights(runner, whole.place)
    sample.begin()
    with sample.start(stop_at=STEPS - 2) as child:
        child.finish()
    files = runner.checkpoint(sample.place, STEPS - 2).iterdir()
    known.checkpoint_bytes = sum(file.stat().st_size for file in files)
    copied = Trial(root / f"{runner.name}-copied", known)
    shutil.copytree(sample.folder, copied.folder)
    if (error := copied.resume()) or not copied.is_right:
        sys.exit(f"{runner.name} can't even be resumed when nothing is wrong: {error or 'its weights differ'}")
    return known


def _seconds(trial: Trial) -> tuple[float, float]:
    """Carry the run out; return what a save takes, from its first file to the report of it, and a step and a save."""
    trial.begin()
    begun, reported = [], []
    with trial.start() as child:
        for step in range(1, STEPS + 1):
            child.wait_until(lambda step=step: trial.begun >= step)
            begun.append(time.perf_counter())
            child.wait_until(lambda step=step: trial.reported >= step)
            reported.append(time.perf_counter())
        child.finish()
    saves = [after - before for before, after in zip(begun, reported, strict=True)]
    return statistics.median(saves), statistics.median(after - before for before, after in itertools.pairwise(begun))

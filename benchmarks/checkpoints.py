"""How many interrupted runs can be resumed? Compares our runs with those of the stock Hugging Face Trainer.

Claim: all of ours can, and no checkpoint that was reported as saved is lost. Both train the same tiny BERT with
dropout, save 8 MB at each of six steps and keep three checkpoints. Both are then resumed in a new process. The cases:

    kill           kill -9 at a random moment during a random save; repeated if the save was already complete
    kill any time  kill -9 at a random moment between the beginnings of two saves, or soon after the start
    truncated      a random file of the newest checkpoint is truncated at a random length
    flipped        a random bit of a random file of the newest checkpoint is flipped
    full disk      the run writes to a tmpfs of random size that fills up during a save; before the run is resumed, the
                   tmpfs is enlarged (if no tmpfs can be mounted: "file size limit", set at a random save)

The counts, out of `of`, follow the same rules for both:

    ours, trainer            the weights at the end equal those of an undisturbed run, bit for bit
    ours_lost, trainer_lost  the run resumed from an earlier step than the newest one that had been reported as saved
                             (CheckpointSaved in our log, `on_save` of the Trainer) and that this script did not damage;
                             the Trainer first gets a second attempt, with the path of that checkpoint
    ours_hit, trainer_hit    the interruption came during a save, which was never reported
"""

import contextlib
import functools
import json
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import form
import interruption
import resuming
import torch
from interruption import Child
from resuming import KEPT, STEPS
from trials import Outcome, Reference, Trial, measure_reference

TRIALS, QUICK, WORKERS = 200, 20, 2
ATTEMPTS = 20  # to hit a save
DISK_BYTES = 1 << 27  # more than any run here needs


def kill_in_save(trial: Trial, rng: random.Random) -> Outcome:
    for attempt in range(ATTEMPTS):  # some saves are faster than usual and complete before the kill
        again = Trial(trial.folder / str(attempt), trial.reference)
        kill(again, rng.randint(1, STEPS), rng.random() * trial.reference.save_seconds)
        if again.newest_begun > again.newest_reported:
            break
    return after_kill(again)


def kill_any_time(trial: Trial, rng: random.Random) -> Outcome:
    kill(trial, rng.randint(0, STEPS), rng.random() * trial.reference.step_seconds)
    return after_kill(trial)


def kill(trial: Trial, step: int, seconds: float) -> None:
    trial.begin()
    with trial.start() as child:
        child.wait_until(lambda: trial.newest_begun >= step)
        time.sleep(seconds)
        child.kill()


def after_kill(trial: Trial) -> Outcome:
    return trial.outcome(trial.newest_reported, hit=trial.newest_begun > trial.newest_reported)


def damage(how: Callable[[Path, random.Random], None], trial: Trial, rng: random.Random) -> Outcome:
    shutil.copytree(trial.reference.sample, trial.folder)
    step = trial.newest_begun
    files = [file for file in trial.runner.checkpoint(trial.place, step).iterdir() if file.stat().st_size]
    how(rng.choice(sorted(files)), rng)
    return trial.outcome(step - 1, hit=True)


def fill_disk(trial: Trial, rng: random.Random) -> Outcome:
    size = int(trial.reference.checkpoint_bytes * rng.uniform(0.2, KEPT + 0.9))
    with interruption.small_disk(trial.place, size):
        trial.begin()
        with trial.start() as child:
            child.finish()
        safe = trial.newest_reported
        interruption.enlarge(trial.place, DISK_BYTES)
        return trial.outcome(safe, hit=safe < STEPS)


def limit_files(trial: Trial, rng: random.Random) -> Outcome:
    trial.begin()
    step, size = rng.randint(1, STEPS), rng.randrange(1 << 16, trial.reference.checkpoint_bytes // 2)
    with trial.start() as child:
        child.wait_until(lambda: trial.newest_begun >= step)
        child.limit_file_size(size)
        child.finish()
    safe = trial.newest_reported
    return trial.outcome(safe, hit=safe < STEPS)


CASES: dict[str, Callable[[Trial, random.Random], Outcome]] = {
    "kill": kill_in_save,
    "kill any time": kill_any_time,
    "truncated": functools.partial(damage, interruption.truncate),
    "flipped": functools.partial(damage, interruption.flip),
    "full disk": fill_disk,
    "file size limit": limit_files,
}


def names(root: Path) -> list[str]:
    """Return the cases that are possible on this machine."""
    impossible = "file size limit" if interruption.can_mount(root / "disk") else "full disk"
    return [name for name in CASES if name != impossible]


def run_trial(case: str, reference: Reference, number: int, root: Path) -> Outcome:
    """Run one trial in a temporary folder; the number of the trial is its seed, the same for both runners."""
    folder = root / f"{case.replace(' ', '-')}-{reference.runner.name}-{number}"
    try:
        return CASES[case](Trial(folder, reference), random.Random(f"{case} {number}"))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def run_trials(case: str, references: list[Reference], of: int, root: Path) -> list[list[Outcome]]:
    """Return the outcomes (one per runner) of each trial; several worker processes share the trials."""
    parts = [root / f"{case.replace(' ', '-')}-{number}" for number in range(WORKERS)]

    def work(number: int) -> None:
        trials = range(number, of, WORKERS)
        found = [[vars(run_trial(case, one, trial, root)) for one in references] for trial in trials]
        (parts[number] / "outcomes.json").write_text(json.dumps(found))

    with contextlib.ExitStack() as stack:
        children = []
        for number, part in enumerate(parts):
            part.mkdir()
            children.append(Child(functools.partial(work, number), part))
            stack.callback(children[-1].end)
        for child, part in zip(children, parts, strict=True):
            if not child.finish(seconds=3600):
                raise RuntimeError((part / "error").read_text() if (part / "error").exists() else "a process died")
    found = [json.loads((part / "outcomes.json").read_text()) for part in parts]
    return [[Outcome(**fields) for fields in pair] for part in found for pair in part]


def row(case: str, pairs: list[list[Outcome]]) -> form.Row:
    """Return the row of one case: the counts over all trials."""
    ours, theirs = zip(*pairs, strict=True)
    counted = [
        (f"{name}_{what}", sum(getattr(outcome, what) for outcome in side))
        for what in ("lost", "hit")
        for name, side in (("ours", ours), ("trainer", theirs))
    ]
    counts = sum(outcome.resumed for outcome in ours), sum(outcome.resumed for outcome in theirs)
    return form.count_row(case, "trainer", counts, of=len(pairs), **dict(counted))


def print_reasons(case: str, pairs: list[list[Outcome]]) -> None:
    """Print the most frequent reasons why runs could not be resumed."""
    for name, side in zip(("ours", "trainer"), zip(*pairs, strict=True), strict=True):
        for reason, count in Counter(outcome.reason for outcome in side if outcome.reason).most_common(4):
            print(f"{case}, {name}: {count} × {reason}", flush=True)


def main() -> None:
    options = form.arguments(__doc__, trials=TRIALS)
    of = min(options.trials, QUICK) if options.quick else options.trials
    torch.set_num_threads(1)  # forked processes can hang if torch has used its thread pool
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that the `finally` below cleans up
    root, rows = Path(tempfile.mkdtemp(prefix="checkpoints-")).resolve(), []
    try:
        prepared = resuming.Prepared()
        runners = (resuming.Ours(prepared), resuming.Trainer(prepared))
        references = [measure_reference(runner, root) for runner in runners]
        for case in names(root):
            pairs = run_trials(case, references, of, root)
            print_reasons(case, pairs)
            rows.append(row(case, pairs))
    finally:
        interruption.unmount_below(root)
        shutil.rmtree(root, ignore_errors=True)
    form.report("checkpoints", rows, as_json=options.json)


if __name__ == "__main__":
    main()

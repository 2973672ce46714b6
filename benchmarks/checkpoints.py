"""How many interrupted runs can be taken up again: ours, and those of the stock Hugging Face Trainer.

Claim: all of ours, and nothing that was reported saved is lost. Both train the same tiny BERT, dropout on, saving 8 MB
at each of six steps and keeping three checkpoints; both are then told to go on in a fresh process. The cases:

    kill           kill -9 at a random moment of a random save, tried again where that one was over already
    kill any time  kill -9 at a random moment between the beginnings of two saves, or soon after the start
    truncated      a random file of the newest checkpoint is cut off at a random length
    flipped        a random bit of a random file of the newest checkpoint is turned over
    full disk      the run writes onto a tmpfs of random size that fills up in a save; there is room when it is taken up
                   (where no tmpfs can be mounted: "file size limit", set by the system at a random save)

Counted, out of `of`, by the same rules for both:

    ours, trainer            ended with weights equal, bit for bit, to those of a run that nothing disturbed
    ours_lost, trainer_lost  went on from an earlier step than the newest that had been reported saved (CheckpointSaved
                             in our log, `on_save` of the Trainer) and that we had not damaged ourselves. The Trainer
                             gets a second try first, with that checkpoint named by hand
    ours_hit, trainer_hit    a save was under way that was never reported
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
from trials import Known, Outcome, Trial, measured

TRIALS, QUICK, WORKERS = 200, 20, 2
ATTEMPTS = 20  # to hit a save
ROOM = 1 << 27  # bytes: more than any run here takes


def kill_in_save(trial: Trial, draw: random.Random) -> Outcome:
    for attempt in range(ATTEMPTS):  # a save that took less than usual was over by then
        again = Trial(trial.folder / str(attempt), trial.known)
        kill(again, draw.randint(1, STEPS), draw.random() * trial.known.save_seconds)
        if again.begun > again.reported:
            break
    return after_kill(again)


def kill_any_time(trial: Trial, draw: random.Random) -> Outcome:
    kill(trial, draw.randint(0, STEPS), draw.random() * trial.known.step_seconds)
    return after_kill(trial)


def kill(trial: Trial, step: int, seconds: float) -> None:
    trial.begin()
    with trial.start() as child:
        child.wait_until(lambda: trial.begun >= step)
        time.sleep(seconds)
        child.kill()


def after_kill(trial: Trial) -> Outcome:
    return trial.outcome(trial.reported, hit=trial.begun > trial.reported)


def damage(how: Callable[[Path, random.Random], None], trial: Trial, draw: random.Random) -> Outcome:
    shutil.copytree(trial.known.sample, trial.folder)
    step = trial.begun
    files = [file for file in trial.runner.checkpoint(trial.place, step).iterdir() if file.stat().st_size]
    how(draw.choice(sorted(files)), draw)
    return trial.outcome(step - 1, hit=True)


def fill_disk(trial: Trial, draw: random.Random) -> Outcome:
    size = int(trial.known.checkpoint_bytes * draw.uniform(0.2, KEPT + 0.9))
    with interruption.small_disk(trial.place, size):
        trial.begin()
        with trial.start() as child:
            child.finish()
        safe = trial.reported
        interruption.enlarge(trial.place, ROOM)
        return trial.outcome(safe, hit=safe < STEPS)


def limit_files(trial: Trial, draw: random.Random) -> Outcome:
    trial.begin()
    step, size = draw.randint(1, STEPS), draw.randrange(1 << 16, trial.known.checkpoint_bytes // 2)
    with trial.start() as child:
        child.wait_until(lambda: trial.begun >= step)
        child.limit_file_size(size)
        child.finish()
    safe = trial.reported
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
    """Return the cases that this machine allows."""
    spared = "file size limit" if interruption.can_mount(root / "disk") else "full disk"
    return [name for name in CASES if name != spared]


def tried(case: str, known: Known, number: int, root: Path) -> Outcome:
    """Carry out one trial in a folder that is gone afterwards; same number, same draws."""
    folder = root / f"{case.replace(' ', '-')}-{known.runner.name}-{number}"
    try:
        return CASES[case](Trial(folder, known), random.Random(f"{case} {number}"))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def outcomes(case: str, known: list[Known], of: int, root: Path) -> list[list[Outcome]]:
    """Return for each trial the outcomes of the runners, which take turns; several processes share the trials."""
    parts = [root / f"{case.replace(' ', '-')}-{number}" for number in range(WORKERS)]

    def work(number: int) -> None:
        found = [[vars(tried(case, one, trial, root)) for one in known] for trial in range(number, of, WORKERS)]
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
    """Count."""
    ours, theirs = zip(*pairs, strict=True)
    counted = [
        (f"{name}_{what}", sum(getattr(outcome, what) for outcome in side))
        for what in ("lost", "hit")
        for name, side in (("ours", ours), ("trainer", theirs))
    ]
    counts = sum(outcome.resumed for outcome in ours), sum(outcome.resumed for outcome in theirs)
    return form.count_row(case, "trainer", counts, of=len(pairs), **dict(counted))


def tell_why(case: str, pairs: list[list[Outcome]]) -> None:
    """Print what kept runs from being resumed, the commonest first."""
    for name, side in zip(("ours", "trainer"), zip(*pairs, strict=True), strict=True):
        for why, count in Counter(outcome.why for outcome in side if outcome.why).most_common(4):
            print(f"{case}, {name}: {count} × {why}", flush=True)


def main() -> None:
    asked = form.arguments(__doc__, trials=TRIALS)
    of = min(asked.trials, QUICK) if asked.quick else asked.trials
    torch.set_num_threads(1)  # a fork and torch's own threads don't mix
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that everything is cleaned up
    root, rows = Path(tempfile.mkdtemp(prefix="checkpoints-")).resolve(), []
    try:
        prepared = resuming.Prepared()
        known = [measured(runner, root) for runner in (resuming.Ours(prepared), resuming.Trainer(prepared))]
        for case in names(root):
            pairs = outcomes(case, known, of, root)
            tell_why(case, pairs)
            rows.append(row(case, pairs))
    finally:
        interruption.unmount_below(root)
        shutil.rmtree(root, ignore_errors=True)
    form.report("checkpoints", rows, as_json=asked.json)


if __name__ == "__main__":
    main()

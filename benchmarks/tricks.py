"""What is each trick of speed worth to a whole run of an ordinary case? Runs with it and without alternate.

A trick that makes no ordinary case at least ten per cent faster or smaller is removed. `peer` names the run without it.
The ratio compares wall time to the last step, from the creation of the run folder on, including all trials and the
filling of the cache. `cpu_ratio` compares processor time of the whole run, which other programs on the machine disturb
less.

Copy on write saves memory: `anonymous_ratio` compares the largest memory that the system can't take back (without
pages of mapped files), in processes of their own, while a run goes on and the learner of a former run is still held.
Its seconds are processor time to the first step of the first run.
"""

import contextlib
import copy
import errno
import functools
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from unittest.mock import patch

import form
import ours
import psutil
from language_model import in_new_process

from workbench import run
from workbench.events import StepEnded
from workbench.plan.plan import Plan
from workbench.runs import preparation
from workbench.runs.disk.run_folder import RunFolder
from workbench.runs.moment import Moment
from workbench.runs.preparation import Preparation
from workbench.speed.first_token import FirstToken
from workbench.speed.prefix_cache import writer
from workbench.training import learner

REPETITIONS = 3
TEXTS = Plan().change(backbone="minilm-l6", source="sentiment:movies", precision="bf16", max_rows=600)
CHAT = Plan().change(backbone="smollm2-135m", source="everyday-chat", precision="bf16", max_rows=20, test_fraction=0.3)
CASES = {
    "text, head": TEXTS.change(trainable="head"),
    "text, last 1": TEXTS.change(trainable="last 1", learning_rate=5e-4),
    "text, last 2": TEXTS.change(trainable="last 2", learning_rate=2e-4),
    "chat, top 4 lora": CHAT.change(trainable="last 4", method="lora", batch_size=8, max_steps=6),
}
Patches = Callable[[], tuple[Any, ...]]


def no_room(*_: object) -> None:
    raise writer.NoRoomError(errno.ENOSPC, "No space left on device")


def full_disk() -> tuple[Any, ...]:
    return (patch.object(writer, "fits", lambda size: False),)


TRICKS: Mapping[str, tuple[Patches, Patches, tuple[str, ...]]] = {  # name -> with it, without it, cases
    "first token only": (
        tuple,
        lambda: (patch.object(FirstToken, "prepare", lambda *_: iter(())),),
        ("text, last 1", "text, head"),
    ),
    "activations in memory on a full disk": (
        full_disk,
        lambda: (*full_disk(), patch.object(writer.MemoryWriter, "__enter__", no_room)),
        ("text, head", "text, last 2"),
    ),
}
COPIED_AT_ONCE = (
    (preparation, "twin", lambda value, model: copy.deepcopy(value)),
    (preparation, "settle", lambda model: None),
    (learner, "later_copy", lambda tensor: tensor.detach().clone()),
)


@contextlib.contextmanager
def within(patches: tuple[Any, ...]) -> Iterator[None]:
    with contextlib.ExitStack() as stack:
        for one in patches:
            stack.enter_context(one)
        yield


def seconds_of_run(patches: Patches, plan: Plan, ready: Preparation) -> tuple[float, float]:
    """Return wall seconds to the last step, and processor seconds of the whole run; nothing is remembered before."""
    with within(patches()), ours.own_cache():
        start = time.process_time()
        result = ours.run_plan(plan, ready)
        return result.seconds, time.process_time() - start


def by_time(name: str, case: str, repetitions: int, changes: Mapping[str, Any]) -> form.Row:
    """Return the row of a trick that saves time."""
    kept, off, _ = TRICKS[name]
    plan, ready = CASES[case].change(**changes), Preparation()
    ready.examples(plan)
    sides = {side: lambda _, side=side: seconds_of_run(side, plan, ready) for side in (kept, off)}
    if repetitions > 1:
        sides[kept](0)
    taken = [
        [statistics.median(values) for values in zip(*side, strict=True)]
        for side in form.in_turn(sides, repetitions=repetitions).values()
    ]
    (seconds, cpu), (peer_seconds, peer_cpu) = taken
    more = {"cpu_ratio": peer_cpu / cpu, "cpu_seconds": cpu}
    return form.row(f"{name}: {case}", "without", (seconds, peer_seconds), repetitions=repetitions, **more)


@contextlib.contextmanager
def anonymous_memory() -> Iterator[list[float]]:
    """Yield a list that gets the anonymous memory of this process in MB, 20 times a second."""
    found, done = [], threading.Event()

    def watch() -> None:
        while not done.wait(0.05):
            memory = psutil.Process().memory_info()
            found.append((memory.rss - memory.shared) / 1e6)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield found
    finally:
        done.set()
        watcher.join()


def memory_of_run(is_copied: bool, plan: Plan) -> tuple[float, float]:
    """Return processor seconds to the first step, and the peak of anonymous memory in MB of a second run."""
    patches = tuple(patch.object(*what) for what in COPIED_AT_ONCE) if is_copied else ()
    with within(patches), ours.own_cache(), tempfile.TemporaryDirectory(prefix="runs-") as runs:
        ready = Preparation()
        ready.examples(plan)
        folder, start = RunFolder.create(plan, runs), time.process_time()
        events = run(folder=folder, preparation=ready)
        steps = [time.process_time() - start for event in events if isinstance(event, StepEnded)]
        held = Moment(folder, ready, 1).learner
        with anonymous_memory() as found:
            list(run(folder=RunFolder.create(plan, runs), preparation=ready))
        assert held.step == 1
    return steps[0], max(found)


def by_memory(case: str, repetitions: int, changes: Mapping[str, Any]) -> form.Row:
    """Return the row of copy on write."""
    plan = CASES[case].change(**{**changes, "max_steps": 2})
    measure = {copied: functools.partial(in_new_process, memory_of_run, copied, plan) for copied in (False, True)}
    taken = form.in_turn({copied: lambda _, c=copied: measure[c]() for copied in measure}, repetitions=repetitions)
    (seconds, mb), (peer_seconds, peer_mb) = (
        [statistics.median(v) for v in zip(*taken[c], strict=True)] for c in (False, True)
    )
    more = {"anonymous_ratio": peer_mb / mb, "anonymous_mb": mb}
    return form.row(
        f"copy on write: {case}", "copied at once", (seconds, peer_seconds), repetitions=repetitions, **more
    )


def main() -> None:
    asked = form.arguments(__doc__)
    repetitions, changes = (1, {"max_rows": 20, "max_steps": 2}) if asked.quick else (REPETITIONS, {})
    rows = []
    for name, (_, _, cases) in TRICKS.items():
        for case in cases[: 1 if asked.quick else None]:
            rows += form.shown([by_time(name, case, repetitions, changes)])
    rows += form.shown([by_memory("chat, top 4 lora", repetitions, changes)])
    form.report("tricks", rows, as_json=asked.json)


if __name__ == "__main__":
    main()

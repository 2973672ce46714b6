"""A process of its own that carries out one run.

    python -m workbench.session.workers.worker       started by a session, in a session and process group of its own

Until it is given a run the worker warms up: it imports torch, loads what the session's plan names, and ends when the
pipe is closed, as it is when the kernel dies. From then on it needs nobody: it reads no more, writes what it has to
say into `worker.log` of the run folder, hears wishes through that folder, and goes on when the kernel is gone. It opens
no port. A message is a line of JSON, then as many bytes as that says; only they, which come through the pipe from the
session that started this process, are ever unpickled. The kernel's end is in employing.py.
"""

import contextlib
import faulthandler
import json
import os
import pickle
import signal
import threading
import time
import traceback
from pathlib import Path
from typing import IO, Any

import torch

from workbench.errors import RunError, WorkbenchError
from workbench.events import Event, RunFailed
from workbench.plan.choices import Plan
from workbench.runs.disk import control
from workbench.runs.disk.control import Control
from workbench.runs.disk.run_folder import RunFolder
from workbench.runs.preparation import Preparation
from workbench.runs.run import run
from workbench.session.workers.post_mortem import words_file


class _Inbox:
    """The worker's end of the pipe, read on a thread: the newest plan to prepare for, and the run once it comes."""

    def __init__(self, pipe: IO[bytes]) -> None:
        self.objects: dict[str, bytes] = {}  # pickled
        self.start: dict[str, Any] | None = None
        self.threads = 1
        self._plan: str | None = None
        self._news = threading.Condition()
        threading.Thread(target=self._read, args=(pipe,), daemon=True).start()

    def next_plan(self) -> str | None:
        """Wait for a plan to prepare for and return it; None once there is a run to carry out."""
        with self._news:
            self._news.wait_for(lambda: self._plan is not None or self.start is not None)
            plan, self._plan = self._plan, None
            return plan if self.start is None else None

    def _read(self, pipe: IO[bytes]) -> None:
        while self.start is None:
            message = json.loads(pipe.readline() or b"null")
            if message is None or len(content := pipe.read(message["bytes"])) < message["bytes"]:
                os._exit(0)  # the kernel is gone or has changed its mind, and there is nothing to carry out
            with self._news:
                self._take(message, content)
                self._news.notify_all()
        pipe.close()

    def _take(self, message: dict[str, Any], content: bytes) -> None:
        self.threads = message["threads"]
        if message["do"] == "bring":
            self.objects[message["name"]] = content
        elif message["do"] == "prepare":
            self._plan = message["plan"]
        else:
            self.start = message


def main() -> None:
    """Warm up, carry out one run, end."""
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    faulthandler.enable()  # into standard error, and so into the run's worker.log later
    with contextlib.suppress(OSError):  # where memory runs out, this goes before a notebook: it can be taken up again
        Path("/proc/self/oom_score_adj").write_text("500")
    inbox = _Inbox(os.fdopen(os.dup(0), "rb"))
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    desk = _Desk(inbox)
    while (plan := inbox.next_plan()) is not None:
        desk.prepare(Plan.from_json(plan))
    assert inbox.start is not None
    os._exit(desk.carry_out(RunFolder(inbox.start["folder"]), requests=inbox.start["requests"]))


class _Desk:
    """Where a worker has ready what it needs."""

    def __init__(self, inbox: _Inbox) -> None:
        self._inbox = inbox
        self._preparation: Preparation | None = None
        _take_a_step()

    def prepare(self, plan: Plan) -> None:
        """Load what the plan names; what goes wrong is for the run to tell."""
        with contextlib.suppress(Exception):
            self._ready().examples(plan)

    def carry_out(self, folder: RunFolder, *, requests: int) -> int:
        """Carry out the run and return the exit code: 0 if its log tells the end."""
        _speak_into(folder.path)
        # whoever asks this process to end gets a model that can be used
        signal.signal(signal.SIGTERM, lambda *_: control.request(folder.path, "stop"))
        told: Event | None = None
        try:
            preparation, steering = self._ready(), Control(folder.path, start=requests)
            for event in run(folder=folder, preparation=preparation, control=steering):
                told = event
        except Exception as error:
            traceback.print_exc()
            return 0 if isinstance(told, RunFailed) else _tell(folder, error)
        return 0

    def _ready(self) -> Preparation:
        """Return what loads things, computing with as many threads as the kernel: only so the bits are the same."""
        torch.set_num_threads(self._inbox.threads)
        if self._preparation is None:
            self._preparation = Preparation(**{name: _unpickled(it) for name, it in self._inbox.objects.items()})
        return self._preparation


def _take_a_step() -> None:
    """Train something tiny, so that everything torch puts off to the first step is done."""
    layer = torch.nn.Linear(2, 2)
    optimizer = torch.optim.AdamW(layer.parameters(), fused=True)
    layer(torch.zeros(1, 2)).sum().backward()
    optimizer.step()


def _speak_into(folder: Path) -> None:
    """Write what this process says from now on into the run folder."""
    with contextlib.suppress(OSError):
        os.ftruncate(2, 0)  # the kernel keeps what was said so far, for a worker that does not come to this
    words = words_file(folder, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    for number in (1, 2):
        os.dup2(words, number)
    os.close(words)
    os.write(1, f"process {os.getpid()} carries this run out from {time.strftime('%Y-%m-%d %H:%M:%S')} on\n".encode())


def _unpickled(content: bytes) -> Any:
    try:
        return pickle.loads(content)
    except Exception as error:
        raise RunError(
            f"what was given as an object can't be had in another process: {type(error).__name__}: {error}",
            hint="where='kernel', or define its class in a module that can be imported",
        ) from error


def _tell(folder: RunFolder, error: Exception) -> int:
    """Put into the log why the run could not even begin; return the exit code."""
    what, hint = str(error), "see worker.log in the run folder"
    if isinstance(error, WorkbenchError):
        what, hint = error.what, error.hint
    try:
        with folder.locked():
            folder.append(RunFailed(step=0, what=what, hint=hint))
    except (RunError, OSError):  # another process carries the run out, or nothing can be written
        return 1
    return 0


if __name__ == "__main__":
    main()

"""A worker process, which executes one run.

    python -m workbench.session.workers.worker       started by a session, in a session and process group of its own

Until it gets a run, the worker prepares: it imports torch and loads what the session's plan names. It ends when the
pipe closes, which also happens when the kernel dies. Once it has a run, it depends on nobody: it stops reading the
pipe, writes its output to `worker.log` in the run folder, gets requests through that folder, and continues without the
kernel. It opens no port.

A message is a line of JSON, followed by as many bytes as the line says. Only these bytes are ever unpickled; they come
through the pipe from the session that started this process. The kernel's end is in employer.py.
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
from workbench.plan.plan import Plan
from workbench.runs.disk import control
from workbench.runs.disk.control import Control
from workbench.runs.disk.run_folder import RunFolder
from workbench.runs.preparation import Preparation
from workbench.runs.run import run
from workbench.session.workers.post_mortem import words_file


class _Inbox:
    """The worker's end of the pipe, read in a thread: the newest plan to prepare for, and then the run."""

    def __init__(self, pipe: IO[bytes]) -> None:
        self.objects: dict[str, bytes] = {}  # pickled
        self.start: dict[str, Any] | None = None
        self.threads = 1
        self._plan: str | None = None
        self._news = threading.Condition()
        threading.Thread(target=self._read, args=(pipe,), daemon=True).start()

    def next_plan(self) -> str | None:
        """Wait for a plan to prepare for and return it; return None when there is a run to execute."""
        with self._news:
            self._news.wait_for(lambda: self._plan is not None or self.start is not None)
            plan, self._plan = self._plan, None
            return plan if self.start is None else None

    def _read(self, pipe: IO[bytes]) -> None:
        while self.start is None:
            message = json.loads(pipe.readline() or b"null")
            if message is None or len(content := pipe.read(message["bytes"])) < message["bytes"]:
                os._exit(0)  # the kernel has closed the pipe or died, and there is no run
            with self._news:
                self._take(message, content)
                self._news.notify_all()
        pipe.close()

    def _take(self, message: dict[str, Any], content: bytes) -> None:
        self.threads = message["threads"]
        if message["do"] == "object":
            self.objects[message["name"]] = content
        elif message["do"] == "prepare":
            self._plan = message["plan"]
        else:
            self.start = message


def main() -> None:
    """Prepare, execute one run, and end the process."""
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    faulthandler.enable()  # writes to standard error, which is the run's worker.log later
    with contextlib.suppress(OSError):  # if memory runs out, kill this process and not a notebook: a run can be resumed
        Path("/proc/self/oom_score_adj").write_text("500")
    inbox = _Inbox(os.fdopen(os.dup(0), "rb"))
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    executor = _Executor(inbox)
    while (plan := inbox.next_plan()) is not None:
        executor.prepare(Plan.from_json(plan))
    assert inbox.start is not None
    os._exit(executor.execute(RunFolder(inbox.start["folder"]), requests=inbox.start["requests"]))


class _Executor:
    """Prepares for a run and executes it."""

    def __init__(self, inbox: _Inbox) -> None:
        self._inbox = inbox
        self._preparation: Preparation | None = None
        _warm_up_torch()

    def prepare(self, plan: Plan) -> None:
        """Load what the plan names; the run will report an error, if there is one."""
        with contextlib.suppress(Exception):
            self._ready_preparation().examples(plan)

    def execute(self, folder: RunFolder, *, requests: int) -> int:
        """Execute the run; return the exit code, which is 0 if the log says how the run ended.

        Args:
            folder: The run folder.
            requests: Size in bytes of the file of requests when the run was started; earlier ones are ignored.
        """
        _redirect_output(folder.path)
        # a process that is asked to end stops its run, so that the model is saved
        signal.signal(signal.SIGTERM, lambda *_: control.request(folder.path, "stop"))
        last: Event | None = None
        try:
            preparation, requested = self._ready_preparation(), Control(folder.path, start=requests)
            for event in run(folder=folder, preparation=preparation, control=requested):
                last = event
        except Exception as error:
            traceback.print_exc()
            return 0 if isinstance(last, RunFailed) else _log_failure(folder, error)
        return 0

    def _ready_preparation(self) -> Preparation:
        """Return the preparation; set as many threads as the kernel has, without which results would differ in bits."""
        torch.set_num_threads(self._inbox.threads)
        if self._preparation is None:
            self._preparation = Preparation(**{name: _unpickled(it) for name, it in self._inbox.objects.items()})
        return self._preparation


def _warm_up_torch() -> None:
    """Train a tiny layer, so that torch does everything that it postpones to the first step."""
    layer = torch.nn.Linear(2, 2)
    optimizer = torch.optim.AdamW(layer.parameters(), fused=True)
    layer(torch.zeros(1, 2)).sum().backward()
    optimizer.step()


def _redirect_output(folder: Path) -> None:
    """Write the output of this process to the run folder from now on."""
    with contextlib.suppress(OSError):
        os.ftruncate(2, 0)  # empty the file of earlier output, which the kernel reads if a worker fails before this
    output = words_file(folder, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    for number in (1, 2):
        os.dup2(output, number)
    os.close(output)
    os.write(1, f"process {os.getpid()} executes this run from {time.strftime('%Y-%m-%d %H:%M:%S')} on\n".encode())


def _unpickled(content: bytes) -> Any:
    try:
        return pickle.loads(content)
    except Exception as error:
        raise RunError(
            f"a given object can't be unpickled in the worker process: {type(error).__name__}: {error}",
            hint="use where='kernel', or define its class in a module that can be imported",
        ) from error


def _log_failure(folder: RunFolder, error: Exception) -> int:
    """Log why the run could not start; return the exit code."""
    what, hint = str(error), "see worker.log in the run folder"
    if isinstance(error, WorkbenchError):
        what, hint = error.what, error.hint
    try:
        with folder.locked():
            folder.append(RunFailed(step=0, what=what, hint=hint, never_loaded=True))
    except (RunError, OSError):  # another process executes the run, or the log can't be written
        return 1
    return 0


if __name__ == "__main__":
    main()

"""Starts worker processes, keeps one warm, and gives it a run: the kernel's end of the pipe to worker.py.

Nothing here waits for a worker: what is sent to it is written by a thread, and what it does is read in the run folder.
"""

import atexit
import contextlib
import json
import os
import queue
import subprocess
import sys
import tempfile
import threading
import weakref
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any

import torch

from workbench.errors import RunError
from workbench.plan.choices import Plan
from workbench.runs.disk import process
from workbench.runs.disk.control import requests_size
from workbench.runs.disk.run_folder import RunFolder
from workbench.session.workers.post_mortem import words_file

_CHILDREN: list["subprocess.Popen[bytes]"] = []  # workers may outlive the sessions that started them


@atexit.register
def _let_go() -> None:
    """Say nothing of workers that are still there when this process ends: that is what they are for."""
    for child in _CHILDREN:
        child.returncode = 0 if child.returncode is None else child.returncode


class Worker:
    """The kernel's end: a process that warms up for one run."""

    def __init__(self) -> None:
        _CHILDREN[:] = [child for child in _CHILDREN if child.poll() is None]
        self._words = tempfile.TemporaryFile()  # noqa: SIM115 - what it says until it has a run folder
        weakref.finalize(self, self._words.close)
        self._folder: Path | None = None
        path = os.pathsep.join(entry or os.getcwd() for entry in sys.path)
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "workbench.session.workers.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=self._words,
            start_new_session=True,
            env={**os.environ, "PYTHONPATH": path},
        )
        _CHILDREN.append(self._process)
        self.mail: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        threading.Thread(target=_deliver, args=(self.mail, self._process.stdin), daemon=True).start()

    @property
    def pid(self) -> int:
        """The number of the process."""
        return self._process.pid

    @property
    def is_living(self) -> bool:
        """Whether the process is there."""
        return self._process.poll() is None

    def bring(self, objects: Mapping[str, bytes]) -> None:
        """Hand over what was given as objects, each pickled."""
        for name, pickled in objects.items():
            self._send(pickled, do="bring", name=name)

    def prepare(self, plan: Plan) -> None:
        """Have it load what this plan names."""
        self._send(do="prepare", plan=plan.to_json())

    def start(self, folder: RunFolder) -> None:
        """Give it the run to carry out; from then on it is on its own."""
        self._folder = path = folder.path.resolve()
        process.note(path, self.pid)
        self._send(do="start", folder=str(path), requests=requests_size(path))
        self.dismiss()

    def dismiss(self) -> None:
        """Close the pipe: without a run to carry out, the process ends."""
        self.mail.put(None)

    def exit_code(self) -> int | None:
        """Return how the process ended, minus the signal if one ended it; None if it has not.

        What it said before it could write into the folder of its run is put there.
        """
        try:
            code = self._process.wait(5)
        except subprocess.TimeoutExpired:
            return None
        self._words.seek(0)
        if self._folder is not None and (said := self._words.read()):
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
            with contextlib.suppress(OSError), open(words_file(self._folder, flags), "ab") as file:
                file.write(said)
        return code

    def _send(self, content: bytes = b"", **message: Any) -> None:
        line = json.dumps({**message, "threads": torch.get_num_threads(), "bytes": len(content)})
        self.mail.put(line.encode() + b"\n" + content)


def _deliver(mail: "queue.SimpleQueue[bytes | None]", pipe: IO[bytes]) -> None:
    """Write each message, so that nobody waits for a worker that reads slowly; then close the pipe."""
    with contextlib.suppress(OSError):  # it died: whoever follows its run will tell
        while (message := mail.get()) is not None:
            pipe.write(message)
            pipe.flush()
    with contextlib.suppress(OSError):
        pipe.close()


def pickled(objects: Mapping[str, Any]) -> dict[str, bytes]:
    """Return each object as bytes, to be sent to a worker.

    Raises:
        RunError: One can't be pickled; says which, and what to do instead.
    """
    import cloudpickle

    found = {}
    for name, value in objects.items():
        try:
            found[name] = cloudpickle.dumps(value)
        except Exception as error:
            instead = {"table": "a file as source=", "model": "a folder written by save_pretrained as backbone="}
            raise RunError(
                f"{name} ({type(value).__name__}) can't be handed to another process: {type(error).__name__}: {error}",
                hint=f"where='kernel', or {instead.get(name, 'one without open files, locks and the like')}",
            ) from error
    return found


class Employer:
    """Keeps at most one worker warm."""

    def __init__(self) -> None:
        self._idle: Worker | None = None
        self._brought: dict[str, Any] = {}  # the objects that the idle worker was handed
        self._lock = threading.RLock()

    def warm(self, wanted: Callable[[], tuple[Plan, Mapping[str, Any]]]) -> None:
        """Have a worker load what the plan wanted by now names; objects that can't be sent are told of at the start."""
        with self._lock, contextlib.suppress(RunError):
            plan, objects = wanted()
            self.ready(objects).prepare(plan)

    def ready(self, objects: Mapping[str, Any]) -> Worker:
        """Return a living worker that was handed these objects, warm or just begun.

        Raises:
            RunError: One of the objects can't be handed to another process.
        """
        with self._lock:
            if self._idle is None or not self._idle.is_living or not _are_same(self._brought, objects):
                parcels = pickled(objects)
                self.dismiss()
                self._idle, self._brought = Worker(), dict(objects)
                self._idle.bring(parcels)
            return self._idle

    def execute(self, folder: RunFolder, objects: Mapping[str, Any]) -> Callable[[], int | None]:
        """Have a worker carry out the run in `folder`; return what tells how its process ended.

        Raises:
            RunError: One of the objects can't be handed to another process, or the folder can't be written.
        """
        with self._lock:
            worker = self.ready(objects)
            try:
                worker.start(folder)
            except OSError as error:
                raise RunError(f"{folder.path} can't be written: {error.strerror}", hint="ask its owner") from error
            self._idle = None
        return worker.exit_code

    def dismiss(self) -> None:
        """Let the idle worker go."""
        with self._lock:
            if self._idle is not None:
                self._idle.dismiss()
            self._idle, self._brought = None, {}


def _are_same(these: Mapping[str, Any], those: Mapping[str, Any]) -> bool:
    return these.keys() == those.keys() and all(these[name] is those[name] for name in these)

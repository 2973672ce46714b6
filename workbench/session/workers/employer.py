"""Starts worker processes, keeps one ready, and gives it a run. This is the kernel's end of the pipe to worker.py.

Nothing here waits for a worker: a thread writes the messages to it, and its progress is read from the run folder.
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

from workbench.errors import RunError
from workbench.plan.plan import Plan
from workbench.runs.disk import process
from workbench.runs.disk.control import requests_size
from workbench.runs.disk.run_folder import RunFolder
from workbench.session.workers.post_mortem import words_file

_CHILDREN: list["subprocess.Popen[bytes]"] = []  # global, because workers outlive the sessions that started them


@atexit.register
def _suppress_warnings() -> None:
    """Suppress warnings about workers that still run at exit; they are meant to outlive this process."""
    for child in _CHILDREN:
        child.returncode = 0 if child.returncode is None else child.returncode


class Worker:
    """A worker process, which prepares for a run and then executes it, as seen from the kernel."""

    def __init__(self) -> None:
        _CHILDREN[:] = [child for child in _CHILDREN if child.poll() is None]
        self._output = tempfile.TemporaryFile()  # noqa: SIM115 - its output until it has a run folder
        weakref.finalize(self, self._output.close)
        self._folder: Path | None = None
        path = os.pathsep.join(entry or os.getcwd() for entry in sys.path)
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "workbench.session.workers.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=self._output,
            start_new_session=True,
            env={**os.environ, "PYTHONPATH": path},
        )
        _CHILDREN.append(self._process)
        self._messages: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        threading.Thread(target=_write_messages, args=(self._messages, self._process.stdin), daemon=True).start()

    @property
    def pid(self) -> int:
        """The id of the process."""
        return self._process.pid

    @property
    def is_living(self) -> bool:
        """Whether the process exists."""
        return self._process.poll() is None

    def send_objects(self, objects: Mapping[str, bytes]) -> None:
        """Send the objects that the user gave, such as a table; each is pickled."""
        for name, content in objects.items():
            self._send(content, do="object", name=name)

    def prepare(self, plan: Plan) -> None:
        """Let the worker load what this plan names."""
        self._send(do="prepare", plan=plan.to_json())

    def start(self, folder: RunFolder) -> None:
        """Give the worker its run; from then on it needs nothing more from the kernel."""
        self._folder = path = folder.path.resolve()
        process.note(path, self.pid)
        self._send(do="start", folder=str(path), requests=requests_size(path))
        self.dismiss()

    def dismiss(self) -> None:
        """Close the pipe; a worker without a run then ends."""
        self._messages.put(None)

    def exit_code(self) -> int | None:
        """Return the exit code of the process, negative if a signal ended it; None if it has not ended.

        Its output from before it had a run folder is appended to the log file there.
        """
        try:
            code = self._process.wait(5)
        except subprocess.TimeoutExpired:
            return None
        self._output.seek(0)
        if self._folder is not None and (output := self._output.read()):
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
            with contextlib.suppress(OSError), open(words_file(self._folder, flags), "ab") as file:
                file.write(output)
        return code

    def _send(self, content: bytes = b"", **message: Any) -> None:
        import torch

        line = json.dumps({**message, "threads": torch.get_num_threads(), "bytes": len(content)})
        self._messages.put(line.encode() + b"\n" + content)


def _write_messages(messages: "queue.SimpleQueue[bytes | None]", pipe: IO[bytes]) -> None:
    """Write the messages to the pipe, then close it. This is a thread, because a worker may read slowly."""
    with contextlib.suppress(OSError):  # the worker died; whoever follows its run reports that
        while (message := messages.get()) is not None:
            pipe.write(message)
            pipe.flush()
    with contextlib.suppress(OSError):
        pipe.close()


def pickled(objects: Mapping[str, Any]) -> dict[str, bytes]:
    """Pickle the objects, to send them to a worker.

    Raises:
        RunError: An object can't be pickled; the message gives its name and an alternative.
    """
    import cloudpickle

    found = {}
    for name, value in objects.items():
        try:
            found[name] = cloudpickle.dumps(value)
        except Exception as error:
            instead = {"table": "a file as source=", "model": "a folder from save_pretrained as backbone="}
            raise RunError(
                f"{name} ({type(value).__name__}) can't be sent to another process: {type(error).__name__}: {error}",
                hint=f"use where='kernel', or {instead.get(name, 'an object without open files, locks and the like')}",
            ) from error
    return found


class Employer:
    """Keeps at most one worker ready that has no run yet."""

    def __init__(self) -> None:
        self._idle: Worker | None = None
        self._sent: dict[str, Any] = {}  # the objects that were sent to the idle worker
        self._lock = threading.RLock()

    def warm(self, wanted: Callable[[], tuple[Plan, Mapping[str, Any]]]) -> None:
        """Let a worker load what the current plan names; an object that can't be sent is reported when a run starts."""
        with self._lock, contextlib.suppress(RunError):
            plan, objects = wanted()
            self.ready(objects).prepare(plan)

    def ready(self, objects: Mapping[str, Any]) -> Worker:
        """Return a living worker that has these objects, the idle one or a new one.

        Raises:
            RunError: One of the objects can't be sent to another process.
        """
        with self._lock:
            if self._idle is None or not self._idle.is_living or not _are_same(self._sent, objects):
                contents = pickled(objects)
                self.dismiss()
                self._idle, self._sent = Worker(), dict(objects)
                self._idle.send_objects(contents)
            return self._idle

    def execute(self, folder: RunFolder, objects: Mapping[str, Any]) -> Callable[[], int | None]:
        """Let a worker execute the run in `folder`; return a function that returns its exit code.

        Raises:
            RunError: One of the objects can't be sent to another process, or the folder can't be written.
        """
        with self._lock:
            worker = self.ready(objects)
            try:
                worker.start(folder)
            except OSError as error:
                raise RunError(
                    f"{folder.path} can't be written: {error.strerror}", hint="ask the owner of the folder"
                ) from error
            self._idle = None
        return worker.exit_code

    def dismiss(self) -> None:
        """End the idle worker."""
        with self._lock:
            if self._idle is not None:
                self._idle.dismiss()
            self._idle, self._sent = None, {}


def _are_same(these: Mapping[str, Any], those: Mapping[str, Any]) -> bool:
    return these.keys() == those.keys() and all(these[name] is those[name] for name in these)

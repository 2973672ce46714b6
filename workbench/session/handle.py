"""The handle on a run, wherever it is executed: in a thread of this kernel, in a worker process, or elsewhere.

One class serves all places. In the kernel, the thread of the handle executes the run. Otherwise the thread follows the
log, and requests go through the run folder. Only `wait` and `await` block until the run ends, and only the thread or
process that executes the run uses its model.
"""

import asyncio
import threading
import traceback
from collections.abc import Generator, Iterator
from typing import Any, Self

from workbench.errors import PlanError, RunError
from workbench.events import Event
from workbench.models import freezing
from workbench.runs.disk import control
from workbench.runs.disk.control import Control
from workbench.runs.disk.run_folder import RunFolder
from workbench.runs.preparation import Preparation
from workbench.session.endings import check_resumable, failed
from workbench.session.record import Record
from workbench.session.slot import Slot
from workbench.session.workers.follow import LogReader, follow
from workbench.training import change


class Run(Record):
    """A run, live or ended. `Session.start` and `attach` create one.

    Attributes:
        plan: The plan of the run, with all changes that have taken effect.
        folder: The run folder on disk.
        state: preparing | running | paused | stopped | completed | failed
        events: All events so far.
        where: kernel | process | elsewhere (executed by a thread of another kernel or program)
        session: The session that the run belongs to.
        error: The error that ended the run, if any.
    """

    def __init__(
        self, folder: RunFolder, preparation: Preparation, slot: "Slot[Run]", *, where: str, session: Any = None
    ) -> None:
        super().__init__(folder, preparation)
        self.where = where
        self.session = session
        self.error: Exception | None = None
        self._slot = slot
        self._control = Control(self.folder)
        self._log = LogReader(folder)
        self._thread = threading.Thread()
        self._is_new = False  # whether this handle was made with the folder

    def launch(self) -> Self:
        """Show the run and execute it in the background. Users call `Session.start` instead.

        Raises:
            RunError: An object that was given can't be sent to another process, or the folder can't be written.
        """
        self._is_new = True
        if self.where == "process":
            self._slot.employer.ready(self._preparation.objects)
        self._slot.choose(self.catch_up())
        return self._execute()

    def _execute(self) -> Self:
        """Start the run, or resume it from the newest checkpoint."""
        from workbench.runs.run import run  # imports torch

        if self.where == "process":
            self._log.state.reopen()
            self._state.reopen()
            self._control = Control(self.folder)
            return self._consume(follow(self._log, self._slot.employer.execute(self._store, self._preparation.objects)))
        for event in list(self._store.events())[len(self.events) :]:  # what another process has logged meanwhile
            self._slot.report(self, event)
        self._state.reopen()
        self.where, self._control = "kernel", Control(self.folder)
        return self._consume(run(folder=self._store, preparation=self._preparation, control=self._control))

    def catch_up(self) -> Self:
        """Read the events that are in the log now.

        Raises:
            RunError: The log can't be read.
        """
        for event in self._log.read():
            self.note(event)
        return self

    def follow(self) -> Self:
        """Follow the log of a run that another process executes, after `catch_up`. Users call `attach` instead."""
        return self._consume(follow(self._log))

    @property
    def is_alive(self) -> bool:
        """Whether a living process or thread executes the run. Known from its lock, so it may be arbitrarily slow."""
        return self._thread.is_alive() if self.where == "kernel" else self._store.is_executed

    @property
    def pending_request(self) -> str | None:
        """The request that has not taken effect yet: "pausing", "stopping" or None."""
        if self.is_over:
            return None
        if self.where != "kernel":
            self._control.look()  # another notebook may have sent a request
        if self._control.is_stopping:
            return "stopping"
        return "pausing" if self._control.is_pausing and self.state != "paused" else None

    def pause(self) -> Self:
        """Pause the run after the current step."""
        return self._request("pause")

    def resume(self) -> Self:
        """Resume a paused run, or one that was stopped, failed or died, from its newest valid checkpoint.

        Raises:
            RunError: The run is completed, another process executes it, or its rows or model have to be given again.
        """
        if not self.is_over and not self.is_alive:  # the process died, which a thread logs
            if not self._thread.is_alive():
                self.follow()
            self._join_thread()
        if not self.is_over:
            return self._request("resume")
        check_resumable(self.name, self._state)
        self._join_thread()  # the last event is out, but the thread may not have ended yet
        if self.is_alive or self._store.is_executed:
            raise RunError(
                f"{self.name} is being executed by another process",
                hint=f"use attach({self.name!r}) to watch and control it",
            )
        self._preparation.check_objects(self.plan)
        with self._slot.lock:
            self._slot.refuse_if_busy()
            if self.where == "process":
                self._slot.employer.ready(self._preparation.objects)
            self._state.reopen()  # first, so that the panels do not show how it ended before
            self._slot.choose(self)
            return self._execute()

    def _join_thread(self) -> None:
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join(5)

    def stop(self) -> Self:
        """Stop the run after the current step; its model is saved."""
        return self._request("stop")

    def change(self, **changes: Any) -> Self:
        """Change the learning rate, what is trainable, or how often to evaluate, from the next step on.

        Raises:
            PlanError: The run has ended, a field can't change in a live run, or a value is invalid.
        """
        if self.is_over:
            raise PlanError(
                f"{self.name} is {self.state}, so its plan can't change", hint="use run.fork(step=…) with the change"
            )
        plan = change.check(self.plan, changes)
        if (backbone := self._preparation.current_backbone(self.plan)) is not None:
            freezing.resolve(backbone.blocks, plan.transfer)
        return self._request("change", **{name: plan.flat()[name] for name in changes})

    def fork(self, step: int | None = None, **changes: Any) -> "Run":
        """Start a new run that begins where this one was after `step` steps, with changed fields of the plan.

        Args:
            step: Number of steps of this run; by default all that it has taken.
            changes: Field of the plan -> value in the fork; {} gives the same weights, bit for bit.

        Raises:
            PlanError: A field can't change in mid-run, or a value is invalid.
            RunError: The run has not taken so many steps, or its checkpoints are damaged.
        """
        from workbench.runs.fork import fork

        self._preparation.check_objects(self.plan)
        folder = fork(self._store, self._preparation, self.step if step is None else step, changes)
        where = self.where
        if where == "elsewhere":
            where = self.session.where if self.session is not None else "kernel"
        return Run(folder, self._preparation.snapshot(), self._slot, where=where, session=self.session).launch()

    def wait(self, timeout: float | None = None) -> Self:
        """Block until the run ends, for at most `timeout` seconds.

        Interrupting the cell stops a run in this kernel. If the run is elsewhere, it only ends the waiting: restarting
        the kernel also interrupts the cell, and the run should outlive that.

        Raises:
            WorkbenchError: The run failed.
        """
        try:
            if self._thread.is_alive():
                self._thread.join(timeout)
        except KeyboardInterrupt:
            if self.where != "kernel":
                raise
            self.stop()
            self._thread.join()
        return self._raise_if_failed()

    def __await__(self) -> Generator[Any, None, Self]:
        return self._until_over().__await__()

    async def _until_over(self) -> Self:
        try:
            while self._thread.is_alive():  # polling keeps the kernel free to handle clicks
                await asyncio.sleep(0.1)
        except asyncio.CancelledError:
            if self.where == "kernel":
                self.stop()
            raise
        return self._raise_if_failed()

    def _raise_if_failed(self) -> Self:
        if self.error is not None:
            raise self.error
        return self

    def _request(self, do: str, **changes: Any) -> Self:
        """Send a request to the thread or process that executes the run; do nothing if the run has ended elsewhere."""
        if self.where == "kernel":
            getattr(self._control, do)(**changes)
        elif not self.is_over:
            try:
                control.request(self.folder, do, **changes)
            except OSError as error:
                raise RunError(
                    f"{self.folder} can't be written: {error.strerror}", hint="ask the owner of the folder"
                ) from error
            self._control.look()
        return self

    def _consume(self, events: Iterator[Event]) -> Self:
        """Report these events to the slot, in a new thread."""
        self.error = None
        self._thread = threading.Thread(target=self._report_all, args=(events,), name=self.name, daemon=True)
        self._thread.start()
        return self

    def _report_all(self, events: Iterator[Event]) -> None:
        try:
            for event in events:
                self._slot.report(self, event)
        except Exception as error:
            self.error = error
            traceback.clear_frames(error.__traceback__)  # the frames hold the model and the optimizer
        finally:
            if not self.is_over:
                self._slot.report(self, failed(self.error, self.step))
            self._preparation.forget("backbone", "examples")
            if self._is_new and self._state.never_loaded:
                self._store.remove()

"""The handle that a person holds on a run: in a thread of this kernel, in a process of its own, or elsewhere.

One class for all places. In the kernel its thread carries the run out; otherwise the thread follows the log, and wishes
go through the run folder. Nothing here waits for the run except `wait` and `await`, and nothing but what carries the
run out touches its model.
"""

import asyncio
import threading
import traceback
from collections.abc import Generator, Iterator
from typing import Any, Self

from workbench.errors import PlanError, RunError, WorkbenchError
from workbench.events import Event, RunEnded, RunFailed
from workbench.events.run_state import STOPPED_BY_USER
from workbench.models import freezing
from workbench.runs.disk import control
from workbench.runs.disk.control import Control
from workbench.runs.disk.run_folder import RunFolder
from workbench.runs.fork import fork
from workbench.runs.preparation import Preparation
from workbench.runs.run import run
from workbench.session.record import Record
from workbench.session.slot import Slot
from workbench.session.workers.follow import LogReader, follow
from workbench.training import change


class Run(Record):
    """A run under way, or over. `Session.start` and `attach` make one.

    Attributes:
        plan: What is carried out; changes made on the way are in it once they hold.
        folder: The run folder on disk.
        state: preparing | running | paused | stopped | completed | failed
        events: Every event so far.
        where: kernel | process | elsewhere (the thread of another kernel or program carries it out, or did)
        session: The session it belongs to.
        error: What broke the run off, if anything did.
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

    def launch(self) -> Self:
        """Show the run and execute it in the background. A session does that; ask it by `start`.

        Raises:
            RunError: What was given as an object can't be handed to another process, or the folder can't be written.
        """
        if self.where == "process":
            self._slot.employer.ready(self._preparation.objects)
        self._slot.choose(self.catch_up())
        return self._execute()

    def _execute(self) -> Self:
        """Begin, or continue from the newest checkpoint."""
        if self.where == "process":
            self._log.state.reopen()
            self._state.reopen()
            self._control = Control(self.folder)
            return self._attend(follow(self._log, self._slot.employer.execute(self._store, self._preparation.objects)))
        for event in list(self._store.events())[len(self.events) :]:  # what another process has done meanwhile
            self._slot.report(self, event)
        self._state.reopen()
        self.where, self._control = "kernel", Control(self.folder)
        return self._attend(run(folder=self._store, preparation=self._preparation, control=self._control))

    def catch_up(self) -> Self:
        """Note what the log has by now.

        Raises:
            RunError: The log can't be read.
        """
        for event in self._log.read():
            self.note(event)
        return self

    def follow(self) -> Self:
        """Follow whatever process executes the run, from where `catch_up` left off. A session does that."""
        return self._attend(follow(self._log))

    @property
    def is_alive(self) -> bool:
        """Whether a living process or thread carries it out, however slow; told by its lock, not by the clock."""
        return self._thread.is_alive() if self.where == "kernel" else self._store.is_executed

    @property
    def pending_request(self) -> str | None:
        """What was asked for and is not true yet: "pausing", "stopping" or nothing."""
        if self.is_over:
            return None
        if self.where != "kernel":
            self._control.look()  # another notebook may have asked
        if self._control.is_stopping:
            return "stopping"
        return "pausing" if self._control.is_pausing and self.state != "paused" else None

    def pause(self) -> Self:
        """Let the run wait after the step it is at."""
        return self._ask("pause")

    def resume(self) -> Self:
        """Let a paused run go on; one that was stopped, failed or died goes on from its newest valid checkpoint.

        Raises:
            RunError: It is completed, another process carries it out, or its rows or model have to be given again.
        """
        if not self.is_over and not self.is_alive:  # it died, and the log is about to say so
            self._settle()
        if not self.is_over:
            return self._ask("resume")
        ended = self._state.ending
        if isinstance(ended, RunEnded) and ended.reason != STOPPED_BY_USER:
            raise RunError(f"{self.name} is over: {ended.reason}", hint="run.fork(step, …) goes on from any step of it")
        self._settle()  # it has told of its end and may not be gone yet
        if self.is_alive or self._store.is_executed:
            raise RunError(
                f"{self.name} is being executed by another process",
                hint=f"attach({self.name!r}) to see and steer it",
            )
        self._preparation.check_objects(self.plan)
        with self._slot.lock:
            self._slot.refuse_if_busy()
            if self.where == "process":
                self._slot.employer.ready(self._preparation.objects)
            self._slot.choose(self)
            return self._execute()

    def _settle(self) -> None:
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join(5)

    def stop(self) -> Self:
        """Let the run end after the step it is at; its model is kept."""
        return self._ask("stop")

    def change(self, **changes: Any) -> Self:
        """Change the learning rate, what is trainable or how often to evaluate; the next step is the first to obey.

        Raises:
            PlanError: The run is over, or a field that a run under way can't obey, or a value that can't be.
        """
        if self.is_over:
            raise PlanError(f"{self.name} is {self.state}; nothing of it can change", hint="run.fork(step, …)")
        plan = change.check(self.plan, changes)
        if (backbone := self._preparation.current_backbone(self.plan)) is not None:
            freezing.resolve(backbone.blocks, plan.transfer)
        return self._ask("change", **{name: plan.flat()[name] for name in changes})

    def fork(self, step: int | None = None, **changes: Any) -> "Run":
        """Start a new run that begins where this one was after `step` steps, with these fields of the plan changed.

        Args:
            step: Left out: where this run is now.
            changes: Fields of the plan -> values from there on; none: the same weights, bit for bit.

        Raises:
            PlanError: A field that can't change in mid-run, or a value that can't be.
            RunError: It has not taken so many steps, or what it kept is broken.
        """
        self._preparation.check_objects(self.plan)
        folder = fork(self._store, self._preparation, self.step if step is None else step, changes)
        where = self.where
        if where == "elsewhere":
            where = self.session.where if self.session is not None else "kernel"
        return Run(folder, self._preparation.snapshot(), self._slot, where=where, session=self.session).launch()

    def wait(self, timeout: float | None = None) -> Self:
        """Wait for the end, at most `timeout` seconds.

        An interrupt of the cell stops a run in this kernel. It only ends the waiting for one elsewhere: a restart of
        the kernel interrupts too, and that run is to outlive it.

        Raises:
            WorkbenchError: What broke the run off.
        """
        try:
            if self._thread.is_alive():
                self._thread.join(timeout)
        except KeyboardInterrupt:
            if self.where != "kernel":
                raise
            self.stop()
            self._thread.join()
        return self._checked()

    def __await__(self) -> Generator[Any, None, Self]:
        return self._over().__await__()

    async def _over(self) -> Self:
        try:
            while self._thread.is_alive():  # a look now and then leaves the kernel free for clicks
                await asyncio.sleep(0.1)
        except asyncio.CancelledError:
            if self.where == "kernel":
                self.stop()
            raise
        return self._checked()

    def _checked(self) -> Self:
        if self.error is not None:
            raise self.error
        return self

    def _ask(self, do: str, **changes: Any) -> Self:
        """Tell whatever carries the run out; one that is over hears nothing any more."""
        if self.where == "kernel":
            getattr(self._control, do)(**changes)
        elif not self.is_over:
            try:
                control.request(self.folder, do, **changes)
            except OSError as error:
                raise RunError(f"{self.folder} can't be written: {error.strerror}", hint="ask its owner") from error
            self._control.look()
        return self

    def _attend(self, story: Iterator[Event]) -> Self:
        self.error = None
        self._thread = threading.Thread(target=self._live, args=(story,), name=self.name, daemon=True)
        self._thread.start()
        return self

    def _live(self, story: Iterator[Event]) -> None:
        try:
            for event in story:
                self._slot.report(self, event)
        except Exception as error:
            self.error = error
            traceback.clear_frames(error.__traceback__)  # they hold the model and its optimizer
        finally:
            if not self.is_over:
                self._slot.report(self, self._failure())
            self._preparation.forget("backbone", "examples")

    def _failure(self) -> RunFailed:
        """Return why nothing more comes, where the log does not say."""
        error = self.error or RunError("it ended without a word")
        if isinstance(error, WorkbenchError):
            return RunFailed(step=self.step, what=error.what, hint=error.hint)
        return RunFailed(step=self.step, what=f"{type(error).__name__}: {error}")

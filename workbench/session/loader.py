"""Loads the data and the backbone of a session's plan in the background, and again when the plan changes."""

import gc
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from workbench.errors import WorkbenchError
from workbench.events import Event, PreparationEnded
from workbench.plan.plan import Plan
from workbench.runs.preparation import Preparation


class Loader:
    """Loads data, backbone and examples in a thread, which runs only while there is something to load.

    Args:
        preparation: Loads and caches the parts.
        plan: Returns the current plan.
        publish: Is called with `PreparationEnded` after each part.
    """

    def __init__(self, preparation: Preparation, plan: Callable[[], Plan], publish: Callable[[Event], None]) -> None:
        self._preparation, self._plan, self._publish = preparation, plan, publish
        self._lock = threading.Lock()
        self.was_requested = False  # whether `load` was ever called
        self._is_loading = False
        self._is_stale = False  # whether `load` was called after the thread read the plan

    def load(self) -> None:
        """Start to load what the plan names, and return at once."""
        with self._lock:
            self.was_requested = self._is_stale = True
            if not self._is_loading:
                self._is_loading = True
                threading.Thread(target=self._load, name="workbench-loader", daemon=True).start()

    def _load(self) -> None:
        while True:
            with self._lock:
                if not self._is_stale:
                    self._is_loading = False
                    return
                self._is_stale, plan = False, self._plan()
            self._load_all(plan)

    def _load_all(self, plan: Plan) -> None:
        preparation = self._preparation
        if self._try("data", plan, preparation.split) and self._try("backbone", plan, preparation.backbone):
            self._try("examples", plan, preparation.examples)

    def _try(self, part: str, plan: Plan, load: Callable[[Plan], Any]) -> bool:
        """Load a part and publish the outcome; return whether it succeeded."""
        try:
            with _first_imports():
                load(plan)
        except Exception as error:
            self._publish(_failure(part, error))
            return False
        self._publish(PreparationEnded(part=part))
        return True


@contextmanager
def _first_imports() -> Iterator[None]:
    """Pause Python's garbage collector until torch, transformers and the rest are imported.

    They create objects by the million that stay, and to look for garbage among them takes a fifth of the time until the
    blocks of a backbone can be shown.
    """
    if "workbench.tasks" in sys.modules or not gc.isenabled():  # the last of what is imported
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _failure(part: str, error: Exception) -> PreparationEnded:
    if isinstance(error, WorkbenchError):
        return PreparationEnded(part=part, what=error.what, hint=error.hint)
    formatted = "".join(traceback.format_exception(error))
    return PreparationEnded(part=part, what=f"{type(error).__name__}: {error}", traceback=formatted)

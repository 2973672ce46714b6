"""Loads in the background what the plan of a session names, and loads again when that changes."""

import threading
import traceback
from collections.abc import Callable
from typing import Any

from workbench.errors import WorkbenchError
from workbench.events import Event, PreparationEnded
from workbench.plan.choices import Plan
from workbench.runs.preparation import Preparation


class Loader:
    """One thread that loads data, backbone and examples, as long as there is something to load.

    Args:
        preparation: What loads, and keeps it.
        plan: Tells the plan as it is by now.
        publish: Is told of each part by `PreparationEnded`.
    """

    def __init__(self, preparation: Preparation, plan: Callable[[], Plan], publish: Callable[[Event], None]) -> None:
        self._preparation, self._plan, self._publish = preparation, plan, publish
        self._lock = threading.Lock()
        self.was_asked = False  # whether anybody wants the data and the backbone loaded
        self._is_loading = False
        self._is_stale = False  # the plan changed after the thread looked at it

    def load(self) -> None:
        """Have what the plan names loaded, and return at once."""
        with self._lock:
            self.was_asked = self._is_stale = True
            if not self._is_loading:
                self._is_loading = True
                threading.Thread(target=self._load, name="workbench-loader", daemon=True).start()

    def _load(self) -> None:
        known = self._preparation
        while True:
            with self._lock:
                if not self._is_stale:
                    self._is_loading = False
                    return
                self._is_stale, plan = False, self._plan()
            if self._loaded("data", plan, known.split) and self._loaded("backbone", plan, known.backbone):
                self._loaded("examples", plan, known.examples)

    def _loaded(self, part: str, plan: Plan, load: Callable[[Plan], Any]) -> bool:
        try:
            load(plan)
        except Exception as error:
            self._publish(_failure(part, error))
            return False
        self._publish(PreparationEnded(part=part))
        return True


def _failure(part: str, error: Exception) -> PreparationEnded:
    if isinstance(error, WorkbenchError):
        return PreparationEnded(part=part, what=error.what, hint=error.hint)
    told = "".join(traceback.format_exception(error))
    return PreparationEnded(part=part, what=f"{type(error).__name__}: {error}", traceback=told)

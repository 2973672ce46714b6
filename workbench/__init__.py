"""Fine-tune a pretrained model and watch it happen; every number and button can be proven true.

The public names are loaded on first use, so that `import workbench` costs milliseconds and pulls in neither torch nor
Jupyter.
"""

import importlib
import os
import sys
import types
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

# By default, idle OpenMP threads wait in a busy loop, which slows other processes down. The setting only works if it is
# made before torch is imported.
spins_idly = "torch" in sys.modules and not {"GOMP_SPINCOUNT", "OMP_WAIT_POLICY"} & {*os.environ}
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
# Each step allocates and frees tensors of megabytes; with huge pages (2 MB), there are fewer page faults.
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")

if TYPE_CHECKING:
    from workbench.errors import WorkbenchError as WorkbenchError
    from workbench.glossary import explain as explain
    from workbench.plan.plan import Plan as Plan
    from workbench.practices.table import practices as practices
    from workbench.runs.disk.trash import delete_run as delete_run
    from workbench.runs.disk.trash import restore_run as restore_run
    from workbench.runs.listing import list_runs as list_runs
    from workbench.runs.run import run as run
    from workbench.session.attach import attach as attach
    from workbench.session.handle import Run as Run
    from workbench.session.history import history as history
    from workbench.session.history import plot as plot
    from workbench.session.session import Session as Session

_HOME = {  # public name -> the module that defines it
    "Plan": "workbench.plan.plan",
    "Session": "workbench.session.session",
    "WorkbenchError": "workbench.errors",
    "Run": "workbench.session.handle",
    "attach": "workbench.session.attach",
    "explain": "workbench.glossary",
    "delete_run": "workbench.runs.disk.trash",
    "history": "workbench.session.history",
    "list_runs": "workbench.runs.listing",
    "plot": "workbench.session.history",
    "practices": "workbench.practices.table",
    "restore_run": "workbench.runs.disk.trash",
    "run": "workbench.runs.run",
}
__all__ = sorted(_HOME)


class _Package(types.ModuleType):
    """Makes sure that `wb.practices` is the table and not the package of the same name.

    Importing a submodule sets it as an attribute of its package, which would hide the public object of that name.
    """

    def __setattr__(self, name: str, value: object) -> None:
        if not (name in _HOME and isinstance(value, types.ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'workbench' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME])

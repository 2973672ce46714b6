"""Fine-tune a pretrained model and watch it happen; every number and button can be proven true.

The public names are loaded on first use, so that `import workbench` costs milliseconds and pulls in neither torch nor
Jupyter.
"""

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from workbench.choices import Plan as Plan
    from workbench.errors import WorkbenchError as WorkbenchError
    from workbench.practices import practices as practices
    from workbench.run import run as run
    from workbench.session import Session as Session

_HOME = {  # public name -> module it lives in
    "Plan": "workbench.choices",
    "Session": "workbench.session",
    "WorkbenchError": "workbench.errors",
    "practices": "workbench.practices",
    "run": "workbench.run",
}
__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'workbench' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOME[name]), name)
    globals()[name] = value  # `wb.run` is the function, though importing the module of that name rebinds it
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME])

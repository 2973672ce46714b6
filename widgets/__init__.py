"""The panels: views of a `workbench.Session`. Each panel is one file and can be displayed alone.

Names are imported on first use, so that importing one panel does not import all.
"""

import importlib
from typing import Any

_HOME = {  # public name -> its module
    "BackbonePanel": "widgets.backbone_panel",
    "CurvesPanel": "widgets.curves_panel",
    "DataPanel": "widgets.data_panel",
    "FreezePanel": "widgets.freeze_panel",
    "HyperparameterPanel": "widgets.hyperparameter_panel",
    "KeepPanel": "widgets.keep_panel",
    "PlanPanel": "widgets.plan_panel",
    "ResultsPanel": "widgets.results_panel",
    "NextRunPanel": "widgets.next_run_panel",
    "RunPanel": "widgets.run_panel",
    "RunsPanel": "widgets.runs_panel",
    "StopPanel": "widgets.stop_panel",
    "TryPanel": "widgets.try_panel",
    "Workbench": "widgets.workbench_panel",
}
__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'widgets' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME])

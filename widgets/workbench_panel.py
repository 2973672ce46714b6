"""Workbench: all panels on one screen: the plan of the next run on the left, and what is seen of a run on the right."""

from collections.abc import Sequence
from typing import Any

import ipywidgets as ipw

from widgets.backbone_panel import BackbonePanel
from widgets.curves_panel import CurvesPanel
from widgets.data_panel import DataPanel
from widgets.freeze_panel import FreezePanel
from widgets.hyperparameter_panel import HyperparameterPanel
from widgets.keep_panel import KeepPanel
from widgets.next_run_panel import NextRunPanel
from widgets.panel import Panel
from widgets.plan_panel import PlanPanel
from widgets.results_panel import ResultsPanel
from widgets.run_panel import RunPanel
from widgets.runs_panel import RunsPanel
from widgets.stop_panel import StopPanel
from widgets.tabs import Tabs
from widgets.try_panel import TryPanel

CHOICES = (NextRunPanel, BackbonePanel, DataPanel, FreezePanel, HyperparameterPanel, KeepPanel, StopPanel, PlanPanel)
TABS: dict[str, type[Panel]] = {  # title -> panel; the first one is open at the start
    "Curves": CurvesPanel,
    "Results": ResultsPanel,
    "Try it": TryPanel,
    "Runs": RunsPanel,
}


class Workbench(ipw.Box):  # type: ignore[misc]
    """All panels of a session together.

    Args:
        session: A session or a run of it; or a plan, a table or the name of a source, for a new session.
        objects: Arguments of a new `workbench.Session`: plan, table, model, preprocessor, metrics, runs.

    Attributes:
        session: The session that it shows and changes.
        panels: Its panels by class name.
        tabs: The panels on the right, one of which is displayed: `tabs.choose("Curves")`.

    Raises:
        PlanError: Both a session and arguments of a new one are given.
    """

    def __init__(self, session: Any = None, **objects: Any) -> None:
        from workbench.session.session import session_of

        self.panels: dict[str, Panel] = {}  # set first, because `close` is called even if this constructor fails
        session = self.session = session_of(session, **objects)
        run, choices = RunPanel(session), [kind(session) for kind in CHOICES]
        pages = {title: kind(session) for title, kind in TABS.items()}
        self.panels = {type(panel).__name__: panel for panel in (run, *choices, *pages.values())}
        self.tabs = Tabs(pages)
        super().__init__([_box([_box(choices, "fw-choices"), run, self.tabs], "fw-columns-box")])
        self.add_class("fw-workbench")

    def close(self) -> None:
        """Close all panels for good."""
        for panel in self.panels.values():
            panel.close()
        super().close()


def _box(parts: Sequence[ipw.Widget], name: str) -> ipw.Box:
    box = ipw.Box(parts)
    box.add_class(name)
    return box

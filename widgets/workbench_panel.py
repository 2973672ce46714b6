"""Workbench: all panels on one screen, with choices on the left and curves on the right."""

from typing import TYPE_CHECKING, Any

import ipywidgets as ipw

from widgets.backbone_panel import BackbonePanel
from widgets.curves_panel import CurvesPanel
from widgets.data_panel import DataPanel
from widgets.freeze_panel import FreezePanel
from widgets.hyperparameter_panel import HyperparameterPanel
from widgets.keep_panel import KeepPanel
from widgets.panel import Panel
from widgets.plan_panel import PlanPanel
from widgets.run_panel import RunPanel
from widgets.stop_panel import StopPanel

if TYPE_CHECKING:
    pass


CHOICES = (BackbonePanel, DataPanel, FreezePanel, HyperparameterPanel, KeepPanel, StopPanel, PlanPanel)


class Workbench(ipw.Box):  # type: ignore[misc]
    """All panels of a session together.

    Args:
        session: A session or a run of it; or a plan, a table or the name of a source, for a new session.
        objects: Arguments of a new `workbench.Session`: plan, table, model, preprocessor, metrics, runs.

    Attributes:
        session: The session that it shows and changes.
        panels: Its panels by class name.

    Raises:
        PlanError: Both a session and arguments of a new one are given.
    """

    def __init__(self, session: Any = None, **objects: Any) -> None:
        from workbench.session.session import session_of

        self.panels: dict[str, Panel] = {}  # set first, because `close` is called even if this constructor fails
        session = self.session = session_of(session, **objects)
        run, curves = RunPanel(session), CurvesPanel(session)
        choices = [kind(session) for kind in CHOICES]
        self.panels = {type(panel).__name__: panel for panel in (run, *choices, curves)}
        columns = ipw.Box([_box(choices, "fw-choices"), curves])
        columns.add_class("fw-columns-box")
        super().__init__([run, columns])
        self.add_class("fw-workbench")

    def close(self) -> None:
        """Close all panels for good."""
        for panel in self.panels.values():
            panel.close()
        super().close()


def _box(panels: list[Panel], name: str) -> ipw.Box:
    box = ipw.Box(panels)
    box.add_class(name)
    return box

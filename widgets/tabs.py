"""Tabs: panels in one place, of which one is displayed. The others are not redrawn until they are chosen.

The chosen tab is a synced trait, so it is the same in all views and after a reload. A panel that wants to be looked at
says why in its trait `attention`; its tab then has a dot until it is chosen.
"""

from collections.abc import Mapping
from typing import Any

import anywidget
import ipywidgets as ipw
import traitlets

from widgets import bridge
from widgets.panel import Panel, page, style


class TabBar(anywidget.AnyWidget):  # type: ignore[misc]
    """The row of tabs. In the page, it shows one of its siblings and hides the others.

    Attributes:
        titles: The titles, in order.
        chosen: The title of the tab that is displayed.
        dots: Title of each tab with a dot -> why it has one.
    """

    _esm = page("tabs.js")
    _css = style("tabs.css")
    titles = traitlets.List().tag(sync=True)
    chosen = traitlets.Unicode().tag(sync=True)
    dots = traitlets.Dict().tag(sync=True)


class Tabs(ipw.Box):  # type: ignore[misc]
    """Panels behind tabs; the first one is displayed at the start, and its height is that of all.

    Args:
        panels: Title -> panel.
    """

    def __init__(self, panels: Mapping[str, Panel]) -> None:
        self.panels = dict(panels)
        self.bar = TabBar(titles=list(panels), chosen=next(iter(panels)))
        super().__init__([self.bar, *panels.values()])
        self.add_class("fw-tabs")
        for title, panel in panels.items():
            panel.add_class("fw-tab-page")
            panel.observe(lambda change, title=title: self._mark(title, change["new"]), "attention")
        self.bar.observe(lambda change: self.choose(change["new"]), "chosen")
        self.choose(self.bar.chosen)

    def choose(self, title: str) -> None:
        """Display this tab; any other name is ignored."""
        if title not in self.panels:
            return
        self.bar.chosen = title
        for name, panel in self.panels.items():
            panel.is_hidden = name != title
        self.panels[title].attention = ""
        bridge.wake(self.panels[title])

    def _mark(self, title: str, why: str) -> None:
        dots: dict[str, Any] = {name: words for name, words in self.bar.dots.items() if name != title}
        self.bar.dots = {**dots, title: why} if why and title != self.bar.chosen else dots

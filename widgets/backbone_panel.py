"""BackbonePanel: the choice of the pretrained model, and facts about it."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from widgets import wording
from widgets.panel import Panel, page, prepare, problem
from workbench.events import Event, PlanChanged, PreparationEnded

if TYPE_CHECKING:
    from workbench.models import Backbone
    from workbench.models.catalog import Entry

ORIGINS = {"pack": "offline pack", "hub": "needs a network once"}


class BackbonePanel(Panel):
    """A field for the backbone: it lists the catalog, packs first, and accepts any hub id or local folder."""

    _esm = page("fields.js", "backbone.js")
    kinds = frozenset({PlanChanged, PreparationEnded})

    def __init__(self, session: Any = None, **objects: Any) -> None:
        self._is_waiting = False  # True if the data can't be read: the head needs their classes
        super().__init__(session, **objects)
        prepare(self.session)

    def actions(self) -> Mapping[str, Callable[..., None]]:
        """Return the action of the field."""
        return {"choose": self._choose}

    def note(self, event: Event) -> None:
        """Show an error of loading; clear it if the backbone was loaded or another one is chosen."""
        match event:
            case PreparationEnded(part="data", what=what):
                self._is_waiting = bool(what)
            case PreparationEnded(part="backbone" | "examples", what=what, hint=hint) if what:
                self._problem = problem(what, hint=hint)
            case PreparationEnded(part="backbone"):
                self.calm()
            case PlanChanged(fields=fields) if {"backbone", "source"} & set(fields):
                self.calm()
                self._is_waiting = False

    def picture(self) -> dict[str, Any]:
        """Return the catalog, the choice, and the facts about it."""
        from workbench.models import catalog

        name, backbone = self.session.plan.baseline.backbone, self.session.backbone
        entry = catalog.find(name)
        is_loading = backbone is None and self._problem is None
        own = _own_facts(backbone) if backbone else "hub id or local folder"
        entries = sorted(catalog.TABLE, key=lambda row: row.origin != "pack")  # packs first, else as in the table
        return {
            "value": name,
            "options": [{"value": row.name, "title": row.title, "facts": self._facts(row)} for row in entries],
            "facts": _catalog_facts(entry, backbone) if entry else own,
            "doing": ("waits for the data" if self._is_waiting else "loading …") if is_loading else "",
            "notes": list(backbone.notes) if backbone else [],
        }

    def _facts(self, entry: "Entry") -> str:
        """Return facts about a backbone, and whether it does not suit the rows."""
        from workbench.models import catalog

        task = self.session.split.task if self.session.split is not None else None
        misfit = f"not for {wording.task(task)}" if task and entry.kind not in catalog.SUITS[task] else ""
        return wording.joined(_catalog_facts(entry), misfit)

    def _choose(self, value: str) -> None:
        self.session.change(backbone=value)


def _catalog_facts(entry: "Entry", backbone: "Backbone | None" = None) -> str:
    """Return facts about a backbone; once it is loaded, with its new head, its own number of parameters."""
    size = f"{wording.count(_size(backbone) if backbone else entry.parameters)} parameters"
    return " · ".join((entry.family, size, f"{entry.size_mb:,.0f} MB", entry.licence, ORIGINS[entry.origin]))


def _size(backbone: "Backbone") -> int:
    return sum(parameter.numel() for parameter in backbone.model.parameters())


def _own_facts(backbone: "Backbone") -> str:
    family = backbone.model.config.model_type
    size = f"{wording.count(_size(backbone))} parameters"
    return " · ".join((family, size, wording.plural(len(backbone.blocks), "block")))

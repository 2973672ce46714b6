"""DataPanel: the source of the rows, the columns that are used, the number of rows per class, and example rows.

The page receives the content of rows as plain text, and images as small PNGs that are made here.
"""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from widgets import cells, wording
from widgets.panel import Panel, page, prepare, problem, style
from widgets.settings import tip
from workbench.events import Event, PlanChanged, PreparationEnded

if TYPE_CHECKING:
    from workbench.data import Source, Split

PAGE_ROWS = 5
SHOWN_CLASSES = 8
SPLITS = ("train", "validation", "test")
ROLES = {"text": "text_column", "label": "label_column", "group": "group_column"}  # role -> field of the plan


class DataPanel(Panel):
    """The training, validation and test rows."""

    _esm = page("fields.js", "data.js")
    _css = style("data.css")
    kinds = frozenset({PlanChanged, PreparationEnded})

    def __init__(self, session: Any = None, **objects: Any) -> None:
        self._page = ("train", 0)  # split, first row shown
        self._summary: tuple[Any, dict[str, Any]] | None = None  # (split, its summary)
        super().__init__(session, **objects)
        prepare(self.session)

    def actions(self) -> Mapping[str, Callable[..., None]]:
        """Return the actions of the fields and the table."""
        return {"choose": self._choose, "column": self._choose_column, "page": self._turn_to}

    def note(self, event: Event) -> None:
        """Show an error of loading; clear it if the data were loaded or the plan changes."""
        match event:
            case PreparationEnded(part="data", what=what, hint=hint) if what:
                self._problem = problem(what, hint=hint)
            case PreparationEnded(part="backbone", what=what) if what and self._lacks_label():
                where = wording.base_name(self.session.plan.data.source)
                said = f"{where} has no label column, so it is used for language modelling"
                self._problem = problem(said, hint="choose the label column here, or a backbone for language modelling")
            case PreparationEnded(part="data"):
                self.calm()
            case PlanChanged():
                self.calm()

    def picture(self) -> dict[str, Any]:
        """Return the source, the columns, the classes, and a page of rows."""
        from workbench import data

        choice, split = self.session.plan.data, self.session.split
        picture: dict[str, Any] = {
            "value": choice.source,
            "options": [{"value": row.name, "title": row.title, "facts": _facts(row)} for row in data.SOURCES],
            "is_loading": split is None and self._problem is None,
            "split": None,
        }
        if split is not None:
            picture["split"] = {**self._summary_of(split), "page": self._rows(split)}
        return picture

    def _lacks_label(self) -> bool:
        """Return whether the rows are used for language modelling only because no label column was found."""
        split, plan = self.session.split, self.session.plan
        return (
            split is not None
            and "label" not in split.columns
            and plan.data.task is None
            and not _is_named(plan.data.source)
        )

    def _summary_of(self, split: "Split") -> dict[str, Any]:
        if self._summary is None or self._summary[0] is not split:
            self._summary, self._page = (split, _summary(split)), ("train", 0)
        return self._summary[1]

    def _rows(self, split: "Split") -> dict[str, Any]:
        part, first = self._page
        rows = split.part(part)
        shown = range(first, min(first + PAGE_ROWS, len(rows)))
        return {
            "part": part,
            "first": first,
            "count": len(rows),
            "size": PAGE_ROWS,
            "rows": [_row(rows[index], split.labels) for index in shown],
        }

    def _choose(self, value: str) -> None:
        self.session.change(source=value, text_column=None, label_column=None, group_column=None, task=None)

    def _choose_column(self, field: str, value: str, *, place: int = 0) -> None:
        if field == ROLES["text"]:
            self.session.change(text_column=self._texts(value, place))
        elif field in ROLES.values():
            self.session.change(**{field: value or None})

    def _texts(self, value: str, place: int) -> tuple[str, ...] | None:
        """Return the text columns after a choice; a place after the first is that of a column that is joined."""
        texts = [*_texts_of(self.session.split)] if self.session.split is not None else []
        texts[place : place + 1] = [value]
        return tuple(dict.fromkeys(filter(None, texts))) or None

    def _turn_to(self, part: str, first: int) -> None:
        split = self.session.split
        if split is not None and part in SPLITS:
            last = max(0, len(split.part(part)) - 1)
            self._page = (part, max(0, min(int(first), last)) // PAGE_ROWS * PAGE_ROWS)


def _facts(source: "Source") -> str:
    content = wording.plural(source.classes, "class") if source.classes else wording.task(source.task)
    return wording.joined(source.name, wording.plural(source.rows, "row"), content)


def _summary(split: "Split") -> dict[str, Any]:
    parts = {name: len(split.part(name)) for name in SPLITS}
    facts = [wording.plural(split.rows, "row")]
    if split.labels:
        facts.append(wording.plural(len(split.labels), "class"))
    facts += [f"{name} {size:,}" for name, size in parts.items()]
    return {
        "facts": " · ".join(facts),
        "task": wording.task(split.task),
        "task_guess": split.guessed.get("task", ""),
        "columns": _columns(split),
        "classes": _classes(split),
        "notes": [*split.notes, *_origin(split.source)],
    }


def _origin(name: str) -> list[str]:
    """Return where a named source comes from, and its licence."""
    from workbench import data

    return [f"source: {row.citation}; licence: {row.licence}" for row in data.SOURCES if row.name == name]


def _columns(split: "Split") -> list[dict[str, Any]]:
    """Return each role with its column ("" for none), why it was guessed, and the columns that could be chosen.

    The text has an entry for each column that is joined to it, and one more to join another column of the user's rows.
    """
    if not split.available:
        return []
    texts = _texts_of(split)
    places = [("text", column) for column in texts]
    if texts and not _is_named(split.source) and len({*split.available} - {*texts, split.columns.get("label")}):
        places.append(("text", ""))
    places += [(role, split.columns.get(role, "")) for role in ("label", "group")]
    return [_column(split, role, value, place) for place, (role, value) in enumerate(places)]


def _column(split: "Split", role: str, value: str, place: int) -> dict[str, Any]:
    is_joined = role == "text" and place > 0
    others = {*_texts_of(split)} - {value} if role == "text" else set()
    if is_joined:
        others.add(split.columns.get("label", ""))  # the text must not give the label away
    return {
        "role": role if not is_joined else "joined with" if place == 1 else "and",
        "field": ROLES[role],
        "place": place if is_joined else 0,
        "tip": tip(ROLES[role]),
        "guess": split.guessed.get(role, "") if not is_joined else "",
        "value": value,
        "options": [column for column in split.available if column not in others],
    }


def _texts_of(split: "Split") -> tuple[str, ...]:
    return (split.columns["text"], *split.joined) if "text" in split.columns else ()


def _is_named(source: str) -> bool:
    from workbench import data

    return any(row.name == source for row in data.SOURCES)


def _classes(split: "Split") -> list[dict[str, Any]]:
    """Return the classes with their number of rows in all splits, most frequent first; rare ones are added up."""
    if not split.labels:
        return []
    parts = split.counts().values()
    sizes = {label: sum(part[label] for part in parts) for label in split.labels}
    order = sorted(sizes, key=lambda name: -sizes[name])
    if len(order) > SHOWN_CLASSES:
        rest = order[SHOWN_CLASSES - 1 :]
        order = order[: SHOWN_CLASSES - 1]
        sizes[words := f"{len(rest)} others"] = sum(sizes[name] for name in rest)
        order.append(words)
    return [
        {"name": name, "rows": sizes[name], "percent": round(100 * sizes[name] / max(1, split.rows), 1)}
        for name in order
    ]


def _row(row: Mapping[str, Any], labels: tuple[str, ...]) -> dict[str, Any]:
    return {
        "number": row.get("row"),
        "text": cells.text(str(row.get("text", ""))),
        "image": cells.thumbnail(row["image"]) if "image" in row else None,
        "label": labels[row["label"]] if labels and "label" in row else None,
    }

"""Guesses which column is the text and which is the label: from the names first, else from the values.

Every guess is kept with its reason, so that the panel can mark it. A group column is never guessed, because it changes
what the split means. Where a sample is enough, only the first 1,000 rows are read.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from workbench.data.table import Table
from workbench.errors import DataError, nearest
from workbench.plan import choices

# fmt: off
_TEXTS = (
    "text", "sentence", "review", "content", "prompt", "comment", "tweet", "message", "body", "document", "utterance",
    "question", "query", "passage", "snippet", "description", "headline", "title", "abstract", "story", "dialogue",
    "input",
)
_LABELS = (
    "label", "labels", "target", "class", "category", "sentiment", "stars", "rating", "star_rating", "polarity",
    "emotion", "intent", "topic", "genre", "score", "gold", "y", "tag", "type", "spam", "toxic",
)
# fmt: on
_NO_LABEL = "set label_column, add a column named label, or choose the task language-modeling"
_SAMPLE = 1000  # rows from which the kind of a column is guessed
_FEW_CLASSES = 50
_LONGEST_CLASS_NAME = 40  # characters, in a label column that is guessed from its values


@dataclass(frozen=True)
class Guess:
    """The task, and the column of each role.

    Attributes:
        task: The task of the rows.
        columns: Role (text, image, label, group) -> its column.
        joined: Further columns, whose texts are joined to that of the text column.
        guessed: Each role, or "task", that was guessed -> why.
    """

    task: choices.TaskName
    columns: Mapping[str, str]
    joined: tuple[str, ...]
    guessed: Mapping[str, str]


def guess(table: Table, choice: choices.Data) -> Guess:
    """Return the task and the columns: the user's choice, else what the source says, else a guess.

    Raises:
        DataError: A chosen column does not exist (the hint gives the nearest name), there is no text, or there is no
            label and the task needs one.
    """
    wanted = choice.task or table.task
    texts = (choice.text_column,) if isinstance(choice.text_column, str) else choice.text_column or ()
    known = {**table.roles, **_chosen(table, choice, texts)}
    image = _image(table, known, wanted, prefer_text=choice.text_column is not None)
    text = None if image else known.get("text") or _text(table, known)
    if image is None and text is None:
        raise DataError(
            f"{table.name} has no text column; {_listed(table)}", hint="set text_column to the column to train on"
        )
    label = None
    if wanted != "language-modeling":
        label = known.get("label") or _label(table, {text, image, *texts, *known.values()})
    task = wanted or _task(image, label)
    if task != "language-modeling" and label is None:
        raise DataError(f"{table.name} has no label column, which {task} needs; {_listed(table)}", hint=_NO_LABEL)
    roles = {"image": image, "text": text, "label": label, "group": known.get("group")}
    columns = {role: column for role, column in roles.items() if column is not None}
    joined = () if image else texts[1:]
    guessed = {role: _reason(role, column) for role, column in columns.items() if role not in known}
    if not wanted:
        guessed["task"] = _task_reason(image, label)
    return Guess(task, columns, joined, guessed)


def _chosen(table: Table, choice: choices.Data, texts: tuple[str, ...]) -> dict[str, str]:
    chosen = [*(("text", column) for column in texts), ("label", choice.label_column), ("group", choice.group_column)]
    for role, column in chosen:
        if column is not None and column not in table.columns:
            what = f"{role}_column is {column!r}, but {table.name} has no such column; {_listed(table)}"
            raise DataError(what, hint=nearest(column, table.columns))
    return {role: column for role, column in reversed(chosen) if column is not None}  # the first text wins


def _task(image: str | None, label: str | None) -> choices.TaskName:
    if image is not None:
        return "image-classification"
    return "language-modeling" if label is None else "text-classification"


def _task_reason(image: str | None, label: str | None) -> str:
    if image is not None:
        return "the rows are images"
    return "there is no label column" if label is None else "there are a text and a label column"


def _image(table: Table, known: Mapping[str, str], task: choices.TaskName | None, *, prefer_text: bool) -> str | None:
    """Return the image column, or None if the task is about texts."""
    if task not in (None, "image-classification") or (task is None and prefer_text):
        return None
    columns = [known["image"]] if "image" in known else list(table.columns)
    found = next((column for column in columns if _is_image(_sample(table, column))), None)
    if found is None and task is not None:
        raise DataError(
            f"{table.name} has no image column; {_listed(table)}", hint="choose a folder with one subfolder per class"
        )
    return found


def _text(table: Table, known: Mapping[str, str]) -> str | None:
    """Return the column whose name says that it is the text, else the one with the longest strings."""
    free = [column for column in table.columns if column not in known.values() and not _is_about_label(column)]
    samples = {column: _sample(table, column) for column in free}
    strings = {name: values for name, values in samples.items() if values and all(isinstance(v, str) for v in values)}
    named = _named(strings, _TEXTS)
    if named is not None:
        return named
    plain = {column: values for column, values in strings.items() if _is_words(values)}
    return max(plain, key=lambda column: sum(map(len, plain[column])) / len(plain[column]), default=None)


def _label(table: Table, taken: Iterable[str | None]) -> str | None:
    """Return the column whose name says that it is the label, else the one with the fewest distinct values."""
    rest = [column for column in table.columns if column not in set(taken)]
    distinct = {column: _distinct(table.values(column)) for column in rest}
    rows = len(table)
    named = _named([column for column in rest if 1 <= len(distinct[column]) <= max(2, rows / 2)], _LABELS)
    if named is not None:
        return named
    few = [column for column in rest if 2 <= len(distinct[column]) <= min(_FEW_CLASSES, max(2, rows / 5))]
    plain = [column for column in few if all(_is_class_name(value) for value in distinct[column])]
    return min(reversed(plain), key=lambda column: len(distinct[column]), default=None)


def _named(columns: Iterable[str], names: Sequence[str]) -> str | None:
    """Return the column that is called like one of `names`, or ends in one; else one that starts with one.

    Earlier names win over later ones.
    """
    normal = {_normal(column): column for column in columns}
    for name in names:
        ending = (column for key, column in normal.items() if key.endswith(f"_{name}"))
        found = normal.get(name) or next(ending, None)
        if found is not None:
            return found
    return next((column for name in names for key, column in normal.items() if key.startswith(f"{name}_")), None)


def _is_about_label(column: str) -> bool:
    """Return whether the name is about the label, as in "Stars" and "label_text", so that it can't be the text."""
    name = _normal(column)
    return name in _LABELS or name.startswith(("label_", "target_", "class_", "category_"))


def _normal(column: str) -> str:
    """Return the name in snake case: "Review Text" and "reviewText" become "review_text"."""
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", column)
    return re.sub(r"[^a-z0-9]+", "_", spaced.lower()).strip("_")


def _sample(table: Table, column: str) -> list[Any]:
    first = table.first(column, _SAMPLE)
    return [value for value in first if value is not None and not (isinstance(value, str) and value == "")]


def _distinct(values: list[Any]) -> set[Any]:
    """Return the distinct values of a column; an empty set if they can't be classes (lists, objects, images)."""
    try:
        return {value for value in values if value is not None and value == value and value != ""}
    except (TypeError, ValueError):
        return set()


def _is_image(sample: list[Any]) -> bool:
    def one(value: Any) -> bool:
        return hasattr(value, "getbands") or (isinstance(value, dict) and value.keys() == {"bytes", "path"})

    return bool(sample) and all(one(value) for value in sample)


def _is_words(sample: list[str]) -> bool:
    """Return whether most values contain letters, unlike numbers and dates."""
    return sum(any(letter.isalpha() for letter in value) for value in sample) > len(sample) / 2


def _is_class_name(value: Any) -> bool:
    if isinstance(value, str):
        return len(value) <= _LONGEST_CLASS_NAME and not re.fullmatch(r"[-+]?\d*\.\d*[1-9]\d*", value)
    return isinstance(value, int) or (isinstance(value, float) and value.is_integer())


def _listed(table: Table) -> str:
    columns = list(table.columns)
    return f"its columns are {', '.join(columns[:12])}{' …' if len(columns) > 12 else ''}"


def _reason(role: str, column: str) -> str:
    """Return why a column was taken for a role, as it was guessed above."""
    if _named([column], {"text": _TEXTS, "label": _LABELS}.get(role, ())):
        return "its name says so"
    found = {"text": "its texts are the longest", "label": "it has the fewest different values"}
    return found.get(role, "its values are images")

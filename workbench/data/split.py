"""The Split: rows ready to be encoded, as three in-memory `datasets.Dataset`s, and what is known about them."""

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from workbench.data.rows import Rows
from workbench.data.splitting import NAMES, Numbers
from workbench.errors import DataError, nearest
from workbench.plan import choices

if TYPE_CHECKING:
    import datasets


@dataclass(frozen=True, eq=False)
class Split:
    """Rows in three splits, each in a fixed shuffled order, so that the first n rows of a split are a random sample.

    Attributes:
        train: Columns "text" (str) or "image" (PIL), "label" (class id, not for language modeling), "group" (str, if
            a group column was chosen), "row" (0-based number of the row in the source).
        validation: The same columns.
        test: The same columns; no rows if the plan wants no test split.
        task: The task of the rows.
        labels: Class names, sorted by class id; () for language modeling.
        columns: Role (text, image, label, group) -> the column of the source.
        joined: Further columns of the source, whose texts are joined to that of the text column.
        source: The `source` of the plan, or "table" for an object in memory.
        guessed: Each role, or "task", that was guessed -> why.
        notes: What the user should know: rows left out, repeated rows.
        fingerprint: sha256 of the contents of the rows and of their splits.
        available: All columns of the source, so that the user can choose others.
    """

    train: "datasets.Dataset"
    validation: "datasets.Dataset"
    test: "datasets.Dataset"
    task: choices.TaskName
    labels: tuple[str, ...]
    columns: Mapping[str, str]
    source: str
    notes: tuple[str, ...]
    fingerprint: str
    available: tuple[str, ...] = ()
    joined: tuple[str, ...] = ()
    guessed: Mapping[str, str] = field(default_factory=dict)

    @property
    def inputs(self) -> tuple[str, ...]:
        """The columns of the source that the texts or the images are read from."""
        return (self.columns["image"],) if "image" in self.columns else (self.columns["text"], *self.joined)

    @property
    def rows(self) -> int:
        """The number of rows in all three splits together."""
        return sum(len(self.part(name)) for name in NAMES)

    def part(self, name: str) -> "datasets.Dataset":
        """Return the split with this name.

        Raises:
            DataError: The name is not train, validation or test.
        """
        if name not in NAMES:
            raise DataError(
                f"there is no split {name!r}; expected train, validation or test", hint=nearest(name, NAMES)
            )
        part: datasets.Dataset = getattr(self, name)
        return part

    def counts(self) -> dict[str, dict[str, int]]:
        """Return split -> class name -> number of rows; for language modeling, split -> {"rows": number}."""
        return {name: self._count(self.part(name)) for name in NAMES}

    def _count(self, part: "datasets.Dataset") -> dict[str, int]:
        if not self.labels:
            return {"rows": len(part)}
        found = Counter(part.data.column("label").to_pylist())
        return {label: found[i] for i, label in enumerate(self.labels)}


def arrange(rows: Rows, splits: Numbers, keys: Sequence[bytes], task: choices.TaskName) -> tuple[dict[str, Any], str]:
    """Return (split name -> its Dataset, fingerprint of all three).

    Args:
        rows: The rows.
        splits: The split of each row, as an index into `splitting.NAMES`.  # (row,)
        keys: The sort key of each row.
        task: The task of the rows.
    """
    order = sorted(range(len(rows)), key=lambda row: (keys[row], row))
    members = {name: [row for row in order if splits[row] == i] for i, name in enumerate(NAMES)}
    fingerprint = _fingerprint(rows, members, task)
    return {name: _dataset(rows, members[name], task, f"{fingerprint[:32]}-{name}") for name in NAMES}, fingerprint


def _dataset(rows: Rows, members: list[int], task: choices.TaskName, fingerprint: str) -> "datasets.Dataset":
    """Return these rows in memory; with a given fingerprint, `datasets` need not hash them again."""
    import datasets
    import pyarrow as pa

    image = task == "image-classification"
    features: dict[str, Any] = {"image": datasets.Image()} if image else {"text": datasets.Value("string")}
    values: dict[str, list[Any]] = {"image" if image else "text": [rows.contents[i] for i in members]}
    if rows.labels:
        features["label"] = datasets.ClassLabel(names=list(rows.labels))
        values["label"] = rows.classes[members].tolist()
    if rows.groups is not None:
        features["group"] = datasets.Value("string")
        values["group"] = [rows.groups[i] for i in members]
    features["row"] = datasets.Value("int64")
    values["row"] = rows.numbers[members].tolist()
    kinds = datasets.Features(features)
    table = pa.table(values, schema=kinds.arrow_schema)
    return datasets.Dataset(table, info=datasets.DatasetInfo(features=kinds), fingerprint=fingerprint)


def _fingerprint(rows: Rows, members: Mapping[str, list[int]], task: choices.TaskName) -> str:
    """Return the sha256 of the task, the class names, and the content, class and group of every row of every split.

    Each field has a fixed length or is hashed by itself, so that two different splits never hash the same bytes.
    """
    hasher = hashlib.sha256(repr((task, rows.labels)).encode())
    classes = rows.classes.tolist()
    for name, part in members.items():
        hasher.update(f"{name}:{len(part)}:".encode())
        for i in part:
            group = hashlib.sha256(rows.groups[i].encode()).digest() if rows.groups is not None else b""
            hasher.update(rows.digests[i] + b"%08d" % classes[i] + group)
    return hasher.hexdigest()

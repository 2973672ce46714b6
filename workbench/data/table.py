"""A Table: named columns of plain values, and a description of where each row comes from.

Every reader returns a Table, so that guessing, cleaning and splitting need not know about file formats. Values are not
cleaned here.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from workbench.errors import DataError
from workbench.plan import choices

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True, eq=False)
class Table:
    """Rows as the reader found them.

    Attributes:
        name: How messages call the rows: the name of a file, "the table" …
        columns: Column name -> its values: a list, or an Arrow column that is converted when it is read.
        place: Describes a 0-based row, for example as "line 7" or "cats/3.png".
        given: The split of each row, if the source came with splits.
        class_names: Column of integers -> the names of its classes, if the source knows them.
        roles: Role (text, image, label, group) -> its column, if the source knows it.
        task: The task of the rows, if the source knows it.
        notes: What the reader wants the user to know.
    """

    name: str
    columns: Mapping[str, Any]
    place: Callable[[int], str] = "row {}".format
    given: Sequence[str] | None = None
    class_names: Mapping[str, Sequence[str]] = field(default_factory=dict)
    roles: Mapping[str, str] = field(default_factory=dict)
    task: choices.TaskName | None = None
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(next(iter(self.columns.values()), ()))

    def values(self, column: str) -> list[Any]:
        """Return the values of one column as Python objects.

        Raises:
            DataError: Arrow values can't be converted to Python objects, for example text that is not UTF-8.
        """
        return self._plain(column, self.columns[column])

    def first(self, column: str, count: int) -> list[Any]:
        """Return the first `count` values of one column. Raises DataError as `values` does."""
        return self._plain(column, self.columns[column][:count])

    def _plain(self, column: str, values: Any) -> list[Any]:
        try:
            return values if isinstance(values, list) else list(values.to_pylist())
        except (ValueError, TypeError, LookupError, OverflowError, NotImplementedError) as error:
            raise DataError(f"{self.name}: the column {column!r} can't be read: {error}") from None

    def places(self, rows: Sequence[int]) -> str:
        """Describe the first five of these rows, as in "line 5, line 9, line 13 …"."""
        return ", ".join(self.place(row) for row in rows[:5]) + (" …" if len(rows) > 5 else "")


def from_arrow(name: str, table: "pa.Table") -> Table:
    """Return an Arrow table as a Table; class names that `datasets` stored in its metadata are kept.

    Raises:
        DataError: Two columns have the same name.
    """
    unique(name, table.column_names)
    columns = dict(zip(table.column_names, table.columns, strict=True))
    return Table(name, columns, class_names=_class_names(table.schema.metadata or {}))


def unique(name: str, columns: Iterable[str]) -> None:
    """Check that no two columns have the same name.

    Raises:
        DataError: Two columns have the same name.
    """
    twice = [column for column, times in Counter(columns).items() if times > 1]
    if twice:
        raise DataError(f"{name} has two columns named {twice[0]!r}", hint="rename one of them")


def _class_names(metadata: Mapping[bytes, bytes]) -> dict[str, list[str]]:
    """Return the class names of the ClassLabel columns; an empty mapping if the metadata has another form."""
    try:
        features = json.loads(metadata.get(b"huggingface", b"{}"))["info"]["features"]
        kinds = {column: kind for column, kind in features.items() if kind.get("_type") == "ClassLabel"}
        return {column: [str(label) for label in kind["names"]] for column, kind in kinds.items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return {}

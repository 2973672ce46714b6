"""`load` turns a plan's choice of data into a Split."""

from collections import Counter
from collections.abc import Iterable
from typing import Any

import numpy as np

from workbench.data import reading, splitting
from workbench.data.guessing import guess
from workbench.data.rows import Rows, clean
from workbench.data.split import Split, arrange
from workbench.data.splitting import NAMES, Numbers
from workbench.data.table import Table
from workbench.errors import DataError, counted
from workbench.plan import choices
from workbench.untrusted import shown, text_fault

_ROWS_PER_SPLIT = 2  # with fewer rows on average, no metric means anything
_LONGEST_MESSAGE = 2_000  # characters; an error or a note may list the names of many columns


def load(choice: choices.Data, *, table: Any = None) -> Split:
    """Read, clean and split rows.

    Args:
        choice: What to read, which columns to use, and how to split.
        table: A pandas frame, a `datasets.Dataset` or a `datasets.DatasetDict` to use instead of `choice.source`; a
            DatasetDict keeps its own splits.

    Raises:
        DataError: The rows can't be found, read, understood or split; the message gives the file, the row and the
            reason.
        PackError: The pack of a named source can't be fetched.
    """
    try:
        return _load(choice, table)
    except DataError as error:  # the message may quote names that are not valid UTF-8
        raise DataError(_readable(error.what), hint=_readable(error.hint)) from error.__cause__


def _readable(message: str) -> str:
    r"""Return a message that can be written as UTF-8; bytes of a file name that are not UTF-8 are shown as \udcff."""
    return message[:_LONGEST_MESSAGE].encode(errors="backslashreplace").decode()


def _load(choice: choices.Data, table: Any) -> Split:
    found = reading.read_source(choice.source) if table is None else reading.read_object(table)
    _check_names(found)
    if not len(found):
        raise DataError(f"{found.name} has no rows", hint="choose a source that has rows")
    roles = guess(found, choice)
    rows = clean(found, roles, choice)
    keys = splitting.shuffled_keys(rows.digests, choice.split_seed)
    splits, notes = _split(rows, keys, choice)
    parts, fingerprint = arrange(rows, splits, keys, roles.task)
    return Split(
        **parts,
        task=roles.task,
        labels=rows.labels,
        columns=roles.columns,
        joined=roles.joined,
        guessed=roles.guessed,
        source=choice.source if table is None else "table",
        notes=tuple(_readable(note) for note in (*found.notes, *rows.notes, *notes)),
        fingerprint=fingerprint,
        available=tuple(found.columns),
    )


def _check_names(table: Table) -> None:
    """Check that a plan can contain every column name. Raises DataError."""
    for number, column in enumerate(table.columns, start=1):
        if fault := text_fault(column):
            what = f"{table.name}: the name of column {number}, {shown(column)}, {fault}"
            raise DataError(what, hint="give it another name")


def _split(rows: Rows, keys: list[bytes], choice: choices.Data) -> tuple[Numbers, tuple[str, ...]]:
    """Return the split of each row and notes about it; splits that came with the source are kept."""
    given = rows.given or ["train"] * len(rows)
    splits = np.array([NAMES.index(name) for name in given], dtype=np.int64)
    validation = 0.0 if "validation" in given else choice.validation_fraction
    test = 0.0 if "test" in given else choice.test_fraction
    notes: tuple[str, ...] = ()
    train = np.flatnonzero(splits == 0)
    if validation or test:
        _enough(len(train), wanted=1 + bool(validation) + bool(test))
        units, notes = _units(rows, train)
        parts = [keys[row] for row in train]
        splits[train] = splitting.assign(rows.classes[train], units, parts, validation=validation, test=test)
    if not (splits == 0).any():
        raise DataError("no row is left to train on", hint="add rows with a text and a label to the train split")
    kept = [name for name in NAMES[1:] if name in given]
    own = (f"kept as given: {', '.join(kept)}",) if kept else ()
    return splits, (*own, *notes, *_overlap_notes(rows, splits), *_class_notes(rows, splits))


def _enough(rows: int, *, wanted: int) -> None:
    if rows < wanted * _ROWS_PER_SPLIT:
        verb = "is" if rows == 1 else "are"
        what = f"{counted(rows, 'row')} {verb} too few; at least {wanted * _ROWS_PER_SPLIT} are needed"
        raise DataError(what, hint="add rows; for language modeling, cut the texts into more rows")


def _units(rows: Rows, members: Numbers) -> tuple[Numbers, tuple[str, ...]]:
    """Return the unit of each of these rows, and notes. Rows of the same group or the same content are one unit.

    Contents that occur in many groups ("ok", "thanks") could join nearly all rows into one unit; then only the groups
    count.
    """
    digests = [rows.digests[row] for row in members]
    groups = None if rows.groups is None else [rows.groups[row] for row in members]
    repeats = len(digests) - len(set(digests))
    units = splitting.together(digests, groups)
    if groups is not None and np.bincount(units).max() > max(max(Counter(groups).values()), len(groups) / 2):
        note = (
            f"{counted(repeats, 'row repeats', 'rows repeat')} another, some across groups: "
            "each group stays in one split, repeats may be in two splits"
        )
        return splitting.together([group.encode() for group in groups], None), (note,)
    note = f"{counted(repeats, 'row repeats', 'rows repeat')} another exactly; repeats stay in one split"
    return units, (note,) if repeats else ()


def _overlap_notes(rows: Rows, splits: Numbers) -> tuple[str, ...]:
    """Return a note that counts the contents that are in more than one of the given splits."""
    if rows.given is None:
        return ()
    homes = Counter(digest for digest, _ in set(zip(rows.digests, splits.tolist(), strict=True)))
    shared = sum(times > 1 for times in homes.values())
    texts = counted(shared, "row is", "rows are")
    note = f"{texts} in more than one of the given splits, so the scores will be too good"
    return (note,) if shared else ()


def _class_notes(rows: Rows, splits: Numbers) -> tuple[str, ...]:
    """Return notes about classes that are missing in a split, and about contents that have two labels."""
    notes = [_missing(rows, splits, i, name) for i, name in enumerate(NAMES) if rows.labels and (splits == i).any()]
    classes = set(zip(rows.digests, rows.classes.tolist(), strict=True))
    ambiguous = len(classes) - len(set(rows.digests))
    has = counted(ambiguous, "repeated row has", "repeated rows have")
    notes.append(f"{has} two different labels" if ambiguous else "")
    return tuple(note for note in notes if note)


def _missing(rows: Rows, splits: Numbers, split: int, name: str) -> str:
    here = np.bincount(rows.classes[splits == split], minlength=len(rows.labels))
    everywhere = np.bincount(rows.classes, minlength=len(rows.labels))
    return _missing_note(name, ((rows.labels[i], int(everywhere[i])) for i in np.flatnonzero(here == 0)))


def _missing_note(split: str, classes: Iterable[tuple[str, int]]) -> str:
    listed = [f"{label} ({counted(count, 'row')})" for label, count in classes]
    more = f" and {len(listed) - 5} more" if len(listed) > 5 else ""
    return f"the {split} split has no row of {', '.join(listed[:5])}{more}" if listed else ""

"""Reads a Table from the source that the plan names, or from an object in memory.

Nothing here runs code that comes with the data: no loading scripts, no pickle. Excel files, archives and web addresses
are refused, with a hint what to do instead.
"""

import difflib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.data import delimited, folders, json_lines, sources, text_files
from workbench.data.table import Table, from_arrow, unique
from workbench.errors import DataError, nearest

if TYPE_CHECKING:
    import pyarrow as pa


def read_parquet(path: Path) -> Table:
    """Read a Parquet file.

    Raises:
        DataError: The file is not a Parquet file or is damaged, or two columns have the same name.
    """
    import pyarrow as pa
    import pyarrow.parquet

    try:
        with pa.parquet.ParquetFile(path) as file:
            table = file.read()
    except (pa.ArrowException, OSError, ValueError, KeyError) as error:
        reason = str(error).partition("\n")[0][:200]
        raise DataError(f"{path.name} can't be read as a Parquet file: {reason}") from None
    return from_arrow(path.name, table)


READERS: Mapping[str, Callable[[Path], Table]] = {  # suffix -> reader; a new data format is a row here
    **dict.fromkeys((".csv", ".tsv", ".tab"), delimited.read),
    **dict.fromkeys((".jsonl", ".ndjson", ".json"), json_lines.read),
    **dict.fromkeys((".parquet", ".pq"), read_parquet),
    ".txt": text_files.read_paragraphs,
}
_CAN_BE_READ = "give a .csv, .tsv, .jsonl, .json, .parquet or .txt file, or a folder of images or texts by class"
_REFUSED = {  # suffix -> hint
    **dict.fromkeys((".xlsx", ".xls", ".ods"), "save the sheet as CSV UTF-8 and choose that file"),
    **dict.fromkeys((".gz", ".zip", ".bz2", ".xz", ".tar", ".7z"), "unpack it and choose the file inside"),
    **dict.fromkeys((".pkl", ".pickle"), "save the rows as Parquet; a pickle can run code, so it is never opened"),
    **dict.fromkeys((".arrow", ".feather"), "save it as Parquet"),
}


def read_source(source: str) -> Table:
    """Read a named source, a file or a folder.

    Raises:
        DataError: There is no such source or file, its format is not supported, or its rows can't be read.
        PackError: The pack of a named source can't be fetched.
    """
    named = sources.find(source)
    if named is not None:
        return named.table()
    try:
        path = Path(source).expanduser()
        if path.is_dir():
            return folders.read(path, table_suffixes=READERS)
        if not path.is_file():
            raise _missing(source, path)
        return _reader(path)(path)
    except DataError:
        raise
    except (OSError, ValueError, RuntimeError) as error:  # disk errors, a name that is too long, an unknown home folder
        raise DataError(f"{source!r} can't be read: {error}") from None


def read_object(table: Any) -> Table:
    """Read a pandas frame, a `datasets.Dataset` or a `datasets.DatasetDict`; the object is not changed.

    Raises:
        DataError: The object is of another type or lacks a train split, or two columns have the same name.
    """
    import datasets
    import pandas as pd

    check_table(table)
    if isinstance(table, pd.DataFrame):
        return _from_frame(table)
    if isinstance(table, datasets.DatasetDict):
        return _from_dictionary(table)
    return from_arrow("the table", _arrow(table))


def is_table(thing: Any) -> bool:
    """Return whether an object is a pandas frame, a `datasets.Dataset` or a `datasets.DatasetDict`."""
    home = {kind.__module__.partition(".")[0] for kind in type(thing).__mro__}
    if not home & {"datasets", "pandas"}:  # nothing that needs these imports, which take seconds
        return False
    import datasets
    import pandas as pd

    return isinstance(thing, pd.DataFrame | datasets.Dataset | datasets.DatasetDict)


def check_table(thing: Any) -> None:
    """Check that an object is a table. Raises DataError."""
    if is_table(thing):
        return
    kind = f"{type(thing).__module__}.{type(thing).__qualname__}".removeprefix("builtins.")
    hint = "use pandas.DataFrame(rows)"
    if "Iterable" in kind:
        hint = "use datasets.Dataset.from_list(list(…))"
    elif hasattr(thing, "to_pandas"):  # polars, pyarrow
        hint = "use table.to_pandas()"
    raise DataError(f"the table is a {kind}; expected a pandas frame or a datasets.Dataset", hint=hint)


def _reader(path: Path) -> Callable[[Path], Table]:
    suffix = path.suffix.lower()
    if suffix in READERS:
        return READERS[suffix]
    what = f"{path.name} is {'a ' + suffix + ' file' if suffix else 'a file without a suffix'}"
    raise DataError(f"{what}; expected one of {', '.join(READERS)}", hint=_REFUSED.get(suffix, "save it as CSV"))


def _missing(source: str, path: Path) -> DataError:
    names = [named.name for named in sources.SOURCES]
    if "://" in source:
        return DataError(f"{source!r} is a web address; expected a file or a folder", hint="download the file first")
    if path.suffix or "/" in source or "\\" in source:
        folder = path.parent
        if folder.is_dir():
            return DataError(f"there is no file {source!r}", hint=_similar(path.name, folder))
        hint = _CAN_BE_READ
        if not path.suffix and source.count("/") == 1:
            hint = "if it is a data set of a hub, load it with datasets.load_dataset(…) and pass it as table"
        return DataError(f"there is no file {source!r}, and no folder {str(folder)!r}", hint=hint)
    return DataError(f"there is no source, file or folder named {source!r}", hint=nearest(source, names))


def _similar(name: str, folder: Path) -> str:
    """Return a hint with what can be read in the folder under a similar name; else, which kinds can be read."""
    here = [entry.name for entry in folder.iterdir() if _can_be_read(entry)]
    return nearest(name, here) if difflib.get_close_matches(name, here, n=1) else _CAN_BE_READ


def _can_be_read(path: Path) -> bool:
    """Whether a file has a readable kind, or a folder has rows by its looks. Hidden ones are left out."""
    if path.name.startswith("."):
        return False
    if path.is_dir():
        inside = (*path.glob("*.*"), *path.glob("*/*.*"))
        return any(file.suffix.lower() in {*folders.IMAGE_SUFFIXES, ".txt"} for file in inside)
    return path.suffix.lower() in READERS


def _from_frame(frame: Any) -> Table:
    names = [str(name) for name in frame.columns]
    unique("the table", names)
    return Table("the table", {name: _present(frame.iloc[:, i]) for i, name in enumerate(names)})


def _present(series: Any) -> list[Any]:
    """Return the values of a pandas series; NaN, NaT and NA become None."""
    missing = series.isna().tolist()
    return [None if gone else value for value, gone in zip(series.tolist(), missing, strict=True)]


def _from_dictionary(table: Any) -> Table:
    """Concatenate the splits of a DatasetDict; each row keeps its split as its given split."""
    import pyarrow as pa

    parts = {name: part for name, part in table.items() if name.lower() in folders.SPLIT_NAMES}
    if "train" not in {folders.SPLIT_NAMES[name.lower()] for name in parts}:
        raise DataError(f"the table has the splits {', '.join(table)}; expected train among them")
    try:
        joined = pa.concat_tables([_arrow(part) for part in parts.values()], promote_options="default")
    except pa.ArrowException as error:
        raise DataError(f"the splits of the table have different columns: {error}") from None
    found = from_arrow("the table", joined)
    given = [folders.SPLIT_NAMES[name.lower()] for name, part in parts.items() for _ in range(len(part))]
    others = [name for name in table if name not in parts]
    notes = (f"the splits {', '.join(others)} were left out",) if others else ()
    return Table(found.name, found.columns, given=given, class_names=found.class_names, notes=notes)


def _arrow(dataset: Any) -> "pa.Table":
    return dataset.with_format("arrow")[:]

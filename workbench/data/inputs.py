"""Turns what a user wants predictions for into rows: texts, images, or a table with the columns of the run.

The rows have the form that `load` gives to the rows of a source, so that a task encodes both in the same way. A row
that can't be read is an error that says which one, because each input must have an answer.
"""

import io
import mimetypes
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.data.rows import _open_image, _open_text, _text, texts
from workbench.data.table import Table
from workbench.errors import DataError
from workbench.plan import choices

if TYPE_CHECKING:
    import datasets
    import pandas as pd

_CHANNELS = (1, 3, 4)  # of an image as an array (height, width, channels): grey, RGB, RGB with transparency
_ROW = "row {}".format
_READERS = {".csv": "read_csv", ".tsv": "read_table", ".parquet": "read_parquet", ".xlsx": "read_excel"}
_READERS |= {".json": "read_json", ".jsonl": "read_json"}
_NAMES = {"text": "a text", "image": "an image"}


@dataclass(frozen=True, eq=False)
class Inputs:
    """Inputs for a prediction.

    Attributes:
        rows: Column "text" or "image", and a "label" that has no meaning, as tasks expect it.
        given: The texts, or the images as the user gave them (path, picture, array).
        index: The index of the frame or series; None if the inputs had none.
    """

    rows: "datasets.Dataset"
    given: list[Any]
    index: "pd.Index[Any] | None"


def read_inputs(inputs: Any, task: choices.TaskName, columns: Sequence[str], separator: str = "\n\n") -> Inputs:
    """Return the inputs as rows.

    Args:
        inputs: A text or an image, several of them, or a frame or `datasets.Dataset` with the columns of the run. An
            image is a path, a PIL image, the bytes of an image file, or an array of bytes (height, width[, channels]).
        task: The task of the run.
        columns: The columns that the run read its texts or images from; they are read from a table.
        separator: Stands between the texts of several columns.

    Raises:
        DataError: There is no input, the table lacks a column, or an input is missing, empty, or of a wrong type; the
            message says which row.
    """
    kind = "image" if task == "image-classification" else "text"
    values, index = _values(inputs, kind, columns, separator)
    if not values or inputs is None:
        got = "got None; " if inputs is None else ""
        raise DataError(f"there is nothing to predict: {got}expected at least one {kind}", hint=_examples(kind))
    for row, value in enumerate(values):
        if _is_missing(value):
            raise DataError(f"{_ROW(row)} is {value}; expected {_NAMES[kind]}", hint="leave it out")
    if kind == "text" and not hasattr(inputs, "columns") and not hasattr(inputs, "column_names"):
        _check_texts(values)
    read = _image if kind == "image" else _text_of
    contents: list[Any] = [read(value, row) for row, value in enumerate(values)]
    given = [_shown(*pair) for pair in zip(values, contents, strict=True)] if kind == "image" else contents
    return Inputs(_dataset(kind, contents), given, index)


def _values(inputs: Any, kind: str, columns: Sequence[str], separator: str) -> tuple[list[Any], Any]:
    """Return the inputs as a list, and their index if they have one."""
    import datasets
    import pandas as pd

    if isinstance(inputs, pd.DataFrame):
        return _of_table(inputs, [*inputs.columns], kind, columns, separator), inputs.index
    if isinstance(inputs, datasets.Dataset):
        return _of_table(inputs, inputs.column_names, kind, columns, separator), None
    if isinstance(inputs, pd.Series):
        return list(inputs), inputs.index
    if isinstance(inputs, np.ndarray):
        is_one = inputs.ndim == 0 or (kind == "image" and _is_image(inputs))
        return [inputs if inputs.ndim else inputs.item()] if is_one else list(inputs), None
    is_one = isinstance(inputs, (str, bytes, Path, Mapping)) or hasattr(inputs, "convert")
    if is_one or not isinstance(inputs, Iterable):
        return [inputs], None
    return list(inputs), None


def _of_table(table: Any, names: list[Any], kind: str, columns: Sequence[str], separator: str) -> list[Any]:
    """Return the values of the column, or the joined texts of several columns."""
    wanted = columns or (kind,)
    if missing := [name for name in wanted if name not in names]:
        what = f"the table has the columns {', '.join(map(str, names[:12]))}; expected {missing[0]!r}, as the run read"
        raise DataError(what, hint=f"rename the column, or give it alone: run.predict(table[{str(names[0])!r}])")
    if len(wanted) == 1:
        return list(table[wanted[0]])
    return texts(Table("the input", {name: list(table[name]) for name in wanted}, _ROW), wanted, separator)


def _is_missing(value: Any) -> bool:
    import pandas as pd

    return value is None or bool(pd.api.types.is_scalar(value) and pd.isna(value))


def _shown(value: Any, content: Mapping[str, Any]) -> Any:
    """Return an image as the user gave it, but an array or the bytes of a file as a picture."""
    if isinstance(value, (str, Path)) or hasattr(value, "convert"):
        return value
    return decoded(content)


def _is_image(array: Any) -> bool:
    return array.ndim == 2 or (array.ndim == 3 and array.shape[-1] in _CHANNELS)


def _check_texts(values: Sequence[Any]) -> None:
    """Raise DataError if there are only numbers, or a path in place of what is in the file.

    A column of a table may have both, as the rows of the run had.
    """
    if all(isinstance(value, int | float | np.number) for value in values):
        what = f"{_ROW(0)} is the number {values[0]}; this run reads texts, so expected a str"
        raise DataError(what, hint=_examples("text"))
    for row, value in enumerate(values):
        if isinstance(value, str) and (
            (os.path.isfile(value) and Path(value).suffix) or (os.path.isdir(value) and len(Path(value).parts) > 1)
        ):
            raise _path_error(value, row, "texts")


def _path_error(path: str, row: int, kind: str) -> DataError:
    """Return the error for the path of a file or folder that the run can't read as an input."""
    suffix = Path(path).suffix.lower()
    if os.path.isdir(path):
        what, hint = "a folder", f"run.predict(sorted(Path({path!r}).iterdir()))" if kind == "images" else ""
    elif suffix in _READERS:
        what = f"a {suffix[1:].upper()} file"
        hint = f"read the file first: run.predict(pandas.{_READERS[suffix]}({path!r})[name of the column])"
    else:
        is_image = (mimetypes.guess_type(path)[0] or "").startswith("image/")
        what, hint = "an image file" if is_image else "a file", ""
    expected = "the path of each image" if kind == "images" else "the texts themselves, not the path of a file"
    return DataError(
        f"{_ROW(row)} is {path[:200]!r}, which is {what}; this run reads {kind}, so expected {expected}",
        hint=hint or _examples(kind[:-1]),
    )


def _text_of(value: Any, row: int) -> str:
    if isinstance(value, np.generic):
        value = value.item()
    if not isinstance(value, (str, int, float)):
        is_image = hasattr(value, "convert") or isinstance(value, (np.ndarray, Path, bytes))
        what = f"{_ROW(row)} is {'an image' if is_image else f'of type {type(value).__name__}'}; this run reads texts"
        raise DataError(f"{what}, so expected a str", hint=_examples("text"))
    table = Table("the input", {}, _ROW)
    if (text := _text(table, "text", row, value)) is None:
        raise DataError(f"{_ROW(row)} is an empty text", hint="leave it out")
    return _open_text(table, row, text)[0]


def _image(value: Any, row: int) -> dict[str, Any]:
    """Return an image as {"bytes", "path"} of its file."""
    if isinstance(value, (str, Path)):
        if os.path.isdir(value) or (os.path.isfile(value) and Path(value).suffix.lower() in _READERS):
            raise _path_error(str(value), row, "images")
        if not os.path.isfile(value):
            what = f"{_ROW(row)} is {str(value)[:60]!r}, and there is no such file; this run reads images"
            raise DataError(what, hint=_examples("image"))
        value = {"bytes": None, "path": str(value)}
    elif isinstance(value, (bytes, bytearray, memoryview)):
        value = {"bytes": bytes(value), "path": None}
    elif isinstance(value, np.ndarray):
        value = _from_array(value, row)
    elif isinstance(value, Mapping) and {"bytes", "path"} <= value.keys():
        value = dict(value)
    elif not hasattr(value, "convert"):
        what = f"{_ROW(row)} is of type {type(value).__name__}; this run reads images"
        raise DataError(f"{what}, so expected a path, a PIL image or an array", hint=_examples("image"))
    return _open_image(Table("the input", {}, _ROW), row, value)[0]


def _from_array(array: Any, row: int) -> Any:
    from PIL import Image

    if array.dtype != np.uint8 or not _is_image(array) or 0 in array.shape:
        what = f"{_ROW(row)} is an array of {array.dtype} {array.shape}; expected uint8 (height, width, 3)"
        raise DataError(what, hint="(array * 255).astype('uint8') if its values are from 0 to 1")
    return Image.fromarray(array[..., 0] if array.ndim == 3 and array.shape[-1] == 1 else array)


def _dataset(kind: str, contents: list[Any]) -> "datasets.Dataset":
    import datasets

    content: Any = datasets.Image() if kind == "image" else datasets.Value("string")
    features = datasets.Features({kind: content, "label": datasets.Value("int64")})
    return datasets.Dataset.from_dict({kind: contents, "label": [0] * len(contents)}, features=features)


def _examples(kind: str) -> str:
    return "run.predict('photo.jpg')" if kind == "image" else "run.predict(['first text', 'second text'])"


def decoded(stored: Mapping[str, Any]) -> Any:
    """Return the image in {"bytes", "path"} of its file as a PIL image."""
    from PIL import Image

    image = Image.open(stored["path"] if stored["bytes"] is None else io.BytesIO(stored["bytes"]))
    image.load()
    return image

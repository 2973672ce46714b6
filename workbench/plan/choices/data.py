"""The section of a plan with the rows, their columns and their split."""

import typing
from dataclasses import dataclass
from typing import Literal

from workbench.errors import PlanError
from workbench.plan.fields import Choice, setting
from workbench.untrusted import shown

TaskName = Literal["text-classification", "language-modeling", "image-classification"]

TASKS: tuple[TaskName, ...] = typing.get_args(TaskName)


@dataclass(frozen=True, kw_only=True)
class Data(Choice):
    """The rows: where they are, which columns are used, and how they are split."""

    source: str = setting(
        "sentiment:movies",
        text="a name of the catalog, a file or a folder",
        touches=("rows",),
        help="Where the rows come from: a data set of the catalog, a CSV, JSON Lines or Parquet file, or a folder of "
        "images by class.",
    )
    task: TaskName | None = setting(
        None, none="guessed", touches=("rows",), help="What the model learns to do with the rows."
    )
    text_column: str | tuple[str, ...] | None = setting(
        None,
        text="a column name",
        none="guessed",
        touches=("rows",),
        help="The column that the text is read from; the texts of several columns are joined, for example of a title "
        "and a body.",
    )
    text_separator: str = setting(
        "\n\n",
        touches=("rows",),
        help="What stands between the texts of several columns: by default, a blank line.",
    )
    label_column: str | None = setting(
        None,
        text="a column name",
        none="guessed",
        touches=("rows",),
        help="The column with the class of each row, which the model learns to predict.",
    )
    group_column: str | None = setting(
        None,
        text="a column name",
        none="no groups",
        touches=("rows",),
        help="Rows with the same value in this column never land in two splits.",
    )
    max_rows: int | None = setting(
        None,
        low=10,
        high=10**9,
        unit="rows",
        none="all rows",
        touches=("rows",),
        help="A random sample of so many rows is used in place of all, with the same share of each class.",
    )
    max_length: int = setting(
        128,
        low=4,
        high=131_072,
        unit="tokens",
        touches=("examples",),
        help="Longer texts are cut off at so many tokens; a language model reads them in several windows instead.",
    )
    window_overlap: int = setting(
        1,
        low=1,
        high=131_071,
        unit="tokens",
        touches=("examples",),
        help="For language models: so many tokens of a window are repeated in the next one as context, and are not "
        "scored again.",
    )
    image_size: int | None = setting(
        None,
        low=8,
        high=1024,
        unit="pixels a side",
        none="model's own",
        touches=("examples",),
        help="Images are resized to this; smaller ones are faster, larger ones show more detail.",
    )
    validation_fraction: float = setting(
        0.15,
        low=0.01,
        high=0.5,
        unit="of rows",
        touches=("rows",),
        help="Share of the rows that the model does not train on, and that its scores during the run are measured on.",
    )
    test_fraction: float = setting(
        0.15,
        low=0.0,
        high=0.5,
        unit="of rows",
        touches=("rows",),
        help="Share of the rows that is set aside for one last score at the very end.",
    )
    split_seed: int = setting(
        0,
        low=0,
        high=2**31 - 1,
        touches=("rows",),
        help="Another number puts other rows into training, validation and test.",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.text_column, tuple):
            object.__setattr__(self, "text_column", _columns(self.text_column))


def _columns(names: tuple[str, ...]) -> str | tuple[str, ...]:
    """Return the names of text columns; one name without its list, so that equal choices are equal plans.

    Raises:
        PlanError: There is no name, or a name is there twice.
    """
    if not names:
        raise PlanError("text_column is empty; expected at least one column name", hint="use None to have it guessed")
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise PlanError(f"text_column names {shown(twice)} twice; expected each column once", hint="keep one of them")
    return names if len(names) > 1 else names[0]

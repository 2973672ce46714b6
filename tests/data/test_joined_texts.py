"""The texts of several columns, joined to one."""

import pandas as pd
import pytest

from workbench import data
from workbench.errors import DataError, PlanError
from workbench.plan.choices import Data
from workbench.plan.plan import Plan

TITLES = [f"Title {i}" for i in range(40)]
BODIES = [f"A body of some length, number {i}" for i in range(40)]
NAMES = ("title, short", "body\n(long)")  # names that contain what might separate names
FRAME = pd.DataFrame({NAMES[0]: TITLES, NAMES[1]: BODIES, "kind": ["yes", "no"] * 20}, dtype=object)


def texts(frame=FRAME, **choice):
    split = data.load(Data(**{"text_column": NAMES, **choice}), table=frame)
    rows = [row for name in ("train", "validation", "test") for row in split.part(name)]
    return {row["row"]: row["text"] for row in rows}


def test_the_texts_are_joined_in_the_order_of_the_choice():
    assert texts()[3] == "Title 3\n\nA body of some length, number 3"
    assert texts(text_column=NAMES[::-1], text_separator=" | ")[3] == "A body of some length, number 3 | Title 3"


@pytest.mark.parametrize("empty", [None, "", "  ", float("nan")])
def test_an_empty_part_leaves_no_separator_and_only_rows_without_any_text_are_left_out(empty):
    frame = FRAME.copy()
    frame.loc[0, NAMES[0]] = empty
    frame.loc[1, NAMES[1]] = empty
    frame.loc[2, list(NAMES)] = empty
    found = texts(frame)
    assert (found[0], found[1]) == (BODIES[0], TITLES[1])
    assert sorted(found) == [row for row in range(40) if row != 2]


def test_numbers_become_text():
    assert texts(FRAME.assign(year=1984), text_column=("year", NAMES[1]))[0] == f"1984\n\n{BODIES[0]}"


def test_rows_repeat_only_if_all_their_texts_do():
    same_body = FRAME.assign(**{NAMES[1]: "the same body"})
    assert not any("repeat" in note for note in data.load(Data(text_column=NAMES), table=same_body).notes)
    same = same_body.assign(**{NAMES[0]: ["the same title"] * 10 + TITLES[10:]})
    assert any("9 rows repeat" in note for note in data.load(Data(text_column=NAMES), table=same).notes)


def test_the_separator_changes_the_fingerprint_and_so_the_cache():
    plain, other = (data.load(Data(text_column=NAMES, text_separator=sign), table=FRAME) for sign in ("\n\n", " "))
    assert plain.fingerprint != other.fingerprint
    assert {"text_column", "text_separator"} <= dict(Plan().touching("rows")).keys()


def test_no_joined_column_is_guessed_as_the_label():
    frame = FRAME.rename(columns={NAMES[0]: "topic"}).assign(topic=["film", "book"] * 20)
    split = data.load(Data(text_column=(NAMES[1], "topic")), table=frame)
    assert (split.columns, split.joined) == ({"text": NAMES[1], "label": "kind"}, ("topic",))


def test_one_name_in_a_list_is_that_name():
    assert Data(text_column=["text"]) == Data(text_column="text")
    plan = Plan().change(text_column=NAMES)
    assert Plan.from_json(plan.to_json()) == plan


@pytest.mark.parametrize(
    ("column", "error", "words"),
    [
        ((NAMES[0], "bodi"), DataError, "text_column is 'bodi', but the table has no such column"),
        (("kind", "tags"), DataError, r"row 0: 'tags' has a list, \['a'\]; expected text"),
        ((), PlanError, "text_column is empty; expected at least one column name"),
        (("kind", "kind"), PlanError, "text_column names 'kind' twice"),
        (("kind", 3), PlanError, "expected a column name, a list of names or None"),
    ],
)
def test_names_that_can_not_be_are_refused(column, error, words):
    frame = FRAME.assign(tags=[["a"]] * 40)
    with pytest.raises(error, match=words):
        data.load(Data(text_column=column), table=frame)

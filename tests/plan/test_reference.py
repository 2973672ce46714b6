import pydoc
import re

import pytest

import workbench as wb
from workbench.plan import reference, words
from workbench.plan.plan import FIELDS, SECTION_OF, Plan

PAGE = reference.page(Plan)
HELP = pydoc.plain(pydoc.render_doc(wb.Plan))
FLAT = re.sub(r"[\s|]+", " ", HELP)


@pytest.mark.parametrize("entry", FIELDS.values(), ids=FIELDS)
def test_help_and_the_page_tell_everything_about_a_field(entry):
    unit, when = entry.metadata.get("unit", ""), entry.metadata["takes_effect"]
    (row,) = [line for line in PAGE.splitlines() if line.startswith(f"| `{entry.name}` |")]
    cells = [cell.strip() for cell in row.strip("|").split(" | ")]
    assert cells[1:] == [f"`{entry.default!r}`", words.kind(entry), unit, when, entry.metadata["help"]]
    assert f" {entry.name} = {entry.default!r} {entry.metadata['help']} " in FLAT
    assert f"Takes effect {when}." in FLAT


def test_help_is_grouped_by_section_and_fits_a_terminal():
    assert [line[4:].split(":")[0] for line in HELP.splitlines() if re.match(r" \|  [a-z]+: ", line)] == [
        *dict.fromkeys(SECTION_OF.values())
    ]
    about = HELP[HELP.index("A change takes effect") : HELP.index("Methods defined here")]
    assert max(map(len, about.splitlines())) <= 120


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("learning_rate", "a number from 1e-8 to 10"),
        ("max_rows", "a whole number from 10 to 1,000,000,000 or None (all rows)"),
        ("schedule", "'constant', 'linear' or 'cosine'"),
        ("trainable", "'head', 'all', 'last 2' or a list of names"),
        ("stop_metric", "the name of a metric or None (loss)"),
    ],
)
def test_values_are_said_in_words(name, said):
    assert words.kind(FIELDS[name]) == said


@pytest.mark.parametrize(
    ("value", "said"),
    [(1e-8, "1e-8"), (0.001, "0.001"), (10.0, "10"), (65_536, "65,536"), (2**31 - 1, "2,147,483,647"), (1e30, "1e30")],
)
def test_numbers_are_written_as_people_do(value, said):
    assert words.number(value) == said

"""Any plan at all, from a file or from code: it works, or it is a PlanError that says what is wrong."""

import json

import pytest
from fuzzing import JUNK, TEXTS, VALUES, as_json, damaged, outcome, said
from hypothesis import example, given
from hypothesis import strategies as st

from workbench.errors import PlanError
from workbench.plan.plan import FIELDS, SECTION_OF, Plan

pytestmark = pytest.mark.slow

SECTIONS = sorted(set(SECTION_OF.values()))
FIELD = st.sampled_from([*FIELDS, "self", "name", "trust_remote_code"]) | TEXTS
SECTION = st.dictionaries(FIELD, VALUES, max_size=3)
TREE = st.dictionaries(st.sampled_from(SECTIONS) | TEXTS, SECTION | VALUES, max_size=3)


def works_or_says_why(make):
    """Make a plan; one that is made is written and read back to the same."""
    found = outcome(make)
    if isinstance(found, Plan):
        text = found.to_json()
        assert Plan.from_json(text.encode().decode()) == found
    else:
        assert isinstance(found, PlanError)
    return found


@given(JUNK | st.text(max_size=60))
@example(b"[" * 100_000)
@example('{"a":' * 50_000)
@example("9" * 5_000)
@example("\ufeff{}")
def test_any_text_or_bytes(text):
    works_or_says_why(lambda: Plan.from_json(text))


@given(damaged(Plan().to_json().encode()))
def test_a_damaged_plan(content):
    works_or_says_why(lambda: Plan.from_json(content))


@given(TREE)
def test_any_tree(tree):
    text = as_json(tree)
    works_or_says_why(lambda: Plan.from_dict(tree))
    if text is not None:
        works_or_says_why(lambda: Plan.from_json(text))


@given(st.dictionaries(FIELD, VALUES | st.binary(max_size=3) | st.builds(object), max_size=3))
@example({"self": 1})
@example({"source": "\ud800"})
def test_any_change(changes):
    before = Plan().to_json()
    plan = Plan()
    works_or_says_why(lambda: plan.change(**changes))
    assert plan.to_json() == before


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[" * 100_000, "not JSON"),
        ('{"tuning": {"seed": 1, "seed": 2}}', "'seed' twice"),
        ('{"tuning": {}, "tuning": {"seed": 2}}', "'tuning' twice"),
        ('{"tuning": {"seed": NaN}}', "seed is nan"),
        ('{"tuning": {"learning_rate": 1e999}}', "learning_rate is inf"),
        (f'{{"tuning": {{"seed": {"9" * 4_000}}}}}', "seed is inf"),
        ('{"baseline": {"backbone": "a\\u0000b"}}', "zero byte"),
        ('{"data": {"source": "\\ud800"}}', "half a character"),
        (json.dumps({"data": {"source": "x" * 9_999}}), "9,999 characters"),
        ('{"baseline": {"trust_remote_code": true}}', "no 'trust_remote_code'"),
        ('{"trust_remote_code": true}', "no 'trust_remote_code'"),
    ],
)
def test_what_is_wrong_is_said_in_few_words(text, words):
    told = said(lambda: Plan.from_json(text))
    assert words in told
    assert len(told) < 400


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"backbone": 10**5_000}, "backbone is <int>"),
        ({"seed": 10**5_000}, "seed is inf"),
        ({"trainable": ["x"] * 1_000_000}, "1,000,000 names"),
        ({"max_rows": [[[[[]]]]] * 1_000}, "max_rows is [[[...]]"),
        ({"self": 1}, "no field 'self'"),
    ],
)
def test_what_is_wrong_with_a_change_is_said_in_few_words(changes, words):
    told = said(lambda: Plan().change(**changes))
    assert words in told
    assert len(told) < 400

import dataclasses
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from workbench.errors import PlanError
from workbench.plan import words
from workbench.plan.choices import Tuning
from workbench.plan.fields import WHEN
from workbench.plan.plan import FIELDS, SECTION_OF, Plan


def test_change_returns_a_new_plan_and_leaves_the_old():
    plan = Plan()
    changed = plan.change(learning_rate=1e-4, trainable="last 2")
    assert (plan.tuning.learning_rate, changed.tuning.learning_rate) == (1e-3, 1e-4)
    assert plan.differences(changed) == {"learning_rate": (1e-3, 1e-4), "trainable": ("head", "last 2")}


def test_a_plan_can_be_made_with_its_choices():
    assert Plan(learning_rate=1e-4, trainable="last 2") == Plan().change(learning_rate=1e-4, trainable="last 2")
    assert Plan(tuning=Tuning(batch_size=8), epochs=2).tuning == Tuning(batch_size=8, epochs=2.0)
    with pytest.raises(PlanError, match="Did you mean 'learning_rate'"):
        Plan(lr=1e-4)
    with pytest.raises(dataclasses.FrozenInstanceError):
        Plan().tuning = Tuning()


def test_json_round_trip_keeps_every_field():
    plan = Plan().change(trainable=("block 1", "head"), max_rows=50, epochs=2, dropout=None, group_column="play")
    assert Plan.from_json(plan.to_json()) == plan


def test_a_partial_plan_takes_defaults():
    assert Plan.from_json('{"tuning": {"batch_size": 8}}') == Plan().change(batch_size=8)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"lerning_rate": 1}, "Did you mean 'learning_rate'"),
        ({"learning_rate": -1.0}, "learning_rate is -1; it must be between 1e-8 and 10\n"),
        ({"learning_rate": float("nan")}, "expected a number"),
        ({"learning_rate": True}, "expected a number"),
        ({"batch_size": 2.5}, "expected a whole number"),
        ({"batch_size": "32"}, "expected a whole number from 1 to 65,536\nTry: write 32 without quotes"),
        ({"max_rows": "many"}, "or None (all rows)"),
        ({"batch_size": 10**400}, "must be between 1 and 65,536"),
        ({"learning_rate": 10**400}, "must be between 1e-8 and 10"),
        ({"task": "classify"}, "text-classification"),
        ({"schedule": "cosin"}, "Did you mean 'cosine'"),
        ({"trainable": "lst 2"}, "Did you mean 'last 2'"),
        ({"trainable": "last 0"}, "trainable is 'last 0'"),
        ({"trainable": ()}, "expected at least one block"),
        ({"trainable": (1,)}, "expected 'head', 'all', 'last 2' or a list of names"),
        ({"validation_fraction": 0.9}, "must be between 0.01 and 0.5"),
        ({"seed": -1}, "must be between 0 and 2,147,483,647"),
        ({"max_rows": 3}, "use None, the default"),
        ({"text_column": 3}, "expected a column name, a list of names or None"),
        ({"stop_metric": 3}, "expected the name of a metric or None"),
        ({"task": 3}, "expected 'text-classification', 'language-modeling', 'image-classification' or None"),
    ],
)
def test_a_choice_that_cant_be_is_refused_with_what_to_do(changes, words):
    with pytest.raises(PlanError) as caught:
        Plan().change(**changes)
    assert words in str(caught.value)


@pytest.mark.parametrize("text", ["", "[]", "3", '{"tunning": {}}', '{"tuning": {"rate": 1}}', '{"tuning": []}', "{"])
def test_text_that_is_no_plan_is_refused(text):
    with pytest.raises(PlanError):
        Plan.from_json(text)


json_values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([*SECTION_OF, "tuning"]), inner),
    max_leaves=6,
)


@given(st.dictionaries(st.sampled_from(["tuning", "data", "transfer", "x"]), json_values))
def test_no_json_at_all_escapes_as_anything_but_a_plan_error(tree):
    try:
        plan = Plan.from_json(json.dumps(tree))
    except PlanError:
        return
    assert Plan.from_json(plan.to_json()) == plan


def test_a_section_can_not_be_something_else():
    with pytest.raises(PlanError, match="expected a Tuning"):
        Plan(tuning={"learning_rate": 1})


def test_field_names_are_unique_and_every_number_says_its_unit():
    sections = [section.default_factory for section in dataclasses.fields(Plan)]
    assert len(SECTION_OF) == sum(len(dataclasses.fields(section)) for section in sections)
    numbers = [f for f in FIELDS.values() if f.type in (int, float, int | None, float | None)]
    assert numbers
    assert [field.name for field in numbers if not field.metadata["unit"]] == ["split_seed", "learning_rate", "seed"]


@pytest.mark.parametrize("entry", FIELDS.values(), ids=FIELDS)
def test_every_field_says_in_a_sentence_what_it_means_and_when_a_change_takes_effect(entry):
    sentence = entry.metadata["help"]
    assert sentence[0].isupper()
    assert sentence.endswith(".")
    assert len(sentence) <= 160
    assert entry.metadata["takes_effect"] in WHEN
    assert bool(entry.metadata["none"]) == (type(None) in words.options(entry.type))


def test_numbers_as_numpy_has_them_are_taken():
    plan = Plan().change(batch_size=np.int64(8), learning_rate=np.float32(0.5))
    assert (type(plan.tuning.batch_size), type(plan.tuning.learning_rate)) == (int, float)
    assert Plan.from_json(plan.to_json()) == plan

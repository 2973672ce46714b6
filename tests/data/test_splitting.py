"""Splits: disjoint, complete, stratified, group-aware, the same everywhere; no repeated content in two of them."""

from collections import Counter

import datasets
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from workbench import data
from workbench.data import splitting
from workbench.data.splitting import NAMES
from workbench.errors import DataError
from workbench.plan import choices


def load(frame, **choice):
    return data.load(choices.Data(**choice), table=frame)


def frame_of(sizes):
    """A frame with so many rows of each class, all different."""
    labels = [name for name, size in sizes.items() for _ in range(size)]
    return pd.DataFrame({"text": [f"text number {i}" for i in range(len(labels))], "label": labels})


def rows_of(split, column="row"):
    return {name: list(split.part(name)[column]) for name in NAMES}


FRACTIONS = st.tuples(st.floats(0.01, 0.45), st.sampled_from([0.0]) | st.floats(0.01, 0.45))


@given(sizes=st.lists(st.integers(3, 60), min_size=2, max_size=6), fractions=FRACTIONS, seed=st.integers(0, 99))
def test_plain_rows_are_split_in_proportion(sizes, fractions, seed):
    validation, test = fractions
    keys = splitting.shuffled_keys([b"%d" % i for i in range(sum(sizes))], seed)
    classes = np.repeat(np.arange(len(sizes)), sizes)
    splits = splitting.assign(classes, np.arange(sum(sizes)), keys, validation=validation, test=test)
    shares = np.array([1 - validation - test, validation, test])
    counts = np.array([np.bincount(classes[splits == i], minlength=len(sizes)) for i in range(3)])
    filled = (np.outer(shares, sizes).sum(axis=1) < 1).any()  # a split that would have been empty was given a row
    assert (counts.sum(axis=0) == sizes).all()
    assert np.abs(counts - np.outer(shares, sizes)).max() <= 1 + filled + 1e-6
    assert np.abs(counts.sum(axis=1) - shares * sum(sizes)).max() <= 2 + filled
    assert (counts.sum(axis=1) > 0).tolist() == (shares > 0).tolist()


@given(
    members=st.lists(st.tuples(st.integers(0, 9), st.integers(0, 2)), min_size=30, max_size=200),
    fractions=FRACTIONS,
    seed=st.integers(0, 99),
)
def test_no_group_is_cut(members, fractions, seed):
    groups = np.array([group for group, _ in members])
    classes = np.array([label for _, label in members])
    if len(set(groups.tolist())) < 3:
        return
    _, units = np.unique(groups, return_inverse=True)
    keys = splitting.shuffled_keys([b"%d" % i for i in range(len(members))], seed)
    splits = splitting.assign(classes, units, keys, validation=fractions[0], test=fractions[1])
    assert set(splits.tolist()) == ({0, 1, 2} if fractions[1] else {0, 1})
    assert all(len(set(splits[units == unit].tolist())) == 1 for unit in units)


def test_every_row_is_in_one_split_and_stratified():
    split = load(frame_of({"a": 100, "b": 40, "c": 7}))
    assert sorted(row for rows in rows_of(split).values() for row in rows) == list(range(147))
    assert split.counts() == {
        "train": {"a": 70, "b": 28, "c": 5},
        "validation": {"a": 15, "b": 6, "c": 1},
        "test": {"a": 15, "b": 6, "c": 1},
    }


def test_the_same_rows_and_seed_give_the_same_split_in_any_order():
    frame = frame_of({"a": 50, "b": 30})
    once, again = load(frame), load(frame)
    assert rows_of(once) == rows_of(again)
    assert once.fingerprint == again.fingerprint
    shuffled = load(frame.sample(frac=1, random_state=3))
    assert rows_of(shuffled, "text") == rows_of(once, "text")
    assert shuffled.fingerprint == once.fingerprint


def test_the_split_is_the_same_on_every_platform():
    """Written down once: a change here breaks the comparison of everyone's runs."""
    split = load(frame_of({"a": 12, "b": 8}))
    assert rows_of(split) == {
        "train": [1, 0, 4, 16, 18, 8, 19, 14, 17, 9, 11, 2, 15, 7],
        "validation": [12, 3, 10],
        "test": [5, 13, 6],
    }
    assert split.fingerprint == "133177bc9d536b3f39b5c17bb670c33a316e439e101e6fe3438e57ed8f0df617"


def test_seed_content_label_and_group_change_the_fingerprint():
    frame = frame_of({"a": 50, "b": 30})
    frame["group"] = [str(i // 2) for i in range(80)]
    renamed = frame.assign(group="g" + frame["group"])  # the same rows in the same splits, under other group names
    found = [load(frame).fingerprint, load(frame, split_seed=1).fingerprint]
    found += [load(each, group_column="group").fingerprint for each in (frame, renamed)]
    for column, value in {"text": "other", "label": "b"}.items():
        changed = frame.copy()
        changed.loc[0, column] = value
        found.append(load(changed).fingerprint)
    assert len(set(found)) == 6


def test_the_first_rows_of_a_split_are_a_fair_sample():
    split = load(frame_of({"a": 500, "b": 500}))
    assert 30 <= sum(split.train["label"][:100]) <= 70


def test_groups_stay_whole_and_classes_in_proportion():
    rng = np.random.default_rng(0)
    frame = frame_of({"a": 600, "b": 300})
    frame["user"] = rng.integers(0, 60, len(frame)).astype(str)
    split = load(frame, group_column="user")
    homes = {name: set(values) for name, values in rows_of(split, "group").items()}
    assert sum(map(len, homes.values())) == len(set.union(*homes.values())) == 60
    for name, share in {"train": 0.7, "validation": 0.15, "test": 0.15}.items():
        counts = split.counts()[name]
        assert counts["a"] == pytest.approx(600 * share, abs=15)
        assert counts["b"] == pytest.approx(300 * share, abs=15)


def test_as_few_groups_as_splits_are_enough_and_fewer_are_not():
    frame = frame_of({"a": 20, "b": 20})
    frame["site"] = ["x", "y", "z", "x"] * 10
    assert all(len(rows) > 0 for rows in rows_of(load(frame, group_column="site")).values())
    frame["site"] = ["x", "y"] * 20
    with pytest.raises(DataError, match="there are too few groups of rows: 2 for 3 splits"):
        load(frame, group_column="site")
    assert load(frame, group_column="site", test_fraction=0).rows == 40


def test_rows_without_a_group_stand_alone():
    frame = frame_of({"a": 20, "b": 20})
    frame["user"] = [None] * 40
    assert load(frame, group_column="user").counts()["validation"] == {"a": 3, "b": 3}


@pytest.mark.parametrize("seed", range(5))
def test_repeated_texts_are_in_one_split(seed):
    frame = frame_of({"a": 100, "b": 100})
    frame["text"] = [f"text number {i % 60}" for i in range(200)]
    split = load(frame, split_seed=seed)
    texts = {name: set(values) for name, values in rows_of(split, "text").items()}
    assert sum(map(len, texts.values())) == 60
    assert any("140 rows repeat another exactly" in note for note in split.notes)
    assert any("two different labels" in note for note in split.notes)


def test_repeats_across_groups_hold_the_groups_together():
    frame = frame_of({"a": 60, "b": 60})
    frame["user"] = [str(i // 6) for i in range(120)]
    frame.loc[[0, 100], "text"] = "the same words"
    split = load(frame, group_column="user")
    homes = Counter(name for name, texts in rows_of(split, "text").items() if "the same words" in texts)
    assert len(homes) == 1


def test_words_that_all_groups_share_do_not_forbid_a_split():
    frame = frame_of({"a": 60, "b": 60})
    frame["user"] = [str(i // 6) for i in range(120)]
    frame.loc[::6, "text"] = "ok"
    split = load(frame, group_column="user")
    groups = {name: set(values) for name, values in rows_of(split, "group").items()}
    assert sum(map(len, groups.values())) == 20
    assert any("some across groups" in note for note in split.notes)


def test_no_test_split_if_none_is_wanted():
    split = load(frame_of({"a": 20, "b": 20}), test_fraction=0, validation_fraction=0.25)
    assert [len(split.part(name)) for name in NAMES] == [30, 10, 0]
    assert split.test.features == split.train.features


@pytest.mark.parametrize("most", [10, 33, 100])
def test_a_sample_keeps_the_proportions(most):
    split = load(frame_of({"a": 300, "b": 100}), max_rows=most)
    found = Counter(row["label"] for name in NAMES for row in split.part(name))
    assert split.rows == most
    assert abs(found[0] - most * 0.75) <= 1
    assert any(f"{most} of 400 rows were sampled" in note for note in split.notes)
    assert rows_of(split) == rows_of(load(frame_of({"a": 300, "b": 100}), max_rows=most))


def test_a_sample_keeps_given_splits_in_proportion():
    def part(start, rows):
        texts = [f"text {i}" for i in range(start, start + rows)]
        return datasets.Dataset.from_dict({"text": texts, "label": [0, 1] * (rows // 2)})

    parts = {"train": part(0, 120), "validation": part(200, 40), "test": part(300, 40)}
    split = load(datasets.DatasetDict(parts), max_rows=50)
    assert [len(split.part(name)) for name in NAMES] == [30, 10, 10]


def test_rare_classes_go_to_train_and_are_named():
    split = load(frame_of({"a": 30, "b": 30, "rare": 2, "rarer": 1}))
    assert split.counts()["train"]["rare"] == 2
    assert split.counts()["train"]["rarer"] == 1
    assert "the validation split has no row of rare (2 rows), rarer (1 row)" in split.notes


@pytest.mark.parametrize(("rows", "test_fraction"), [(5, 0.15), (3, 0.0), (1, 0.15)])
def test_too_few_rows(rows, test_fraction):
    with pytest.raises(DataError, match="too few"):
        load(pd.DataFrame({"text": [f"t {i}" for i in range(rows)]}), test_fraction=test_fraction)


def test_fractions_must_leave_something_to_train_on():
    with pytest.raises(DataError, match="leave nothing to train on"):
        load(frame_of({"a": 20, "b": 20}), validation_fraction=0.5, test_fraction=0.5)

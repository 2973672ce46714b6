"""Splits rows into train, validation and test: deterministic and stratified; a group or content stays in one split.

Rows are sorted by a hash of the seed and their content. So the same rows and seed give the same split on every
platform, whatever the order of the rows in the source. Rows that must stay together form a unit. Units of several rows
are placed first, the largest first, each in the split where it brings the class counts closest to the wanted ones (by
chi-square distance). Then the single rows are distributed so that each class is within one row of its share.
"""

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workbench.errors import DataError

NAMES = ("train", "validation", "test")
_PREFERENCE = np.array([0.0, 2e-6, 1e-6])  # breaks ties: validation gets the row first, then test, then train
_EPSILON = 1e-9

Numbers = NDArray[np.int64]
Floats = NDArray[np.float64]


def shuffled_keys(contents: Sequence[bytes], seed: int) -> list[bytes]:
    """Return a pseudorandom sort key for each content, determined by the seed and the content alone."""
    salt = b"%d:" % seed
    return [hashlib.sha256(salt + content).digest() for content in contents]


def together(contents: Sequence[bytes], groups: Sequence[str] | None) -> Numbers:
    """Return the unit of each row: rows that share content or group, directly or through other rows, form one unit.

    Method: union-find with path halving.

    Returns:
        Unit numbers from 0, in order of appearance.  # (row,)
    """
    parent: dict[Any, Any] = {}

    def root(key: Any) -> Any:
        while parent.setdefault(key, key) != key:
            parent[key] = parent[parent[key]]
            key = parent[key]
        return key

    for i, content in enumerate(contents):
        if groups is not None:
            parent[root(content)] = root(groups[i])
        else:
            root(content)
    numbers: dict[Any, int] = {}
    return np.array([numbers.setdefault(root(content), len(numbers)) for content in contents], dtype=np.int64)


def sample(strata: Numbers, keys: Sequence[bytes], most: int) -> NDArray[np.bool_]:
    """Choose `most` rows; the count of each stratum is within one row of its proportional share.

    Args:
        strata: Stratum of each row, from 0.  # (row,)
        keys: The sort key of each row.
        most: How many rows to choose; not more than there are.

    Returns:
        Whether each row is chosen.  # (row,)
    """
    counts = np.bincount(strata)
    wanted = np.vstack([counts * (most / len(strata)), counts * (1 - most / len(strata))])
    return np.equal(_deal(strata, keys, _rounded(wanted, counts)), 0)


def assign(classes: Numbers, units: Numbers, keys: Sequence[bytes], *, validation: float, test: float) -> Numbers:
    """Return the split of each row as an index into NAMES.

    Args:
        classes: Class id of each row.  # (row,)
        units: Unit of each row, from 0; a unit is never divided.  # (row,)
        keys: The sort key of each row; equal for rows with the same content.
        validation: Fraction of the rows for validation; 0 for no such split.
        test: Fraction of the rows for testing; 0 for no such split.

    Raises:
        DataError: Nothing is left to train on, or there are fewer units than splits.
    """
    shares = np.array([1 - validation - test, validation, test])
    if shares[0] < _EPSILON:
        what = f"validation_fraction {validation:g} and test_fraction {test:g} leave nothing to train on"
        raise DataError(what, hint="lower one of them")
    counts = np.bincount(classes)
    wanted: Floats = shares[:, None] * counts  # (split, class)
    splits = np.full(len(classes), -1, dtype=np.int64)
    is_single = np.bincount(units)[units] == 1  # (row,)
    _place_groups(splits, classes, units, keys, wanted)
    is_single &= ~_keep_rare(splits, classes, is_single, splits_wanted=int((shares > 0).sum()))
    _place_single_rows(splits, classes, keys, wanted, is_single)
    _fill_empty(splits, units, keys, shares)
    return splits


def _place_groups(splits: Numbers, classes: Numbers, units: Numbers, keys: Sequence[bytes], wanted: Floats) -> None:
    """Place every unit of several rows, the largest first, in the split where class counts come closest to `wanted`."""
    members: dict[int, list[int]] = {}
    for row, unit in enumerate(units.tolist()):
        members.setdefault(unit, []).append(row)
    groups = sorted(
        (rows for rows in members.values() if len(rows) > 1), key=lambda rows: (-len(rows), min(keys[r] for r in rows))
    )
    have = np.zeros_like(wanted)  # (split, class)
    possible = wanted.sum(axis=1) > 0
    scale = np.maximum(wanted, _EPSILON)
    for rows in groups:
        own = np.bincount(classes[rows], minlength=wanted.shape[1])  # (class,)
        hit = np.flatnonzero(own)
        gap = have[:, hit] - wanted[:, hit]
        change = ((2 * gap + own[hit]) * own[hit] / scale[:, hit]).sum(axis=1)  # change of the chi-square distance
        best = int(np.argmin(np.where(possible, change - _PREFERENCE, np.inf)))
        have[best] += own
        splits[rows] = best


def _keep_rare(
    splits: Numbers, classes: Numbers, is_single: NDArray[np.bool_], *, splits_wanted: int
) -> NDArray[np.bool_]:
    """Put the single rows of classes with fewer rows than splits into train; return which rows these are."""
    is_rare = (np.bincount(classes) < splits_wanted)[classes] & is_single
    splits[is_rare] = 0
    return is_rare


def _place_single_rows(
    splits: Numbers, classes: Numbers, keys: Sequence[bytes], wanted: Floats, is_single: NDArray[np.bool_]
) -> None:
    """Distribute the single rows so that the count of every class is within one row of the wanted count."""
    rows = np.flatnonzero(is_single)
    if not len(rows):
        return
    counts = np.bincount(classes[rows], minlength=wanted.shape[1])
    have = np.zeros_like(wanted)
    placed = splits >= 0
    np.add.at(have, (splits[placed], classes[placed]), 1)
    missing = np.maximum(wanted - have, 0)  # (split, class)
    total = missing.sum(axis=0)
    scaled = missing * np.divide(counts, total, out=np.zeros(len(counts)), where=total > 0)
    splits[rows] = _deal(classes[rows], [keys[row] for row in rows.tolist()], _rounded(scaled, counts))


def _rounded(wanted: Floats, counts: Numbers) -> Numbers:
    """Round each column of `wanted` to integers that sum to its count, each up or down by less than one.

    The rounding error of one class is carried to the next (error diffusion), so that the totals of the splits are right
    too.
    """
    rounded = np.floor(wanted + _EPSILON).astype(np.int64)  # (split, class)
    error = np.zeros(len(wanted))  # rows that each split has received too few so far
    for column, spare in enumerate(counts - rounded.sum(axis=0)):
        fraction = np.maximum(wanted[:, column] - rounded[:, column], 0.0)
        error += fraction
        priority = np.where(fraction > _EPSILON, error + _PREFERENCE[: len(wanted)], -np.inf)
        raised = np.argsort(-priority, kind="stable")[:spare]
        rounded[raised, column] += 1
        error[raised] -= 1
    return rounded


def _deal(classes: Numbers, keys: Sequence[bytes], quotas: Numbers) -> Numbers:
    """Return the split of each row: within a class, rows fill the quotas of the splits in the order of their keys."""
    order = sorted(range(len(classes)), key=lambda row: (classes[row], keys[row], row))
    splits = np.empty(len(classes), dtype=np.int64)
    splits[order] = np.repeat(np.tile(np.arange(len(quotas)), quotas.shape[1]), quotas.T.ravel())
    return splits


def _fill_empty(splits: Numbers, units: Numbers, keys: Sequence[bytes], shares: Floats) -> None:
    """Give every wanted split that is empty the smallest unit of the split that has the most units."""
    for empty in np.flatnonzero((shares > 0) & (np.bincount(splits, minlength=len(shares)) == 0)):
        units_of = [np.unique(units[splits == split]) for split in range(len(shares))]
        richest = max(range(len(shares)), key=lambda split: len(units_of[split]))
        if len(units_of[richest]) < 2:
            raise DataError(
                f"there are too few groups of rows: {len(np.unique(units))} for {int((shares > 0).sum())} splits",
                hint="choose another group_column, or set test_fraction to 0",
            )
        sizes = np.bincount(units)
        first: dict[int, bytes] = {}
        for row in np.flatnonzero(splits == richest).tolist():
            first[int(units[row])] = min(keys[row], first.get(int(units[row]), keys[row]))
        splits[units == min(first, key=lambda unit: (sizes[unit], first[unit]))] = empty

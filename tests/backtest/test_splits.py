"""Nothing learnt has seen its test: walk-forward windows and combinatorial purged splits (KA5)."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from backtest.splits import (
    DAY_NS,
    LAST_WINDOW_FRACTION_MIN,
    combinatorial_splits,
    path_count,
    rolling_windows,
)
from data.errors import ConfigError

HOUR_NS = DAY_NS // 24
START_NS = 1_325_376_000_000_000_000  # 2012-01-01T00:00:00Z


@st.composite
def histories(draw):
    """A history long enough for at least one window, with its settings."""
    train_days, test_days = draw(st.integers(1, 60)), draw(st.integers(1, 40))
    days = train_days + test_days + draw(st.integers(0, 300))
    first_ns = START_NS + draw(st.integers(-20_000, 20_000)) * DAY_NS + draw(st.integers(0, DAY_NS - 1))
    last_ns = (first_ns // DAY_NS + days - 1) * DAY_NS + draw(st.integers(0, DAY_NS - 1))
    assume(last_ns >= first_ns)
    purge_ns = draw(st.integers(0, train_days * DAY_NS - 1))
    embargo_ns = draw(st.integers(0, train_days * DAY_NS - 1 - purge_ns))
    return {
        "first_ns": first_ns,
        "last_ns": last_ns,
        "train_days": train_days,
        "test_days": test_days,
        "purge_ns": purge_ns,
        "embargo_ns": embargo_ns,
        "anchored": draw(st.booleans()),
    }


def windows_of(history):
    rest = {key: value for key, value in history.items() if key not in ("first_ns", "last_ns")}
    return rolling_windows(history["first_ns"], history["last_ns"], **rest)


@given(histories())
def test_no_label_reaches_a_test_and_the_embargo_is_kept(history):
    for window in windows_of(history):
        assert window.train_from_ns < window.train_until_ns
        last_train_ns = window.train_until_ns - 1
        label_end_ns = last_train_ns + history["purge_ns"]
        assert label_end_ns < window.test_from_ns - history["embargo_ns"]


@given(histories())
def test_tests_tile_everything_after_the_first_training_span(history):
    windows = windows_of(history)
    assert [window.index for window in windows] == list(range(len(windows)))
    for earlier, later in pairwise(windows):
        assert earlier.test_until_ns == later.test_from_ns
    first_midnight_ns = history["first_ns"] // DAY_NS * DAY_NS
    assert windows[0].train_from_ns == first_midnight_ns
    assert windows[0].test_from_ns == first_midnight_ns + history["train_days"] * DAY_NS
    assert windows[-1].test_until_ns - DAY_NS <= history["last_ns"] < windows[-1].test_until_ns


@given(histories())
def test_windows_lie_on_utc_days_and_have_their_lengths(history):
    windows = windows_of(history)
    test_ns = history["test_days"] * DAY_NS
    gap_ns = history["purge_ns"] + history["embargo_ns"]
    for window in windows:
        assert window.test_from_ns % DAY_NS == window.test_until_ns % DAY_NS == 0
        train_ns = window.test_from_ns - gap_ns - window.train_from_ns
        assert window.train_until_ns == window.test_from_ns - gap_ns
        if history["anchored"]:
            assert window.train_from_ns == windows[0].train_from_ns
        else:
            assert train_ns == history["train_days"] * DAY_NS - gap_ns
    for window in windows[:-1]:
        assert window.test_until_ns - window.test_from_ns == test_ns
    last_ns = windows[-1].test_until_ns - windows[-1].test_from_ns
    assert LAST_WINDOW_FRACTION_MIN * test_ns <= last_ns < (1 + LAST_WINDOW_FRACTION_MIN) * test_ns


@pytest.mark.parametrize(
    ("days", "lengths"),
    [
        (15, [5]),  # half a test window is enough
        (20, [10]),
        (24, [14]),  # four days are too few for a window of their own
        (25, [10, 5]),
        (30, [10, 10]),
    ],
)
def test_the_last_window_takes_what_is_left(days, lengths):
    windows = rolling_windows(
        START_NS,
        START_NS + days * DAY_NS - 1,
        train_days=10,
        test_days=10,
        purge_ns=HOUR_NS,
        embargo_ns=HOUR_NS,
    )
    assert [(window.test_until_ns - window.test_from_ns) // DAY_NS for window in windows] == lengths


def test_a_history_too_short_is_told_how_many_days_it_needs():
    settings_ = {"train_days": 100, "test_days": 21, "purge_ns": 0, "embargo_ns": 0}
    with pytest.raises(ConfigError, match=r"at least 111 days of history, had 110"):
        rolling_windows(START_NS, START_NS + 110 * DAY_NS - 1, **settings_)
    assert len(rolling_windows(START_NS, START_NS + 111 * DAY_NS - 1, **settings_)) == 1


@pytest.mark.parametrize(
    "change",
    [
        {"train_days": 0},
        {"test_days": 0},
        {"purge_ns": -1},
        {"embargo_ns": -1},
        {"purge_ns": 5 * DAY_NS, "embargo_ns": 5 * DAY_NS},  # nothing left to train on
        {"last_ns": START_NS - 1},
    ],
)
def test_impossible_settings_are_refused(change):
    arguments = {
        "first_ns": START_NS,
        "last_ns": START_NS + 90 * DAY_NS,
        "train_days": 10,
        "test_days": 10,
        "purge_ns": HOUR_NS,
        "embargo_ns": HOUR_NS,
    } | change
    with pytest.raises(ConfigError, match=r"was|were"):
        windows_of(arguments)


def test_ka5_six_folds_two_tests_give_fifteen_splits_and_five_paths():
    splits = combinatorial_splits(600, folds=6, test_folds=2, purge=2, embargo=3)
    assert len(splits) == 15
    assert path_count(6, 2) == 5
    assert {path for split in splits for path in split.paths} == set(range(5))
    for split in splits:
        tested = np.concatenate(split.test)
        gap = split.train[:, None] - tested[None, :]
        assert not ((gap >= -2) & (gap <= 5)).any()


@st.composite
def tables(draw):
    folds = draw(st.integers(2, 8))
    test_folds = draw(st.integers(1, folds - 1))
    rows = draw(st.integers(folds, 120))
    return {
        "observations": rows,
        "folds": folds,
        "test_folds": test_folds,
        "purge": draw(st.integers(0, 4)),
        "embargo": draw(st.integers(0, 4)),
    }


def splits_or_skip(table):
    try:
        return combinatorial_splits(**table)
    except ConfigError:
        # Small tables with wide gaps have splits without training rows; a test of its own covers them.
        assume(False)
        raise


@settings(deadline=None)
@given(tables())
def test_training_rows_are_exactly_those_beyond_the_gaps(table):
    for split in splits_or_skip(table):
        tested = np.concatenate(split.test)
        rows = np.arange(table["observations"])
        gap = rows[:, None] - tested[None, :]
        near = (gap >= -table["purge"]) & (gap <= table["purge"] + table["embargo"])
        assert split.train.tolist() == rows[~near.any(axis=1)].tolist()


@settings(deadline=None)
@given(tables())
def test_each_path_tests_every_row_once(table):
    splits = splits_or_skip(table)
    assert len(splits) == math.comb(table["folds"], table["test_folds"])
    paths = path_count(table["folds"], table["test_folds"])
    seen = np.zeros((paths, table["observations"]), dtype=int)
    for split in splits:
        for path, rows in zip(split.paths, split.test, strict=True):
            seen[path, rows] += 1
    assert (seen == 1).all()


@pytest.mark.parametrize(("purge", "embargo"), [(2, 3), (0, 0), (0, 4), (5, 0)])
@pytest.mark.parametrize(("folds", "test_folds"), [(6, 2), (10, 3), (5, 4)])
def test_splits_equal_those_of_skfolio(folds, test_folds, purge, embargo):
    model_selection = pytest.importorskip("skfolio.model_selection")
    theirs = model_selection.CombinatorialPurgedCV(
        n_folds=folds, n_test_folds=test_folds, purged_size=purge, embargo_size=embargo
    )
    rows = 30 * folds  # with a remainder, the two distribute it differently over the folds
    ours = combinatorial_splits(rows, folds=folds, test_folds=test_folds, purge=purge, embargo=embargo)
    expected = list(theirs.split(np.zeros((rows, 1))))
    assert len(ours) == len(expected) == theirs.n_splits
    assert path_count(folds, test_folds) == theirs.n_test_paths
    for split, (train, test) in zip(ours, expected, strict=True):
        assert split.train.tolist() == train.tolist()
        assert [fold.tolist() for fold in split.test] == [fold.tolist() for fold in test]
    if test_folds == 2:
        assert [list(split.paths) for split in ours] == theirs.get_path_ids().tolist()


@pytest.mark.parametrize(
    "arguments",
    [
        {"observations": 10, "folds": 2, "test_folds": 2},
        {"observations": 10, "folds": 2, "test_folds": 0},
        {"observations": 5, "folds": 6, "test_folds": 2},
        {"observations": 60, "folds": 6, "test_folds": 2, "purge": -1},
        {"observations": 60, "folds": 6, "test_folds": 2, "embargo": -1},
        {"observations": 60, "folds": 6, "test_folds": 2, "purge": 30},
    ],
)
def test_impossible_folds_are_refused(arguments):
    with pytest.raises(ConfigError):
        combinatorial_splits(**arguments)

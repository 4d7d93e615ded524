"""Splitting a history so that nothing learnt has seen what it is tested on.

Two gaps keep training and test apart. The *purge* is the label horizon: a sample this close before a test
would be labelled with prices of the test. The *embargo* is a further pause for features with a long memory.

`rolling_windows` cuts time for walk-forward; `combinatorial_splits` cuts a table of samples for
cross-validation with several backtest paths (López de Prado, "Advances in Financial Machine Learning", 2018,
chapters 7 and 12).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from data.errors import ConfigError

DAY_NS = 86_400_000_000_000

LAST_WINDOW_FRACTION_MIN = 0.5
"""Days that fill less than this share of a test window lengthen the one before instead."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Window:
    """One walk-forward step; ns since the Unix epoch, ends exclusive.

    Parameters
    ----------
    index : int
        From 0, in time order.
    train_from_ns, train_until_ns : int
        Samples whose time lies in here may be learnt from, with labels up to the purge later.
    test_from_ns, test_until_ns : int
        UTC midnights.
    """

    index: int
    train_from_ns: int
    train_until_ns: int
    test_from_ns: int
    test_until_ns: int


def rolling_windows(
    first_ns: int,
    last_ns: int,
    *,
    train_days: int,
    test_days: int,
    purge_ns: int,
    embargo_ns: int,
    anchored: bool = False,
) -> tuple[Window, ...]:
    """Cut a history into walk-forward windows along UTC calendar days.

    The first `train_days` days are never tested. After them the test windows follow each other without gap or
    overlap to the end of the day of `last_ns`. Each window trains on the `train_days` days before its test
    (all of them when `anchored`), less the last ``purge_ns + embargo_ns``: the gaps cost training data, never
    test data.

    Parameters
    ----------
    first_ns, last_ns : int
        First and last event, inclusive, ns since the Unix epoch; the first day may be partial.
    train_days, test_days : int
        Calendar days, positive. The last test window has between 0.5 and 1.5 times `test_days`.
    purge_ns : int
        Horizon of the labels.
    embargo_ns : int
        Further pause between the purge and the test.

    Raises
    ------
    ConfigError
        With the days needed, when the history is too short for one window.
    """
    for name, value in (("train_days", train_days), ("test_days", test_days)):
        if value <= 0:
            raise ConfigError(f"{name} must be positive, was {value}")
    for name, value in (("purge_ns", purge_ns), ("embargo_ns", embargo_ns)):
        if value < 0:
            raise ConfigError(f"{name} must not be negative, was {value}")
    gap_ns = purge_ns + embargo_ns
    if gap_ns >= train_days * DAY_NS:
        raise ConfigError(f"purge and embargo must fit into {train_days} training days, were {gap_ns} ns")
    if last_ns < first_ns:
        raise ConfigError(f"last_ns must not precede first_ns = {first_ns}, was {last_ns}")

    first_day = first_ns // DAY_NS
    days = last_ns // DAY_NS + 1 - first_day
    starts = _test_starts(days, train_days=train_days, test_days=test_days)
    windows = []
    for index, (start, until) in enumerate(zip(starts, [*starts[1:], days], strict=True)):
        train_start = 0 if anchored else start - train_days
        windows.append(
            Window(
                index=index,
                train_from_ns=(first_day + train_start) * DAY_NS,
                train_until_ns=(first_day + start) * DAY_NS - gap_ns,
                test_from_ns=(first_day + start) * DAY_NS,
                test_until_ns=(first_day + until) * DAY_NS,
            )
        )
    return tuple(windows)


def _test_starts(days: int, *, train_days: int, test_days: int) -> list[int]:
    """Return the first day of each test window, counted from the first day of the history."""
    test_days_min = max(1, math.ceil(test_days * LAST_WINDOW_FRACTION_MIN))
    if days < train_days + test_days_min:
        raise ConfigError(
            f"walk-forward with {train_days} training and {test_days} test days needs at least "
            f"{train_days + test_days_min} days of history, had {days}"
        )
    starts = list(range(train_days, days, test_days))
    if days - starts[-1] < test_days_min:
        starts.pop()
    return starts


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class CombinatorialSplit:
    """One way of choosing the test folds.

    Parameters
    ----------
    index : int
    train : array of int64, shape (n_train,)
        Rows to learn from, ascending.
    test : tuple of arrays of int64
        Rows of each test fold, in fold order.
    test_folds : tuple of int
        Number of each test fold.
    paths : tuple of int
        Backtest path that each test fold belongs to.
    """

    index: int
    train: NDArray[np.int64]
    test: tuple[NDArray[np.int64], ...]
    test_folds: tuple[int, ...]
    paths: tuple[int, ...]


def path_count(folds: int, test_folds: int) -> int:
    """Return how many complete backtest paths the splits recombine into: C(N, k) k / N."""
    return math.comb(folds, test_folds) * test_folds // folds


def combinatorial_splits(
    observations: int, *, folds: int, test_folds: int, purge: int = 0, embargo: int = 0
) -> tuple[CombinatorialSplit, ...]:
    """Return every choice of `test_folds` test folds out of `folds`, purged and embargoed.

    Folds are contiguous and differ by at most one row. A row leaves the training set when it lies within
    `purge` rows before a test row, or within ``purge + embargo`` rows after one: after a test the purge
    stands for the test's own labels, which reach that far forward. Path p consists of each fold's p-th
    appearance as a test.

    Parameters
    ----------
    observations : int
        Rows, in time order.
    folds, test_folds : int
        N and k, with 1 <= k < N <= observations.
    purge, embargo : int
        Rows.

    Raises
    ------
    ConfigError
        Also when the gaps leave some split without training rows.
    """
    if not 1 <= test_folds < folds <= observations:
        raise ConfigError(
            "test_folds, folds and observations must ascend from 1, "
            f"were {test_folds}, {folds} and {observations}"
        )
    for name, value in (("purge", purge), ("embargo", embargo)):
        if value < 0:
            raise ConfigError(f"{name} must not be negative, was {value}")

    rows_of = np.array_split(np.arange(observations, dtype=np.int64), folds)
    appearances = [0] * folds
    splits = []
    for index, chosen in enumerate(combinations(range(folds), test_folds)):
        allowed = np.ones(observations, dtype=np.bool_)
        for fold in chosen:
            first, last = int(rows_of[fold][0]), int(rows_of[fold][-1])
            allowed[max(0, first - purge) : last + 1 + purge + embargo] = False
        train = np.flatnonzero(allowed)
        if train.size == 0:
            raise ConfigError(
                f"purge {purge} and embargo {embargo} leave no training rows beside test folds {chosen}"
            )
        paths = tuple(appearances[fold] for fold in chosen)
        for fold in chosen:
            appearances[fold] += 1
        splits.append(
            CombinatorialSplit(
                index=index,
                train=train,
                test=tuple(rows_of[fold] for fold in chosen),
                test_folds=chosen,
                paths=paths,
            )
        )
    return tuple(splits)

"""Probability of backtest overfitting by combinatorially symmetric cross-validation (CSCV).

Every way of halving the history picks its best configuration in one half and ranks that configuration in the
other. Where selection means something, the winner stays in the upper half. Bailey, Borwein, López de Prado &
Zhu, "The Probability of Backtest Overfitting", J. Computational Finance 20(4), 2017.

Both metrics are functions of the mean and the variance of a half, and these of block sums, so all halves
together cost two small matrix products instead of a pass over the history each.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations, islice

import numpy as np
from numpy.typing import ArrayLike

from data.errors import ConfigError

from .samples import Floats

Metric = Callable[[Floats, Floats], Floats]
"""Scores from the means and variances of each (half, configuration); larger is better."""

BLOCKS_MAX = 20
_HALVES_PER_BATCH = 2_048


@dataclass(frozen=True, kw_only=True, slots=True)
class Overfitting:
    """What CSCV found.

    Parameters
    ----------
    probability : float
        PBO: share of halvings whose in-sample winner is not above the out-of-sample median (logit <= 0).
    probability_of_loss : float
        Share of halvings whose in-sample winner scores below 0 out of sample.
    logits : array, shape (n_halvings,)
        ln(w / (1 − w)), with w the winner's out-of-sample rank over N + 1; in lexicographic order of the
        in-sample blocks.
    observations : int
        Rows used; the oldest rows that fill no whole block are left out.
    """

    probability: float
    probability_of_loss: float
    logits: Floats
    observations: int


def mean_metric(mean: Floats, variance: Floats) -> Floats:
    """Score by mean return."""
    return mean


def sharpe_metric(mean: Floats, variance: Floats) -> Floats:
    """Score by Sharpe ratio; NaN where returns never vary."""
    return np.divide(mean, np.sqrt(variance), out=np.full_like(mean, np.nan), where=variance > 0.0)


def overfitting_probability(
    returns: ArrayLike, *, blocks: int = 16, metric: Metric = sharpe_metric
) -> Overfitting:
    """Run CSCV on the returns of every configuration that was tried.

    Parameters
    ----------
    returns : array_like, shape (n_periods, n_configurations)
        Finite, in time order; at least two configurations. Leaving out the ones that failed defeats the
        purpose.
    blocks : int
        S, even, 2 to 20, with at least two periods in each block; C(S, S/2) halvings, so 16 gives 12,870.
    metric : Metric
        `sharpe_metric`, `mean_metric` or the caller's own.

    Raises
    ------
    ConfigError
        Also when a score does not exist, as the Sharpe ratio of a configuration that never trades in one
        half.
    """
    sample = _checked_returns(returns, blocks=blocks)
    rows, count = sample.shape
    shift = sample.mean(axis=0)
    # Centring on the whole history keeps the sums of squares from cancelling against large means.
    by_block = (sample - shift).reshape(blocks, rows // blocks, count)
    sums, squares = by_block.sum(axis=1), (by_block**2).sum(axis=1)

    halves = combinations(range(blocks), blocks // 2)
    logits: list[Floats] = []
    losses = 0
    while batch := list(islice(halves, _HALVES_PER_BATCH)):
        inside = np.zeros((len(batch), blocks))
        np.put_along_axis(inside, np.array(batch), 1.0, axis=1)
        scores_in = _scores(inside, sums, squares, rows=rows // 2, shift=shift, metric=metric)
        scores_out = _scores(1.0 - inside, sums, squares, rows=rows // 2, shift=shift, metric=metric)
        won = np.take_along_axis(scores_out, scores_in.argmax(axis=1)[:, None], axis=1)
        # Ties share their average rank. 1 is the worst rank, N the best.
        rank = (scores_out < won).sum(axis=1) + ((scores_out == won).sum(axis=1) + 1) / 2.0
        logits.append(np.log(rank / (count + 1 - rank)))
        losses += int((won < 0.0).sum())

    every = np.concatenate(logits)
    return Overfitting(
        probability=float(np.mean(every <= 0.0)),
        probability_of_loss=losses / math.comb(blocks, blocks // 2),
        logits=every,
        observations=rows,
    )


def _checked_returns(returns: ArrayLike, *, blocks: int) -> Floats:
    """Return the newest rows that fill whole blocks, or raise `ConfigError`."""
    if blocks % 2 or not 2 <= blocks <= BLOCKS_MAX:
        raise ConfigError(f"blocks must be even and lie between 2 and {BLOCKS_MAX}, was {blocks}")
    sample = np.asarray(returns, dtype=np.float64)
    if sample.ndim != 2 or sample.shape[1] < 2:
        raise ConfigError(f"returns must have shape (n_periods, 2 or more), had {sample.shape}")
    if sample.shape[0] < 2 * blocks:
        raise ConfigError(f"{blocks} blocks need at least {2 * blocks} periods, had {sample.shape[0]}")
    bad = np.argwhere(~np.isfinite(sample))
    if bad.size:
        row, column = bad[0]
        raise ConfigError(f"returns must be finite, row {row} column {column} was {sample[row, column]}")
    return sample[sample.shape[0] % blocks :]


def _scores(
    members: Floats, sums: Floats, squares: Floats, *, rows: int, shift: Floats, metric: Metric
) -> Floats:
    """Return the metric of every (half, configuration); `members` (n_halves, n_blocks) marks the blocks."""
    centred = members @ sums / rows
    second = members @ squares / rows
    variance = second - centred**2
    # What remains below a few ulps of either moment is rounding: such returns never varied.
    variance[variance <= 64.0 * np.finfo(np.float64).eps * (second + shift**2)] = 0.0
    scores = metric(centred + shift, variance * (rows / (rows - 1)))
    if not np.isfinite(scores).all():
        column = int(np.argwhere(~np.isfinite(scores))[0, 1])
        raise ConfigError(f"every half needs a finite score, configuration {column} has one without")
    return scores

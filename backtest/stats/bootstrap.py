"""Confidence intervals by resampling blocks of days.

Days are the unit because costs inside one day share a regime, and days follow each other in blocks because
regimes last. The stationary bootstrap (Politis & Romano, JASA 89, 1994) draws the blocks, with the mean
length of Politis & White (2004, corrected by Patton, Politis & White 2009); both come from `arch`. Every
statistic here is a function of column means, so one kernel resamples them all.

Plain percentile bounds are too narrow by the small-sample factor; they are expanded as in Hesterberg ("What
Teachers Should Know About the Bootstrap", Am. Statistician 69, 2015, §4.2), counting blocks, not days, as the
independent pieces. For independent days this agrees with Student's interval.

Rules for thin input: a day with NaN in any series is dropped from all of them; below `DAYS_MIN` days, or
where the statistic does not exist (in the sample or in some resample), the bounds are NaN.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import ndtr, stdtrit

from data.errors import ConfigError

from ..result import Interval
from .samples import Floats, never_varies, vector
from .sharpe import annualise, return_moments

DAYS_MIN = 5
REPLICATIONS = 2_000

# Fewer days carry no usable autocorrelation estimate; the n^(1/3) rate alone sets the block then.
_DAYS_FOR_ESTIMATE = 16

# From column means, shape (n_samples, n_columns), to the statistic of each sample.
_Statistic = Callable[[Floats], Floats]


def mean_interval(
    daily: ArrayLike, *, seed: int, confidence: float = 0.95, replications: int = REPLICATIONS
) -> Interval:
    """Return the mean of a daily series with its block-bootstrap interval.

    Parameters
    ----------
    daily : array_like, shape (n_days,)
        In time order; NaN days are dropped.
    seed : int
        The interval is a pure function of the input and this seed.
    confidence : float
        Between 0 and 1.
    replications : int
        At least 100.

    Returns
    -------
    Interval
        `mean` is the sample's, not the resamples' average.
    """
    (values,) = _paired_days(daily=daily)
    return _interval(
        values[None, :],
        lambda means: means[:, 0],
        influence=values,
        seed=seed,
        confidence=confidence,
        replications=replications,
    )


def ratio_interval(
    numerator_by_day: ArrayLike,
    denominator_by_day: ArrayLike,
    *,
    seed: int,
    confidence: float = 0.95,
    replications: int = REPLICATIONS,
) -> Interval:
    """Return Σ numerator / Σ denominator with its block-bootstrap interval.

    With cost over notional this is the size-weighted mean cost: a quiet day counts for what it traded.

    Parameters
    ----------
    numerator_by_day, denominator_by_day : array_like, shape (n_days,)
        Resampled together by day; the denominator is not negative.
    seed, confidence, replications
        As in `mean_interval`.
    """
    top, bottom = _paired_days(numerator=numerator_by_day, denominator=denominator_by_day)
    _require_not_negative(bottom, name="denominator_by_day")
    return _interval(
        np.stack((top, bottom)),
        lambda means: _quotient(means[:, 0], means[:, 1]),
        influence=_ratio_influence(top, bottom),
        seed=seed,
        confidence=confidence,
        replications=replications,
    )


def paired_difference_interval(
    numerator_a: ArrayLike,
    numerator_b: ArrayLike,
    denominator: ArrayLike,
    *,
    denominator_b: ArrayLike | None = None,
    seed: int,
    confidence: float = 0.95,
    replications: int = REPLICATIONS,
) -> Interval:
    """Return ratio A minus ratio B with an interval that keeps the days of both together.

    What moves both on the same day cancels, so the interval can exclude 0 although those of A and B overlap.

    Parameters
    ----------
    numerator_a, numerator_b : array_like, shape (n_days,)
    denominator : array_like, shape (n_days,)
        Of A, and of B too unless `denominator_b` is given; not negative.
    seed, confidence, replications
        As in `mean_interval`.
    """
    top_a, top_b, bottom_a, bottom_b = _paired_days(
        numerator_a=numerator_a,
        numerator_b=numerator_b,
        denominator=denominator,
        denominator_b=denominator if denominator_b is None else denominator_b,
    )
    _require_not_negative(bottom_a, name="denominator")
    _require_not_negative(bottom_b, name="denominator_b")
    return _interval(
        np.stack((top_a, bottom_a, top_b, bottom_b)),
        lambda means: _quotient(means[:, 0], means[:, 1]) - _quotient(means[:, 2], means[:, 3]),
        influence=_ratio_influence(top_a, bottom_a) - _ratio_influence(top_b, bottom_b),
        seed=seed,
        confidence=confidence,
        replications=replications,
    )


def sharpe_interval(
    daily_returns: ArrayLike,
    *,
    periods_per_year: float,
    seed: int,
    confidence: float = 0.95,
    replications: int = REPLICATIONS,
) -> Interval:
    """Return the yearly Sharpe ratio of a series with its block-bootstrap interval.

    Parameters
    ----------
    daily_returns : array_like, shape (n_days,)
        Excess returns or profits; NaN days are dropped.
    periods_per_year : float
        Rows of the series in one year.
    seed, confidence, replications
        As in `mean_interval`.
    """
    root = annualise(1.0, periods_per_year=periods_per_year)
    (values,) = _paired_days(daily_returns=daily_returns)
    count, moments = values.size, return_moments(values)
    if not moments.deviation > 0.0:
        return Interval(mean=math.nan, low=math.nan, high=math.nan, confidence=_checked(confidence))
    # In standard units the second moment neither cancels nor overflows.
    scale = moments.deviation * math.sqrt((count - 1) / count)
    units = (values - moments.mean) / scale
    centre = moments.mean / scale

    def yearly(means: Floats) -> Floats:
        variance = (means[:, 1] - means[:, 0] ** 2) * count / (count - 1)
        # A resample of one repeated value has no Sharpe ratio; rounding must not invent one.
        variance[variance <= 1e-12] = np.nan
        return np.asarray(root * (centre + means[:, 0]) / np.sqrt(variance), dtype=np.float64)

    return _interval(
        np.stack((units, units**2)),
        yearly,
        influence=units - centre / 2.0 * (units**2 - 1.0),
        seed=seed,
        confidence=confidence,
        replications=replications,
    )


def block_length(series: ArrayLike) -> int:
    """Return the mean block length, in days, for the stationary bootstrap of a series' mean.

    Politis & White's estimate rounded up; the cube root of n below 16 days; 1 when nothing varies.
    """
    values = vector(series, name="series")
    if values.size < 2 or never_varies(values):
        return 1
    if values.size < _DAYS_FOR_ESTIMATE:
        return round(math.pow(values.size, 1.0 / 3.0))
    # arch brings pandas and statsmodels, two seconds that `--help` need not pay.
    from arch.bootstrap import optimal_block_length

    # Scaled, so that products of tiny or huge values stay in range.
    centred = values - values.mean()
    estimate = float(optimal_block_length(centred / np.abs(centred).max())["stationary"].iloc[0])
    return max(1, math.ceil(estimate)) if math.isfinite(estimate) else 1


def _interval(
    columns: Floats,
    statistic: _Statistic,
    *,
    influence: Floats,
    seed: int,
    confidence: float,
    replications: int,
) -> Interval:
    """Resample the days of `columns` (n_columns, n_days); `influence` is the statistic's daily derivative.

    The bootstrap of a smooth function of means behaves as that of the mean of its influence, so the block
    length is estimated there.
    """
    _checked(confidence)
    if replications < 100:
        raise ConfigError(f"replications must be at least 100, was {replications}")
    days = columns.shape[1]
    if days == 0:
        return Interval(mean=math.nan, low=math.nan, high=math.nan, confidence=confidence)
    point = float(statistic(columns.mean(axis=1)[None, :])[0])
    if days < DAYS_MIN or not math.isfinite(point):
        return Interval(mean=point, low=math.nan, high=math.nan, confidence=confidence)

    block = block_length(influence)
    means = _resampled_means(columns, block=block, seed=seed, replications=replications)
    tail = _expanded_tail(days / block, confidence=confidence)
    low, high = np.quantile(statistic(means), (tail, 1.0 - tail))
    return Interval(mean=point, low=float(low), high=float(high), confidence=confidence)


def _resampled_means(columns: Floats, *, block: int, seed: int, replications: int) -> Floats:
    """Return the column means of each resample, shape (replications, n_columns)."""
    from arch.bootstrap import StationaryBootstrap

    days = columns.shape[1]
    sampler = StationaryBootstrap(block, np.arange(days), seed=np.random.default_rng(seed))
    means = np.empty((replications, columns.shape[0]))
    # Only arch's index stream is used: its `apply` copies and checks every series each time, which
    # made five years of days an order of magnitude slower.
    for row in means:
        columns.take(sampler.update_indices(), axis=1).mean(axis=1, out=row)
    return means


def _expanded_tail(pieces: float, *, confidence: float) -> float:
    """Return the percentile, as a fraction, at which an interval from `pieces` independent parts is cut."""
    pieces = max(pieces, 2.0)
    student = -float(stdtrit(pieces - 1.0, (1.0 - confidence) / 2.0))
    return float(ndtr(-student * math.sqrt(pieces / (pieces - 1.0))))


def _paired_days(**series: ArrayLike) -> list[Floats]:
    """Return the series without the days on which any of them is NaN."""
    vectors = {name: vector(values, name=name) for name, values in series.items()}
    sizes = {name: values.size for name, values in vectors.items()}
    if len(set(sizes.values())) > 1:
        raise ConfigError(f"paired series must have one length, had {sizes}")
    for name, values in vectors.items():
        infinite = np.flatnonzero(np.isinf(values))
        if infinite.size:
            raise ConfigError(f"{name} must be finite or NaN, row {infinite[0]} was {values[infinite[0]]}")
    observed = ~np.isnan(np.stack(list(vectors.values()))).any(axis=0)
    return [values[observed] for values in vectors.values()]


def _require_not_negative(values: Floats, *, name: str) -> None:
    if values.size and values.min() < 0.0:
        raise ConfigError(f"{name} must not be negative, was {values.min()}")


def _quotient(top: Floats, bottom: Floats) -> Floats:
    """Divide; NaN where nothing was traded."""
    return np.divide(top, bottom, out=np.full_like(top, np.nan), where=bottom > 0.0)


def _ratio_influence(top: Floats, bottom: Floats) -> Floats:
    """Return the daily derivative of Σtop / Σbottom; zeros where the ratio does not exist."""
    total = float(bottom.sum())
    if not total > 0.0:
        return np.zeros_like(top)
    return (top - float(top.sum()) / total * bottom) * (bottom.size / total)


def _checked(confidence: float) -> float:
    if not 0.0 < confidence < 1.0:
        raise ConfigError(f"confidence must lie between 0 and 1, was {confidence}")
    return confidence

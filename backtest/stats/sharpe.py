"""Sharpe ratios that admit how short, how skewed and how often tried a record is.

One convention everywhere: Sharpe ratios are per period (not annualised), of excess returns, with the
sample deviation (divisor T − 1); kurtosis is raw (a normal distribution has 3). A ratio that does not exist
(fewer than two observations, or returns that never vary) is NaN, and everything derived from it is NaN.
Returns that are not finite, and parameters outside their range, raise `ConfigError`.

The formulas are those of Bailey & López de Prado, "The Sharpe Ratio Efficient Frontier", J. Risk 15(2), 2012
(PSR, MinTRL), and "The Deflated Sharpe Ratio", J. Portfolio Management 40(5), 2014 (DSR); with Borwein and
Zhu, "Pseudo-Mathematics and Financial Charlatanism", Notices of the AMS 61(5), 2014 (MinBTL).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import ndtr, ndtri

from data.errors import ConfigError

from .samples import finite_vector, never_varies

NORMAL_KURTOSIS = 3.0


@dataclass(frozen=True, kw_only=True, slots=True)
class ReturnMoments:
    """What the Sharpe statistics need to know about a series of returns.

    Parameters
    ----------
    observations : int
    mean : float
        Per period.
    deviation : float
        Sample standard deviation per period, divisor T − 1; exactly 0 when the returns never vary.
    skew, kurtosis : float
        Standardised third and fourth moment, divisor T, kurtosis raw. NaN where `sharpe` is.
    """

    observations: int
    mean: float
    deviation: float
    skew: float
    kurtosis: float

    @property
    def sharpe(self) -> float:
        """Mean over deviation, per period; NaN where it does not exist."""
        return self.mean / self.deviation if self.deviation > 0.0 else math.nan


def return_moments(returns: ArrayLike) -> ReturnMoments:
    """Return count, mean, deviation, skew and raw kurtosis of a series.

    Parameters
    ----------
    returns : array_like, shape (n_periods,)
        Excess returns or profits; must be finite.
    """
    values = finite_vector(returns, name="returns")
    count = values.size
    mean = float(values.mean()) if count else math.nan
    if count < 2:
        return ReturnMoments(
            observations=count, mean=mean, deviation=math.nan, skew=math.nan, kurtosis=math.nan
        )
    if never_varies(values):
        return ReturnMoments(observations=count, mean=mean, deviation=0.0, skew=math.nan, kurtosis=math.nan)
    # Scaling first keeps the powers of tiny or huge returns inside the range of doubles.
    centred = values - mean
    scale = float(np.abs(centred).max())
    centred /= scale
    variance = float(np.mean(centred**2))
    return ReturnMoments(
        observations=count,
        mean=mean,
        deviation=scale * math.sqrt(variance * count / (count - 1)),
        skew=float(np.mean(centred**3)) / variance**1.5,
        kurtosis=float(np.mean(centred**4)) / variance**2,
    )


def sharpe_ratio(returns: ArrayLike) -> float:
    """Return the Sharpe ratio per period; NaN below two observations or without variation.

    Examples
    --------
    >>> round(sharpe_ratio([0.01, 0.03, -0.01, 0.01]), 4)
    0.6124
    """
    return return_moments(returns).sharpe


def annualise(sharpe: float, *, periods_per_year: float) -> float:
    """Return the yearly Sharpe ratio of a per-period one, as if periods were independent.

    Positive autocorrelation makes the true yearly ratio smaller (Lo, "The Statistics of Sharpe Ratios",
    Financial Analysts J. 58(4), 2002).
    """
    if not 0.0 < periods_per_year < math.inf:
        raise ConfigError(f"periods_per_year must be positive and finite, was {periods_per_year}")
    return sharpe * math.sqrt(periods_per_year)


def probabilistic_sharpe(
    sharpe: float,
    *,
    observations: int,
    skew: float = 0.0,
    kurtosis: float = NORMAL_KURTOSIS,
    benchmark: float = 0.0,
) -> float:
    """Return PSR, the probability that the true Sharpe ratio exceeds `benchmark`.

    Parameters
    ----------
    sharpe, benchmark : float
        Per period.
    observations : int
        Number of returns behind `sharpe`; below 2 the result is NaN.
    skew, kurtosis : float
        Of the returns; kurtosis raw.

    Returns
    -------
    float
        In [0, 1], or NaN where it does not exist.
    """
    variance = _estimator_variance(sharpe, skew=skew, kurtosis=kurtosis)
    if observations < 2 or math.isnan(benchmark) or not variance > 0.0:
        return math.nan
    return float(ndtr((sharpe - benchmark) * math.sqrt((observations - 1) / variance)))


def min_track_record_length(
    sharpe: float,
    *,
    skew: float = 0.0,
    kurtosis: float = NORMAL_KURTOSIS,
    benchmark: float = 0.0,
    confidence: float = 0.95,
) -> float:
    """Return MinTRL, the observations needed until PSR(`benchmark`) reaches `confidence`.

    Returns
    -------
    float
        In periods, fractional; infinite when `sharpe` does not exceed `benchmark`.
    """
    if not 0.5 < confidence < 1.0:
        raise ConfigError(f"confidence must lie between 0.5 and 1, was {confidence}")
    variance = _estimator_variance(sharpe, skew=skew, kurtosis=kurtosis)
    if math.isnan(benchmark) or not variance > 0.0:
        return math.nan
    if sharpe <= benchmark:
        return math.inf
    # Divided before squaring: the square of a subnormal difference would be zero.
    return 1.0 + variance * (float(ndtri(confidence)) / (sharpe - benchmark)) ** 2


def expected_maximum_sharpe(trials: int, *, trial_sharpe_variance: float = 1.0) -> float:
    """Return the best Sharpe ratio to expect from `trials` independent trials without any skill.

    Parameters
    ----------
    trials : int
        At least 1; one trial is nobody's maximum, so its expectation is 0.
    trial_sharpe_variance : float
        Variance of the trials' Sharpe ratios; the result has the unit of its root, so the default gives
        multiples of their standard deviation.
    """
    if trials < 1:
        raise ConfigError(f"trials must be at least 1, was {trials}")
    if not 0.0 <= trial_sharpe_variance < math.inf:
        raise ConfigError(f"trial_sharpe_variance must be finite and >= 0, was {trial_sharpe_variance}")
    if trials == 1:
        return 0.0
    # Φ⁻¹(1 − p) is taken as −Φ⁻¹(p): 1 − p rounds to 1 for many trials.
    gamma = float(np.euler_gamma)
    typical = -float(ndtri(1.0 / trials))
    spread = -float(ndtri(1.0 / (trials * math.e)))
    return math.sqrt(trial_sharpe_variance) * ((1.0 - gamma) * typical + gamma * spread)


def deflated_sharpe(
    sharpe: float,
    *,
    observations: int,
    skew: float,
    kurtosis: float,
    trials: int,
    trial_sharpe_variance: float,
) -> float:
    """Return DSR: PSR against the best ratio that luck alone would have found in `trials` trials.

    Parameters
    ----------
    sharpe : float
        Per period, of the selected trial.
    observations, skew, kurtosis
        As in `probabilistic_sharpe`.
    trials : int
        Independent trials; correlated ones counted in full make the result conservative.
    trial_sharpe_variance : float
        Variance of the per-period Sharpe ratios over the trials.
    """
    luck = expected_maximum_sharpe(trials, trial_sharpe_variance=trial_sharpe_variance)
    return probabilistic_sharpe(
        sharpe, observations=observations, skew=skew, kurtosis=kurtosis, benchmark=luck
    )


def min_backtest_length(trials: int, *, target: float) -> float:
    """Return MinBTL: years of history below which luck is expected to reach `target` in sample.

    Parameters
    ----------
    trials : int
        Independent configurations tried.
    target : float
        Yearly Sharpe ratio that would be believed, positive.

    Returns
    -------
    float
        Years; 0 for a single trial.
    """
    if not 0.0 < target < math.inf:
        raise ConfigError(f"target must be positive and finite, was {target}")
    return (expected_maximum_sharpe(trials) / target) ** 2


def _estimator_variance(sharpe: float, *, skew: float, kurtosis: float) -> float:
    """Return (T − 1)·Var[estimated Sharpe]; NaN where an input does not exist."""
    if math.isnan(sharpe) or math.isnan(skew) or math.isnan(kurtosis):
        return math.nan
    if not all(map(math.isfinite, (sharpe, skew, kurtosis))):
        raise ConfigError(f"sharpe, skew and kurtosis must be finite, were {sharpe}, {skew}, {kurtosis}")
    # Pearson's inequality. It also catches most excess kurtoses passed by mistake.
    if kurtosis < (1.0 + skew * skew) * (1.0 - 1e-9):
        raise ConfigError(
            f"kurtosis is raw (normal = 3) and at least 1 + skew² = {1.0 + skew * skew}, was {kurtosis}"
        )
    return 1.0 - skew * sharpe + (kurtosis - 1.0) / 4.0 * sharpe * sharpe

"""Published Sharpe statistics come out as printed, and their known limits hold everywhere else."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate
from scipy import stats as scipy_stats

from backtest.stats.sharpe import (
    annualise,
    deflated_sharpe,
    expected_maximum_sharpe,
    min_backtest_length,
    min_track_record_length,
    probabilistic_sharpe,
    return_moments,
    sharpe_ratio,
)
from data.errors import ConfigError

SHARPES = st.floats(-2.0, 2.0)
OBSERVATIONS = st.integers(2, 100_000)


@st.composite
def shapes(draw):
    """Skew and raw kurtosis that some distribution has."""
    skew = draw(st.floats(-4.0, 4.0))
    return skew, 1.0 + skew * skew + draw(st.floats(0.01, 20.0))


def test_ka1_deflated_sharpe_of_the_paper():
    """Bailey & López de Prado (2014), numerical example: SR₀ = 0.1132, DSR = 0.9004."""
    variance = 0.5 / 250
    luck = expected_maximum_sharpe(100, trial_sharpe_variance=variance)
    assert luck == pytest.approx(0.1132, abs=5e-5)
    deflated = deflated_sharpe(
        2.5 / math.sqrt(250),
        observations=1250,
        skew=-3.0,
        kurtosis=10.0,
        trials=100,
        trial_sharpe_variance=variance,
    )
    assert deflated == pytest.approx(0.9004, abs=5e-5)


@pytest.mark.parametrize(("trials", "skew", "kurtosis"), [(46, -3.0, 10.0), (88, 0.0, 3.0)])
def test_ka1_trials_that_the_same_strategy_would_survive(trials, skew, kurtosis):
    """Same example: DSR = 0.9505 after 46 trials, or after 88 had the returns been normal."""
    deflated = deflated_sharpe(
        2.5 / math.sqrt(250),
        observations=1250,
        skew=skew,
        kurtosis=kurtosis,
        trials=trials,
        trial_sharpe_variance=0.5 / 250,
    )
    assert deflated == pytest.approx(0.9505, abs=5e-5)


@pytest.mark.parametrize(("trials", "expected"), [(10, 1.5746), (100, 2.5306)])
def test_ka2_expected_maximum(trials, expected):
    """Bailey et al. (2014), Proposition 1, in standard deviations of the trials."""
    assert expected_maximum_sharpe(trials) == pytest.approx(expected, abs=5e-5)


def test_ka2_min_backtest_length():
    """Bailey et al. (2014): five years of history allow no more than 45 trials at a target of 1."""
    assert min_backtest_length(45, target=1.0) == pytest.approx(4.998, abs=5e-4)
    assert min_backtest_length(46, target=1.0) > 5.0


def test_ka3_probabilistic_sharpe_and_track_record():
    """Bailey & López de Prado (2012), monthly SR 0.458 over 24 months."""
    shape = {"skew": -2.448, "kurtosis": 10.164}
    assert probabilistic_sharpe(0.458, observations=24, **shape) == pytest.approx(0.9134, abs=5e-5)
    assert probabilistic_sharpe(0.458, observations=24) == pytest.approx(0.9817, abs=5e-5)
    assert min_track_record_length(0.458, **shape) == pytest.approx(34.56, abs=5e-3)


@pytest.mark.parametrize("trials", [2, 3, 5, 20, 200, 5_000])
def test_expected_maximum_agrees_with_the_integral(trials):
    """The two-quantile formula is an approximation of E[max of N normals]; worst at N = 2."""

    def density(x):
        return x * trials * scipy_stats.norm.pdf(x) * scipy_stats.norm.cdf(x) ** (trials - 1)

    exact, _ = integrate.quad(density, -10, 12, limit=400)
    assert expected_maximum_sharpe(trials) == pytest.approx(exact, rel=0.08 if trials == 2 else 0.03)


def test_expected_maximum_survives_astronomical_trials():
    values = [expected_maximum_sharpe(10**power) for power in range(1, 30)]
    assert all(math.isfinite(value) for value in values)
    assert values == sorted(values)


@given(SHARPES, OBSERVATIONS, shapes(), SHARPES)
def test_psr_is_a_probability_falling_in_the_benchmark(sharpe, observations, shape, benchmark):
    skew, kurtosis = shape

    def psr(against):
        return probabilistic_sharpe(
            sharpe, observations=observations, skew=skew, kurtosis=kurtosis, benchmark=against
        )

    assert 0.0 <= psr(benchmark) <= 1.0
    assert psr(benchmark + 0.1) <= psr(benchmark)
    assert psr(sharpe) == 0.5


@given(st.floats(0.001, 2.0), st.integers(2, 10_000), shapes())
def test_longer_records_raise_the_psr_of_a_positive_sharpe(sharpe, observations, shape):
    skew, kurtosis = shape
    short = probabilistic_sharpe(sharpe, observations=observations, skew=skew, kurtosis=kurtosis)
    longer = probabilistic_sharpe(sharpe, observations=2 * observations, skew=skew, kurtosis=kurtosis)
    assert longer >= short


@given(st.floats(0.001, 2.0), OBSERVATIONS)
def test_negative_skew_and_fat_tails_lower_the_psr(sharpe, observations):
    normal = probabilistic_sharpe(sharpe, observations=observations)
    assert probabilistic_sharpe(sharpe, observations=observations, skew=-1.0) <= normal
    assert probabilistic_sharpe(sharpe, observations=observations, kurtosis=9.0) <= normal


@given(SHARPES, OBSERVATIONS)
def test_normal_returns_have_lo_s_standard_error(sharpe, observations):
    """Lo (2002): the variance of the estimate is (1 + SR²/2) / (T − 1) for iid normal returns."""
    error = math.sqrt((1.0 + sharpe * sharpe / 2.0) / (observations - 1))
    expected = scipy_stats.norm.cdf(sharpe / error)
    assert probabilistic_sharpe(sharpe, observations=observations) == pytest.approx(expected, abs=1e-12)


@given(SHARPES, OBSERVATIONS, shapes(), st.integers(1, 10_000), st.floats(0.0, 1.0))
def test_more_trials_never_raise_the_dsr(sharpe, observations, shape, trials, variance):
    skew, kurtosis = shape

    def dsr(count):
        return deflated_sharpe(
            sharpe,
            observations=observations,
            skew=skew,
            kurtosis=kurtosis,
            trials=count,
            trial_sharpe_variance=variance,
        )

    plain = probabilistic_sharpe(sharpe, observations=observations, skew=skew, kurtosis=kurtosis)
    assert dsr(1) == plain
    assert dsr(trials + 1) <= dsr(trials) <= plain


@given(st.floats(0.01, 2.0), shapes(), st.floats(0.55, 0.999))
def test_psr_reaches_the_confidence_exactly_at_the_min_track_record(sharpe, shape, confidence):
    skew, kurtosis = shape
    length = min_track_record_length(sharpe, skew=skew, kurtosis=kurtosis, confidence=confidence)
    # PSR takes whole observations, so the equality is bracketed.
    for observations, holds in ((math.ceil(length) + 1, True), (math.floor(length) - 1, False)):
        if observations >= 2:
            reached = probabilistic_sharpe(sharpe, observations=observations, skew=skew, kurtosis=kurtosis)
            assert (reached >= confidence) is holds


@given(st.lists(st.floats(-1e3, 1e3), min_size=3, max_size=50, unique=True), st.floats(0.01, 100.0))
def test_moments_agree_with_scipy_and_ignore_the_scale(values, scale):
    sample = np.array(values)
    if np.ptp(sample) < 1e-3:
        return
    moments = return_moments(sample)
    assert moments.deviation == pytest.approx(sample.std(ddof=1))
    assert moments.skew == pytest.approx(scipy_stats.skew(sample), abs=1e-9)
    assert moments.kurtosis == pytest.approx(scipy_stats.kurtosis(sample, fisher=False), abs=1e-9)
    assert sharpe_ratio(sample * scale) == pytest.approx(moments.sharpe, rel=1e-9, abs=1e-9)
    # Sample moments always satisfy Pearson's inequality, so PSR never refuses what was measured.
    level = probabilistic_sharpe(
        moments.sharpe, observations=sample.size, skew=moments.skew, kurtosis=moments.kurtosis
    )
    assert 0.0 <= level <= 1.0


def test_psr_is_uniform_under_its_own_hypothesis():
    """Of records with true Sharpe 0, a share p has PSR(0) above 1 − p; skewed returns included."""
    generator = np.random.default_rng(11)
    for draw in (generator.standard_normal, lambda size: generator.exponential(size=size) - 1.0):
        levels = []
        for _ in range(2_000):
            moments = return_moments(draw(250))
            levels.append(
                probabilistic_sharpe(
                    moments.sharpe, observations=250, skew=moments.skew, kurtosis=moments.kurtosis
                )
            )
        # Three binomial standard errors, and what the asymptotics still owe at T = 250.
        assert np.mean(np.array(levels) > 0.95) == pytest.approx(0.05, abs=0.015 + 0.01)
        assert np.mean(np.array(levels) > 0.5) == pytest.approx(0.5, abs=0.035 + 0.01)


@pytest.mark.parametrize("values", [[], [0.1], [0.0] * 30, [0.1] * 30, [1e300] * 3])
def test_no_variation_means_no_ratio(values):
    moments = return_moments(values)
    assert math.isnan(moments.sharpe)
    assert math.isnan(sharpe_ratio(values))
    assert math.isnan(
        probabilistic_sharpe(moments.sharpe, observations=30, skew=moments.skew, kurtosis=moments.kurtosis)
    )
    assert math.isnan(min_track_record_length(math.nan))


def test_tiny_and_huge_returns_keep_their_shape():
    sample = np.random.default_rng(5).standard_normal(100) + 0.2
    expected = return_moments(sample)
    for scale in (1e-200, 1e200):
        moments = return_moments(sample * scale)
        assert moments.sharpe == pytest.approx(expected.sharpe)
        assert moments.kurtosis == pytest.approx(expected.kurtosis)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_returns_that_are_not_finite_are_refused_by_row(bad):
    with pytest.raises(ConfigError, match="row 1 was"):
        sharpe_ratio([0.1, bad, 0.2])


def test_single_observation_has_no_psr():
    assert math.isnan(probabilistic_sharpe(0.5, observations=1))
    assert math.isnan(probabilistic_sharpe(0.5, observations=0))


def test_two_point_returns_whose_variance_term_vanishes_have_no_psr():
    assert math.isnan(probabilistic_sharpe(1.0, observations=100, skew=2.0, kurtosis=5.0))


def test_track_record_without_an_edge_is_infinite():
    assert min_track_record_length(0.1, benchmark=0.1) == math.inf
    assert min_track_record_length(-0.1) == math.inf


@pytest.mark.parametrize(
    "call",
    [
        lambda: probabilistic_sharpe(0.1, observations=10, kurtosis=0.0),  # excess kurtosis by mistake
        lambda: probabilistic_sharpe(math.inf, observations=10),
        lambda: expected_maximum_sharpe(0),
        lambda: expected_maximum_sharpe(10, trial_sharpe_variance=-1.0),
        lambda: expected_maximum_sharpe(10, trial_sharpe_variance=math.nan),
        lambda: min_backtest_length(10, target=0.0),
        lambda: min_track_record_length(0.1, confidence=1.0),
        lambda: annualise(0.1, periods_per_year=0.0),
        lambda: sharpe_ratio([[0.1, 0.2]]),
    ],
)
def test_parameters_outside_their_range_are_refused(call):
    with pytest.raises(ConfigError):
        call()


def test_annualise_scales_by_the_root_of_time():
    assert annualise(0.1, periods_per_year=252) == pytest.approx(0.1 * math.sqrt(252))
    assert math.isnan(annualise(math.nan, periods_per_year=252))

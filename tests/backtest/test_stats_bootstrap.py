"""Intervals cover what they claim, on known processes, and treat thin input as documented."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import signal
from scipy import stats as scipy_stats

from backtest.stats.bootstrap import (
    block_length,
    mean_interval,
    paired_difference_interval,
    ratio_interval,
    sharpe_interval,
)
from backtest.stats.sharpe import sharpe_ratio
from data.errors import ConfigError

DAYS = arrays(np.float64, st.integers(5, 40), elements=st.floats(-100, 100))


def autoregressive(generator, days, *, phi, mean=0.0):
    """AR(1) days with unit innovations, started in the stationary distribution."""
    shocks = generator.standard_normal(days)
    shocks[0] /= math.sqrt(1.0 - phi * phi)
    return mean + signal.lfilter([1.0], [1.0, -phi], shocks)


def coverage(interval_of, truth, *, runs):
    held = sum(interval.low <= truth <= interval.high for interval in map(interval_of, range(runs)))
    return held / runs


# 300 runs have a binomial standard error of 1.3 points. What dependence costs beyond that is the documented
# shortfall of block bootstraps, whose variance is biased low in finite samples.
@pytest.mark.parametrize(
    ("phi", "days", "lowest"), [(0.0, 30, 0.90), (0.0, 250, 0.92), (0.3, 250, 0.91), (0.6, 1_000, 0.89)]
)
def test_mean_interval_covers_the_true_mean(phi, days, lowest):
    generator = np.random.default_rng(2024)

    def interval_of(run):
        sample = autoregressive(generator, days, phi=phi, mean=3.0)
        return mean_interval(sample, seed=run, replications=400)

    assert lowest <= coverage(interval_of, 3.0, runs=300) <= 0.985


def test_intervals_that_ignored_dependence_would_not_cover():
    """The same days as above, taken as independent: what the blocks are for."""
    generator = np.random.default_rng(2024)
    inside = 0
    for _ in range(300):
        sample = autoregressive(generator, 1_000, phi=0.6)
        low, high = scipy_stats.t.interval(0.95, 999, sample.mean(), scipy_stats.sem(sample))
        inside += low <= 0.0 <= high
    assert inside / 300 < 0.75


def test_ratio_interval_covers_the_size_weighted_mean():
    """Days of different size on which cost grows with size: the mean of daily ratios is 2.28 instead."""
    generator = np.random.default_rng(7)

    def interval_of(run):
        notional = generator.lognormal(0.0, 0.5, 250)
        rate = 2.0 + notional / 4.0 + generator.standard_normal(250)
        return ratio_interval(rate * notional, notional, seed=run, replications=400)

    # E[n·(2 + n/4)] / E[n] = 2 + E[n²] / (4 E[n]) for lognormal n.
    truth = 2.0 + math.exp(1.5 * 0.5**2) / 4.0
    assert 0.90 <= coverage(interval_of, truth, runs=300) <= 0.985


def test_sharpe_interval_covers_the_true_ratio():
    generator = np.random.default_rng(3)

    def interval_of(run):
        returns = 0.1 + generator.standard_normal(500)
        return sharpe_interval(returns, periods_per_year=250, seed=run, replications=400)

    assert 0.92 <= coverage(interval_of, 0.1 * math.sqrt(250), runs=300) <= 0.985


@pytest.mark.parametrize("days", [30, 60, 1_300])
def test_independent_days_agree_with_student(days):
    sample = np.random.default_rng(days).standard_normal(days)
    interval = mean_interval(sample, seed=1, replications=20_000)
    low, high = scipy_stats.t.interval(0.95, days - 1, sample.mean(), scipy_stats.sem(sample))
    # The estimated block of independent days is a day or two, not exactly one.
    tolerance = (0.2 if days < 100 else 0.06) * (high - low) / 2.0
    assert interval.low == pytest.approx(low, abs=tolerance)
    assert interval.high == pytest.approx(high, abs=tolerance)


def test_same_seed_same_interval_other_seed_other_interval():
    sample = autoregressive(np.random.default_rng(1), 300, phi=0.4)
    assert mean_interval(sample, seed=5) == mean_interval(sample.copy(), seed=5)
    assert mean_interval(sample, seed=5) != mean_interval(sample, seed=6)


def test_drawing_does_not_touch_numpy_s_global_generator():
    before = np.random.get_state()[1].copy()  # noqa: NPY002 - the state under test
    mean_interval(np.arange(50.0), seed=1)
    assert (np.random.get_state()[1] == before).all()  # noqa: NPY002


@settings(max_examples=25, deadline=None)
@given(DAYS, st.floats(0.1, 10.0), st.floats(-50, 50))
def test_mean_interval_moves_and_scales_with_the_days(daily, scale, shift):
    daily = np.round(daily, 3)
    plain = mean_interval(daily, seed=2, replications=100)
    moved = mean_interval(scale * daily + shift, seed=2, replications=100)
    assert moved.mean == pytest.approx(scale * plain.mean + shift, abs=1e-9)
    # The block length is rounded up; rounding noise may tip it, and then the bounds are other draws.
    if block_length(daily) == block_length(scale * daily + shift):
        assert moved.low == pytest.approx(scale * plain.low + shift, abs=1e-7)
        assert moved.high == pytest.approx(scale * plain.high + shift, abs=1e-7)


@settings(max_examples=25, deadline=None)
@given(DAYS)
def test_ratio_over_equal_days_is_the_mean(daily):
    plain = mean_interval(daily, seed=3, replications=100)
    ratio = ratio_interval(daily, np.ones_like(daily), seed=3, replications=100)
    assert ratio.mean == pytest.approx(plain.mean, abs=1e-9)
    assert ratio.low == pytest.approx(plain.low, abs=1e-9)
    assert ratio.high == pytest.approx(plain.high, abs=1e-9)


def test_higher_confidence_is_wider():
    sample = np.random.default_rng(4).standard_normal(200)
    narrow = mean_interval(sample, seed=1, confidence=0.8)
    wide = mean_interval(sample, seed=1, confidence=0.99)
    assert wide.low < narrow.low < narrow.mean < narrow.high < wide.high


def test_pairing_finds_a_difference_that_common_noise_hides():
    generator = np.random.default_rng(8)
    notional = generator.uniform(1.0, 3.0, 400)
    market = 10.0 * generator.standard_normal(400)
    cost_a = notional * (market + 0.20 + generator.standard_normal(400))
    cost_b = notional * (market + generator.standard_normal(400) + 1.0)
    alone_a, alone_b = ratio_interval(cost_a, notional, seed=1), ratio_interval(cost_b, notional, seed=1)
    assert alone_a.high > alone_b.low
    difference = paired_difference_interval(cost_a, cost_b, notional, seed=1)
    assert difference.high < 0.0
    assert difference.mean == pytest.approx(alone_a.mean - alone_b.mean)


def test_difference_with_itself_is_exactly_zero():
    cost, notional = np.random.default_rng(9).uniform(1.0, 2.0, (2, 100))
    interval = paired_difference_interval(cost, cost, notional, seed=1)
    assert (interval.mean, interval.low, interval.high) == (0.0, 0.0, 0.0)


def test_each_side_may_have_its_own_denominator():
    cost, size_a, size_b = np.random.default_rng(10).uniform(1.0, 2.0, (3, 100))
    interval = paired_difference_interval(cost, cost, size_a, denominator_b=size_b, seed=1)
    assert interval.mean == pytest.approx(cost.sum() / size_a.sum() - cost.sum() / size_b.sum())
    assert interval.low <= interval.mean <= interval.high


def test_days_without_observation_are_dropped_in_pairs():
    cost, notional = np.random.default_rng(12).uniform(1.0, 2.0, (2, 60))
    kept = np.ones(60, dtype=bool)
    kept[[3, 17, 40]] = False
    with_gaps, sizes = cost.copy(), notional.copy()
    with_gaps[[3, 17]] = math.nan
    sizes[[17, 40]] = math.nan
    expected = ratio_interval(cost[kept], notional[kept], seed=1)
    assert ratio_interval(with_gaps, sizes, seed=1) == expected


def test_sharpe_interval_reports_the_sample_ratio():
    returns = np.random.default_rng(13).standard_normal(300) * 1e-4 + 5.0
    interval = sharpe_interval(returns, periods_per_year=250, seed=1)
    assert interval.mean == pytest.approx(sharpe_ratio(returns) * math.sqrt(250), rel=1e-9)
    assert interval.low < interval.mean < interval.high


@pytest.mark.parametrize("daily", [[], [math.nan] * 8])
def test_no_days_no_estimate(daily):
    interval = mean_interval(daily, seed=1)
    assert math.isnan(interval.mean)
    assert math.isnan(interval.low)
    assert math.isnan(interval.high)


def test_too_few_days_have_an_estimate_without_bounds():
    interval = mean_interval([1.0, 2.0, 3.0, math.nan, 4.0], seed=1)
    assert interval.mean == 2.5
    assert math.isnan(interval.low)
    assert math.isnan(interval.high)


def test_constant_days_have_a_degenerate_interval_and_no_sharpe():
    interval = mean_interval([0.1] * 30, seed=1)
    assert interval.low == pytest.approx(0.1, rel=1e-12)
    assert interval.high == pytest.approx(0.1, rel=1e-12)
    assert math.isnan(sharpe_interval([0.1] * 30, periods_per_year=250, seed=1).mean)


def test_ratio_without_any_denominator_does_not_exist():
    interval = ratio_interval([1.0] * 10, [0.0] * 10, seed=1)
    assert math.isnan(interval.mean)
    assert math.isnan(interval.low)


def test_one_trading_day_among_idle_ones_has_no_bounds():
    """Some resamples contain no trade at all, so the distribution of the ratio does not exist."""
    interval = ratio_interval([2.0] + [0.0] * 9, [1.0] + [0.0] * 9, seed=1)
    assert interval.mean == 2.0
    assert math.isnan(interval.low)
    assert math.isnan(interval.high)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: mean_interval([1.0, math.inf, 2.0], seed=1), "row 1 was inf"),
        (lambda: ratio_interval([1.0, 2.0], [1.0], seed=1), "one length"),
        (lambda: ratio_interval([1.0] * 9, [-1.0] * 9, seed=1), "negative"),
        (lambda: mean_interval([1.0] * 9, seed=1, confidence=1.0), "confidence"),
        (lambda: mean_interval([1.0] * 9, seed=1, replications=10), "replications"),
        (lambda: sharpe_interval([1.0] * 9, seed=1, periods_per_year=-1.0), "periods_per_year"),
        (lambda: mean_interval([[1.0, 2.0]], seed=1), "one dimension"),
    ],
)
def test_bad_input_is_refused(call, message):
    with pytest.raises(ConfigError, match=message):
        call()


def test_blocks_grow_with_persistence():
    generator = np.random.default_rng(14)
    lengths = [block_length(autoregressive(generator, 1_300, phi=phi)) for phi in (0.0, 0.5, 0.9)]
    assert lengths[0] <= 5
    assert lengths == sorted(lengths)
    assert lengths[2] > 10
    assert block_length(np.full(40, 0.1)) == 1


@pytest.mark.parametrize("scale", [1e-200, 1e200])
@pytest.mark.filterwarnings("error")
def test_tiny_and_huge_profits_have_the_same_interval(scale):
    profits = np.random.default_rng(15).standard_normal(60) + 0.1
    expected = sharpe_interval(profits, periods_per_year=250, seed=1)
    interval = sharpe_interval(scale * profits, periods_per_year=250, seed=1)
    assert interval.low == pytest.approx(expected.low)
    assert mean_interval(scale * profits, seed=1).low == pytest.approx(
        scale * mean_interval(profits, seed=1).low
    )


@pytest.mark.parametrize("days", range(5, 40))
@pytest.mark.filterwarnings("error")
def test_every_short_history_gives_ordered_finite_bounds_without_warnings(days):
    sample = np.random.default_rng(days).standard_normal(days)
    interval = mean_interval(sample, seed=1, replications=100)
    assert interval.low < interval.mean < interval.high

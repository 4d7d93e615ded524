"""CSCV finds overfitting exactly where it was planted (known answers KA4)."""

from __future__ import annotations

import math
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backtest.stats.pbo import mean_metric, overfitting_probability, sharpe_metric
from data.errors import ConfigError


def overfitting_by_definition(returns, *, blocks, score):
    """CSCV as the paper words it: join the blocks, score, rank."""
    parts = np.split(returns, blocks)
    logits = []
    for chosen in combinations(range(blocks), blocks // 2):
        inside = np.concatenate([parts[block] for block in chosen])
        outside = np.concatenate([parts[block] for block in range(blocks) if block not in chosen])
        winner = int(np.argmax(score(inside)))
        rank = 1 + int((score(outside) < score(outside)[winner]).sum())
        share = rank / (returns.shape[1] + 1)
        logits.append(math.log(share / (1 - share)))
    return np.array(logits)


def test_ka4a_demeaned_configurations_always_overfit():
    """Both halves sum to zero, so the best in sample is the worst out of sample."""
    sample = np.random.default_rng(1).standard_normal((1000, 100))
    found = overfitting_probability(sample - sample.mean(axis=0), blocks=8, metric=mean_metric)
    assert found.probability == 1.0
    assert found.logits == pytest.approx(np.full(math.comb(8, 4), -math.log(100)))
    assert found.probability_of_loss == 1.0


@pytest.mark.parametrize("metric", [mean_metric, sharpe_metric])
def test_ka4b_one_dominating_configuration_never_overfits(metric):
    sample = np.random.default_rng(2).standard_normal((1000, 100))
    sample[:, 37] += 5.0
    found = overfitting_probability(sample, blocks=8, metric=metric)
    assert found.probability == 0.0
    assert found.logits == pytest.approx(np.full(math.comb(8, 4), math.log(100)))
    assert found.probability_of_loss == 0.0


def test_ka4c_noise_is_a_coin_toss():
    """0.497 ± 0.009 over 400 seeds; one history alone says little, its halvings share all their data."""
    levels = [
        overfitting_probability(
            np.random.default_rng(seed).standard_normal((1000, 100)), blocks=8
        ).probability
        for seed in range(400)
    ]
    # Two independent sets of 400 seeds differ by √2 standard errors; three of those.
    assert np.mean(levels) == pytest.approx(0.497, abs=3 * math.sqrt(2) * 0.009)


def test_ka4_sixteen_blocks_have_12870_halvings():
    sample = np.random.default_rng(3).standard_normal((1000, 100))
    found = overfitting_probability(sample, blocks=16)
    assert found.logits.shape == (12_870,)
    assert found.observations == 992


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32), st.sampled_from([2, 4, 6]), st.integers(2, 9), st.floats(-1e3, 1e3))
def test_block_sums_agree_with_the_definition(seed, blocks, count, level):
    sample = level + np.random.default_rng(seed).standard_normal((blocks * 5, count))
    by_mean = overfitting_probability(sample, blocks=blocks, metric=mean_metric)
    assert by_mean.logits == pytest.approx(
        overfitting_by_definition(sample, blocks=blocks, score=lambda half: half.mean(axis=0))
    )
    by_sharpe = overfitting_probability(sample, blocks=blocks)
    assert by_sharpe.logits == pytest.approx(
        overfitting_by_definition(
            sample, blocks=blocks, score=lambda half: half.mean(axis=0) / half.std(axis=0, ddof=1)
        )
    )
    assert by_sharpe.probability == np.mean(by_sharpe.logits <= 0.0)


def test_the_oldest_rows_are_left_out_when_blocks_do_not_divide():
    sample = np.random.default_rng(4).standard_normal((83, 6))
    found = overfitting_probability(sample, blocks=8)
    assert found.observations == 80
    assert found.logits == pytest.approx(overfitting_probability(sample[3:], blocks=8).logits)


def test_tied_configurations_share_their_rank():
    column = np.random.default_rng(5).standard_normal((40, 1))
    found = overfitting_probability(np.repeat(column, 5, axis=1), blocks=4, metric=mean_metric)
    assert found.logits == pytest.approx(np.zeros(6))
    assert found.probability == 1.0


def test_a_configuration_that_never_trades_is_named():
    sample = np.random.default_rng(6).standard_normal((64, 4)) + 3.0
    sample[:, 2] = 0.1
    with pytest.raises(ConfigError, match="configuration 2"):
        overfitting_probability(sample, blocks=4)
    assert 0.0 <= overfitting_probability(sample, blocks=4, metric=mean_metric).probability <= 1.0


@pytest.mark.parametrize(
    ("shape", "blocks", "message"),
    [
        ((100, 5), 7, "even"),
        ((100, 5), 0, "between 2"),
        ((2000, 5), 22, "between 2"),
        ((100, 1), 4, "shape"),
        ((100,), 4, "shape"),
        ((15, 5), 8, "at least 16 periods"),
    ],
)
def test_bad_shapes_are_refused(shape, blocks, message):
    with pytest.raises(ConfigError, match=message):
        overfitting_probability(np.ones(shape), blocks=blocks)


def test_values_that_are_not_finite_are_refused_by_place():
    sample = np.ones((32, 3))
    sample[7, 1] = math.nan
    with pytest.raises(ConfigError, match="row 7 column 1"):
        overfitting_probability(sample, blocks=4)

from __future__ import annotations

import numpy as np
import pytest
from fake_results import fake_histogram
from hypothesis import given, settings
from hypothesis import strategies as st

from backtest.report.backtest_figures import drawdown
from backtest.report.figures import ROLLING_DAYS, rolling_mean, running_mean
from backtest.report.plots import latency_figure, thin


@settings(deadline=None)
@given(
    values=st.lists(st.floats(-1e6, 1e6) | st.just(float("nan")), max_size=400).map(np.array),
    limit=st.integers(4, 60),
)
def test_thinning_keeps_ends_and_extremes(values: np.ndarray, limit: int) -> None:
    values = values.astype(np.float64)
    kept = thin(values, limit)
    finite = np.flatnonzero(np.isfinite(values))
    assert kept.size <= max(limit, 0)
    assert np.all(np.diff(kept) > 0)
    assert np.all(np.isfinite(values[kept]))
    if finite.size:
        assert (kept[0], kept[-1]) == (finite[0], finite[-1])
        assert values[kept].min() == values[finite].min()
        assert values[kept].max() == values[finite].max()


@settings(deadline=None)
@given(st.lists(st.floats(-100, 100) | st.just(float("nan")), max_size=200).map(np.array))
def test_means_over_time_match_the_obvious_ones(daily: np.ndarray) -> None:
    daily = daily.astype(np.float64)
    running, rolling = running_mean(daily), rolling_mean(daily)
    for day in range(daily.size):
        so_far = daily[: day + 1][np.isfinite(daily[: day + 1])]
        recent = daily[max(0, day + 1 - ROLLING_DAYS) : day + 1]
        recent = recent[np.isfinite(recent)]
        assert running[day] == pytest.approx(so_far.mean() if so_far.size else np.nan, nan_ok=True, abs=1e-9)
        expected = recent.mean() if recent.size >= ROLLING_DAYS / 2 else np.nan
        assert rolling[day] == pytest.approx(expected, nan_ok=True, abs=1e-9)


def test_drawdown_starts_from_zero_equity() -> None:
    assert drawdown(np.array([-1.0, 2.0, 1.5, 3.0])).tolist() == [-1.0, 0.0, -0.5, 0.0]


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), typical_ns=st.floats(100, 1e6))
def test_latency_picture_counts_every_measurement(seed: int, typical_ns: float) -> None:
    histogram = fake_histogram(np.random.default_rng(seed), typical_ns=typical_ns)
    figure = latency_figure("latency", histogram, what="tick to order")
    assert figure is not None
    heights = np.array(figure.traces[0]["y"][1:])
    assert heights[heights >= 1].sum() == histogram.counts.sum()
    assert [note["text"].split()[0] for note in figure.layout["annotations"]] == [
        "p50",
        "p99",
        "p99.9",
        "max",
    ]

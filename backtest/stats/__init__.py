"""Statistics that say whether a backtest found skill; see docs/STATISTICS.md."""

from __future__ import annotations

from .bootstrap import (
    block_length,
    mean_interval,
    paired_difference_interval,
    ratio_interval,
    sharpe_interval,
)
from .pbo import Overfitting, mean_metric, overfitting_probability, sharpe_metric
from .sharpe import (
    ReturnMoments,
    annualise,
    deflated_sharpe,
    expected_maximum_sharpe,
    min_backtest_length,
    min_track_record_length,
    probabilistic_sharpe,
    return_moments,
    sharpe_ratio,
)

__all__ = [
    "Overfitting",
    "ReturnMoments",
    "annualise",
    "block_length",
    "deflated_sharpe",
    "expected_maximum_sharpe",
    "mean_interval",
    "mean_metric",
    "min_backtest_length",
    "min_track_record_length",
    "overfitting_probability",
    "paired_difference_interval",
    "probabilistic_sharpe",
    "ratio_interval",
    "return_moments",
    "sharpe_interval",
    "sharpe_metric",
    "sharpe_ratio",
]

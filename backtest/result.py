"""What a run found: plain values that the report, the command line and notebooks read.

`RunResult` is the main job's answer (routing policies compared, walk-forward); `Result` is one
strategy's backtest. Both are immutable and hold nothing that depends on the clock except the fields
grouped in `Performance`, which stay outside every hash and table.
"""

from __future__ import annotations

from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Dates = NDArray[np.datetime64]


@dataclass(frozen=True, kw_only=True, slots=True)
class Interval:
    """A point estimate with its confidence interval."""

    mean: float
    low: float
    high: float
    confidence: float = 0.95


@dataclass(frozen=True, kw_only=True, slots=True)
class LatencyHistogram:
    """Counts by upper edge.

    Parameters
    ----------
    upper_ns : array of int64, shape (n,)
        Inclusive upper edge of each bucket, ascending.
    counts : array of int64, shape (n,)
    max_ns : int
    """

    upper_ns: NDArray[np.int64]
    counts: NDArray[np.int64]
    max_ns: int

    def percentile_ns(self, percent: float) -> float:
        """Return the upper edge of the bucket that holds the given percentile; NaN when empty."""
        total = int(self.counts.sum())
        if total == 0:
            return float("nan")
        reached = np.cumsum(self.counts) >= np.ceil(total * percent / 100.0)
        return float(min(self.upper_ns[int(np.argmax(reached))], self.max_ns))


@dataclass(frozen=True, kw_only=True, slots=True)
class Performance:
    """What the clock said; differs between two otherwise identical runs."""

    seconds: float
    events_per_second: float
    peak_memory_bytes: int
    tick_to_order: LatencyHistogram
    stage_seconds: dict[str, float]


@dataclass(frozen=True, kw_only=True, slots=True)
class PolicyResult:
    """One routing policy over all test windows.

    Parameters
    ----------
    cost_bps : Interval
        Implementation shortfall against the arrival mid, fees included, in 1e-4 of notional; day
        block bootstrap.
    difference_bps : Interval or None
        This policy's cost minus the reference policy's, paired by day; negative means cheaper. None
        for the reference itself.
    daily_cost_bps : array, shape (n_days,)
        NaN on days without a completed parent.
    cumulative_regret_bps : array, shape (n_days,)
        Running mean-per-decision shortfall against the best arm in hindsight, summed by day.
    filled_share : float
        Filled lots over those of all completed parents; what is missing was cancelled and priced as if
        bought at the end.
    venue_share : array, shape (n_windows, n_venues)
        Share of filled lots.
    """

    name: str
    label: str
    parents: int
    decisions: int
    filled_lots: int
    cost_bps: Interval
    fee_bps: float
    difference_bps: Interval | None
    taker_share: float
    filled_share: float
    daily_cost_bps: Floats
    cumulative_regret_bps: Floats
    venue_share: Floats
    journal_hash: str
    journal_records: int


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelResult:
    """The model fitted on one training window, checked on data held back from the fit."""

    window: int
    samples: int
    accuracy_fp32: float
    accuracy_int8: float
    accuracy_majority: float
    agreement: float
    mean_abs_difference: float
    latency_fp32_ns: float
    latency_int8_ns: float
    runs: str
    runs_because: str
    sha256_fp32: str
    sha256_int8: str


@dataclass(frozen=True, kw_only=True, slots=True)
class WindowResult:
    """One walk-forward window; ISO dates, ends exclusive."""

    index: int
    train_from: str
    train_until: str
    test_from: str
    test_until: str
    model: ModelResult | None


@dataclass(frozen=True, kw_only=True, slots=True)
class StrategyResult:
    """One example strategy with its deflated Sharpe ratio.

    `sharpe` is annualised; `deflated_sharpe` is a probability (Bailey & Lopez de Prado 2014).
    """

    name: str
    trades: int
    pnl: float
    sharpe: Interval
    probabilistic_sharpe: float
    deflated_sharpe: float
    trials: int
    daily_pnl: Floats


@dataclass(frozen=True, kw_only=True, slots=True)
class SensitivityRow:
    """The comparison again with one group of modelled ranges moved."""

    scenario: str
    cost_bps: dict[str, float]
    difference_bps: Interval
    events: int


@dataclass(frozen=True, kw_only=True, slots=True)
class RunResult:
    """The main job's answer."""

    headline: str
    verdict: str
    instrument: str
    source: str
    recorded: bool
    seed: int
    years: float
    rows: int
    venues: tuple[str, ...]
    events: int
    config: dict[str, Any]
    config_hash: str
    data_hash: str
    journal_hash: str
    trials: int
    days: Dates
    windows: tuple[WindowResult, ...]
    policies: tuple[PolicyResult, ...]
    strategies: tuple[StrategyResult, ...]
    sensitivity: tuple[SensitivityRow, ...]
    notes: tuple[str, ...]
    performance: Performance


@dataclass(frozen=True, kw_only=True, slots=True)
class Result:
    """One strategy's backtest.

    Parameters
    ----------
    equity_ts_ns : array of int64, shape (n,)
    equity : array, shape (n,)
        Cash plus position at mid, in the instrument's currency, starting at 0.
    fills : array of REPORT_DTYPE, shape (n_fills,)
        Every fill, in order of receipt.
    sharpe : Interval
        Annualised from daily profit where there are at least 20 days, otherwise from hourly profit.
    shortfall_bps : float
        Of an execution: what its fills cost against the mid at the start, fees included, in 1e-4 of
        their value at that mid (Perold 1988, without the part that was not executed). NaN where the
        strategy traded both sides.
    """

    name: str
    headline: str
    instrument: str
    currency: str
    source: str
    seed: int
    events: int
    equity_ts_ns: NDArray[np.int64]
    equity: Floats
    position_lots: NDArray[np.int64]
    fills: NDArray[np.void]
    pnl: float
    fees: float
    sharpe: Interval
    max_drawdown: float
    orders: int
    rejections: dict[str, int]
    config: dict[str, Any]
    config_hash: str
    data_hash: str
    journal_hash: str
    journal_path: Path | None
    notes: tuple[str, ...]
    performance: Performance
    shortfall_bps: float = float("nan")

    def report(self, path: str | PathLike[str] = "report.html") -> Path:
        """Write the result as one self-contained HTML page and return its path."""
        from .report import write_backtest_report

        return write_backtest_report([self], Path(path))

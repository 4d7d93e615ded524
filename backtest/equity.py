"""From samples of the account to an equity curve and what is said of it."""

from __future__ import annotations

import re
from typing import Final

import numpy as np
from numpy.typing import NDArray

from data.errors import ConfigError
from data.instrument import Instrument

from .result import Floats, Interval, Result
from .stats import sharpe_interval

DAILY_MIN: Final = 20
"""Days from which on daily profit tells more than hourly."""

TRADING_DAYS_PER_YEAR: Final = 252
HOUR_NS: Final = 3_600 * 10**9
DAY_NS: Final = 24 * HOUR_NS
YEAR_NS: Final = 365.25 * DAY_NS

_UNITS: Final = {"ms": 10**6, "s": 10**9, "min": 60 * 10**9, "h": HOUR_NS, "d": DAY_NS}


def interval_ns(text: str | int) -> int:
    """Return an interval such as ``"1min"`` or ``"500ms"`` in ns; whole numbers are ns already.

    Examples
    --------
    >>> interval_ns("30s")
    30000000000
    """
    if isinstance(text, int) and not isinstance(text, bool):
        found = text
    else:
        match = re.fullmatch(r"(\d+)\s*(ms|s|min|h|d)", str(text).strip())
        if match is None:
            raise ConfigError(f"an interval must be like 500ms, 30s, 1min, 1h or 1d, was {text!r}")
        found = int(match[1]) * _UNITS[match[2]]
    if found <= 0:
        raise ConfigError(f"an interval must be positive, was {text!r}")
    return found


def equity_of(samples: NDArray[np.void], *, tick_value: float) -> Floats:
    """Return cash plus position at mid minus fees, in currency, of EQUITY_DTYPE samples."""
    held = samples["position_lots"] * (0.5 * samples["mid_x2"])
    equity: Floats = (samples["cash_ticklots"] + held) * tick_value - samples["fee_nano"] * 1e-9
    return equity


def max_drawdown(equity: Floats) -> float:
    """Return the largest fall from an earlier high, the start at 0 included; not negative."""
    if equity.size == 0:
        return 0.0
    highs = np.maximum(np.maximum.accumulate(equity), 0.0)
    return float((highs - equity).max())


def period_profits(ts_ns: NDArray[np.int64], equity: Floats, *, period_ns: int) -> Floats:
    """Return the profit of each period of UTC that has a sample, in order of time."""
    if ts_ns.size == 0:
        return np.empty(0)
    period = ts_ns // period_ns
    last = np.flatnonzero(np.append(np.diff(period) != 0, True))
    return np.diff(equity[last], prepend=0.0)


def daily_profits(result: Result) -> Floats:
    """Return a backtest's profit of each UTC day that has a sample, in order of time."""
    return period_profits(result.equity_ts_ns, result.equity, period_ns=DAY_NS)


def sharpe_of(ts_ns: NDArray[np.int64], equity: Floats, *, seed: int) -> Interval:
    """Return the annualised Sharpe ratio of profit with its block-bootstrap interval.

    From daily profit where there are 20 days, with as many days a year as there were; otherwise from
    hourly profit, with the observed hours of a day on 252 days a year. NaN where there is too little.
    """
    daily = period_profits(ts_ns, equity, period_ns=DAY_NS)
    if daily.size >= DAILY_MIN:
        years = max(float(ts_ns[-1] - ts_ns[0]) / YEAR_NS, 1e-9)
        return sharpe_interval(daily, periods_per_year=min(daily.size / years, 366.0), seed=seed)
    hourly = period_profits(ts_ns, equity, period_ns=HOUR_NS)
    per_day = hourly.size / max(daily.size, 1)
    return sharpe_interval(hourly, periods_per_year=max(per_day, 1.0) * TRADING_DAYS_PER_YEAR, seed=seed)


def shortfall_bps(fills: NDArray[np.void], *, arrival_mid_x2: int, instrument: Instrument) -> float:
    """Return what one-sided fills cost against the arrival mid, fees included, in 1e-4 of value.

    Parameters
    ----------
    fills : array of REPORT_DTYPE, shape (n_fills,)
    arrival_mid_x2 : int
        Bid plus ask at the start, ticks.

    Returns
    -------
    float
        Positive is a cost; NaN without fills, with fills on both sides, or without a mid.
    """
    sides = np.unique(fills["side"])
    if len(sides) != 1 or arrival_mid_x2 == 0:
        return float("nan")
    lots = fills["size_lots"].astype(np.float64)
    ticks = float(sides[0]) * (fills["price_ticks"] - 0.5 * arrival_mid_x2)
    cost = float((ticks * lots).sum()) * instrument.tick_value + float(fills["fee_nano"].sum()) * 1e-9
    return cost / (abs(0.5 * arrival_mid_x2) * float(lots.sum()) * instrument.tick_value) * 1e4

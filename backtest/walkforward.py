"""Walk-forward of strategies: choose on the days behind, trade the days ahead, judge the sum.

Each window starts fresh strategies with an empty account. Where there are several candidates, the one
with the best daily Sharpe ratio on the training days is taken into the test days; with one candidate
nothing is chosen and the training days are only left untested. Everything that was tried is recorded,
and the outcome is deflated by it.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from data.errors import ConfigError
from data.events import EventSource
from engine.strategy import Strategy

from .api import backtest
from .equity import YEAR_NS, daily_profits
from .places import TRIALS
from .result import Floats, Interval, Result
from .sources import DataLike, open_source
from .splits import Window, rolling_windows
from .stats import sharpe_interval, sharpe_ratio
from .trials import TrialRegistry, deflated, trial_hash

StrategyMaker = Callable[[], Strategy]


@dataclass(frozen=True, kw_only=True, slots=True)
class WindowOutcome:
    """One step; ISO dates, ends exclusive.

    Parameters
    ----------
    chosen : str
        Of the candidates.
    train_sharpe : float
        Daily Sharpe ratio of the chosen one on the training days; NaN with a single candidate.
    test_sharpe : float
        Daily, on the test days; NaN where it does not exist.
    """

    index: int
    train_from: str
    train_until: str
    test_from: str
    test_until: str
    chosen: str
    train_sharpe: float
    test_sharpe: float
    pnl: float
    fees: float
    trades: int
    journal_hash: str


@dataclass(frozen=True, kw_only=True, slots=True)
class WalkForwardResult:
    """What the test windows came to together.

    Parameters
    ----------
    daily_profit : array, shape (n_days,)
        Of the test days that had a market, in the instrument's currency.
    sharpe : Interval
        Annualised, block bootstrap over days.
    probabilistic_sharpe, deflated_sharpe : float
        Probability that the true ratio is above 0, and above what luck would find in `trials` trials.
    """

    name: str
    source: str
    currency: str
    seed: int
    windows: tuple[WindowOutcome, ...]
    daily_profit: Floats
    pnl: float
    sharpe: Interval
    probabilistic_sharpe: float
    deflated_sharpe: float
    trials: int
    config_hash: str
    data_hash: str
    journal_hash: str
    notes: tuple[str, ...]


def walk_forward(
    strategies: StrategyMaker | Mapping[str, StrategyMaker],
    data: DataLike,
    *,
    train_days: int,
    test_days: int,
    seed: int = 1,
    embargo_ns: int = 0,
    anchored: bool = False,
    registry: TrialRegistry | str | Path | None = None,
    progress: Callable[[int, int], None] | None = None,
    **options: Any,
) -> WalkForwardResult:
    """Run strategies over rolling windows and return the test windows' joint outcome.

    Parameters
    ----------
    strategies : callable or mapping of str to callable
        Makes a fresh strategy; several are candidates to choose from.
    data : path, array of EVENT_DTYPE or EventSource
        As in `backtest`. It is read once per window and candidate, from its beginning.
    train_days, test_days : int
        Calendar days, UTC.
    embargo_ns : int
        Left out of the end of each training window.
    anchored : bool
        Train on everything before the test.
    registry : TrialRegistry or path, optional
        Where trials are counted; by default ``var/trials.sqlite``.
    progress : callable, optional
        Called with (windows done, windows in all).
    **options
        Of `backtest`: venue, limits, session, ...

    Raises
    ------
    ConfigError
        With the days needed, when the recording is too short for one window.
    """
    candidates = dict(strategies) if isinstance(strategies, Mapping) else {_name_of(strategies): strategies}
    if not candidates:
        raise ConfigError("a walk-forward needs at least one strategy")
    source = open_source(data, options.get("instrument"))
    first_ns, last_ns = span_of(source)
    windows = rolling_windows(
        first_ns, last_ns, train_days=train_days, test_days=test_days, purge_ns=0, embargo_ns=embargo_ns,
        anchored=anchored,
    )  # fmt: skip
    # Before the runs, which may take long: a file that cannot be used must not cost their results.
    book = registry if isinstance(registry, TrialRegistry) else TrialRegistry(registry or TRIALS)
    runs = _Runs(source, seed=seed, options=options)
    outcomes, profits = [], []
    tried: dict[str, list[Floats]] = {name: [] for name in candidates}
    for window in windows:
        chosen, train_sharpe = _choose(candidates, window, runs, tried)
        tested = runs.run(candidates[chosen], window.test_from_ns, window.test_until_ns)
        profit = daily_profits(tested)
        outcomes.append(_outcome(window, chosen, train_sharpe, tested, profit))
        profits.append(profit)
        if progress is not None:
            progress(len(outcomes), len(windows))
    daily = np.concatenate(profits)
    name = next(iter(candidates)) if len(candidates) == 1 else f"best of {', '.join(candidates)}"
    identity = f"{name}:{runs.config_hashes}:{train_days}:{test_days}:{embargo_ns}:{anchored}"
    config_hash = hashlib.sha256(identity.encode()).hexdigest()
    trials = {f"{each} (training)": np.concatenate(days) for each, days in tried.items() if days}
    tried_hash = trial_hash(config_hash, runs.journal_hashes)
    for label, series in (*trials.items(), (name, daily)):
        book.record(
            source.data_hash, kind="strategy", name=label, config_hash=tried_hash, seed=seed,
            sharpe_daily=sharpe_ratio(series), observations=len(series),
        )  # fmt: skip
    judged = deflated(daily, book, source.data_hash, kind="strategy")
    return WalkForwardResult(
        name=name,
        source=source.source,
        currency=source.instrument.currency,
        seed=seed,
        windows=tuple(outcomes),
        daily_profit=daily,
        pnl=float(daily.sum()),
        sharpe=sharpe_interval(daily, periods_per_year=_days_per_year(daily.size, windows), seed=seed),
        probabilistic_sharpe=judged.probabilistic,
        deflated_sharpe=judged.deflated,
        trials=judged.trials,
        config_hash=config_hash,
        data_hash=source.data_hash,
        journal_hash=hashlib.sha256("".join(one.journal_hash for one in outcomes).encode()).hexdigest(),
        notes=source.notes,
    )


def span_of(source: EventSource) -> tuple[int, int]:
    """Return the first and last instant of a source, ns; reads all of it."""
    first_ns = last_ns = None
    for events in source.blocks():
        if len(events):
            first_ns = int(events["ts_ns"][0]) if first_ns is None else first_ns
            last_ns = int(events["ts_ns"][-1])
    if first_ns is None or last_ns is None:
        raise ConfigError(f"{source.source}: a walk-forward needs events, had none")
    return first_ns, last_ns


class _Runs:
    """Backtests on parts of one source."""

    def __init__(self, source: EventSource, *, seed: int, options: dict[str, Any]) -> None:
        self._source, self._seed, self._options = source, seed, options
        self.config_hashes: list[str] = []
        self.journal_hashes: list[str] = []

    def run(self, make: StrategyMaker, start_ns: int, stop_ns: int) -> Result:
        result = backtest(
            make(), self._source, seed=self._seed, start_ns=start_ns, stop_ns=stop_ns, **self._options
        )
        self.config_hashes.append(result.config_hash)
        self.journal_hashes.append(result.journal_hash)
        return result


def _choose(
    candidates: Mapping[str, StrategyMaker], window: Window, runs: _Runs, tried: dict[str, list[Floats]]
) -> tuple[str, float]:
    """Return the candidate with the best training Sharpe ratio, the first of equals, and that ratio."""
    if len(candidates) == 1:
        return next(iter(candidates)), math.nan
    best, best_sharpe = next(iter(candidates)), -math.inf
    for name, make in candidates.items():
        profit = daily_profits(runs.run(make, window.train_from_ns, window.train_until_ns))
        tried[name].append(profit)
        sharpe = sharpe_ratio(profit)
        if sharpe > best_sharpe:
            best, best_sharpe = name, sharpe
    return best, best_sharpe if math.isfinite(best_sharpe) else math.nan


def _outcome(
    window: Window, chosen: str, train_sharpe: float, tested: Result, profit: Floats
) -> WindowOutcome:
    return WindowOutcome(
        index=window.index,
        train_from=_iso(window.train_from_ns),
        train_until=_iso(window.train_until_ns),
        test_from=_iso(window.test_from_ns),
        test_until=_iso(window.test_until_ns),
        chosen=chosen,
        train_sharpe=train_sharpe,
        test_sharpe=sharpe_ratio(profit),
        pnl=tested.pnl,
        fees=tested.fees,
        trades=int(tested.fills.size),
        journal_hash=tested.journal_hash,
    )


def _days_per_year(days: int, windows: tuple[Window, ...]) -> float:
    years = (windows[-1].test_until_ns - windows[0].test_from_ns) / YEAR_NS
    return min(max(days / years, 1.0), 366.0)


def _iso(ts_ns: int) -> str:
    return str(np.datetime64(ts_ns, "ns").astype("datetime64[D]"))


def _name_of(make: StrategyMaker) -> str:
    return make.__name__ if isinstance(make, type) else type(make()).__name__

"""The example strategies that ride along in the main job, and their deflated Sharpe ratios."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray

from data.quotes import QuoteRecording
from engine.order_ids import run_id_of
from engine.strategies import SECOND_NS, SignalTaker
from engine.strategy import Context, Strategy, make_agent
from ext.features import FEATURE_NAMES
from ext.loop_records import EQUITY_DTYPE
from ext.tick_path import Agent

from .config import RunConfig
from .engines import Engine
from .result import PolicyResult, StrategyResult
from .simulation import Simulation, StrategyFactory
from .splits import DAY_NS
from .stats import sharpe_interval, sharpe_ratio
from .trials import TrialRegistry, deflated

# Calendar days times weekdays a week: what the daily profits are counted in.
PERIODS_PER_YEAR: Final = 365.25 * 5.0 / 7.0
_TREND: Final = FEATURE_NAMES.index("reversion_slow")


class TrendTaker(Strategy):
    """Holds the direction of a strong move while the forecast does not object; takes, never rests.

    A strategy that only takes is judged by prices and fees. One that rests would be judged by the
    modelled rate of aggressors, which proves nothing about it.
    """

    timer_ns = 600 * SECOND_NS

    def __init__(self, *, enter_at: float = 40.0, caution: float = 0.1, venue: int) -> None:
        self.enter_at = enter_at
        self.caution = caution
        self.venue = venue

    def on_timer(self, ctx: Context) -> None:
        if ctx.open_orders or not ctx.two_sided:
            return
        trend = float(ctx.features[_TREND])
        direction = 1 if trend > 0 else -1
        wanted = ctx.position_lots
        if abs(trend) >= self.enter_at and ctx.signal * direction > -self.caution:
            wanted = direction
        elif trend * ctx.position_lots <= 0:
            wanted = 0
        lots = wanted - ctx.position_lots
        if lots > 0:
            ctx.buy(lots, venue=self.venue)
        elif lots < 0:
            ctx.sell(-lots, venue=self.venue)


def strategy_factories(
    recording: QuoteRecording, config: RunConfig, *, venue_count: int, seed: int
) -> dict[str, StrategyFactory]:
    """Return makers of the example strategies' agents, by name. All trade at the last venue."""
    venue = venue_count - 1
    strategies = {
        "signal_taker": lambda: SignalTaker(timer_ns=600 * SECOND_NS, venue=venue),
        "trend_taker": lambda: TrendTaker(venue=venue),
    }
    run_id = run_id_of(config.digest(), seed=seed)

    def factory(make: Callable[[], Strategy]) -> StrategyFactory:
        def agent() -> Agent:
            return make_agent(make(), instrument=recording.instrument, run_id=run_id)

        return agent

    return {name: factory(make) for name, make in strategies.items()}


def daily_profit(engine: Engine, simulation: Simulation) -> NDArray[np.float64]:
    """Return the profit of each scored weekday in the instrument's currency, marked at the mid.

    What a weekend's session earned counts to the next weekday, or to the last one at the end.
    """
    tick_value = simulation.recording.instrument.tick_value
    samples = np.concatenate(engine.equity) if engine.equity else np.zeros(0, EQUITY_DTYPE)
    first = simulation.windows[0].test_from_ns // DAY_NS
    days = np.arange(int(first), simulation.last_day + 1)
    weekdays = days[(days + 3) % 7 < 5]  # 1970-01-01 was a Thursday
    if len(samples) == 0 or len(weekdays) == 0:
        return np.zeros(len(weekdays))
    equity = (samples["cash_ticklots"] + samples["position_lots"] * samples["mid_x2"] * 0.5) * tick_value
    equity = equity - samples["fee_nano"] * 1e-9
    # The equity at a midnight is the last sample up to it: a market that pauses is not sampled again
    # before the midnight after its pause. Samples are stamped by our clock, `feed_ns` behind the venues'.
    ends = np.concatenate(([first], weekdays + 1)) * DAY_NS
    ends[-1] = (simulation.last_day + 1) * DAY_NS
    at = np.searchsorted(samples["ts_ns"] - engine.loop.feed_ns, ends, side="right") - 1
    at = np.maximum(at, 0)
    profit: NDArray[np.float64] = np.diff(equity[at])
    return profit


def record_and_judge(
    simulation: Simulation,
    policies: tuple[PolicyResult, ...],
    registry: TrialRegistry,
    *,
    data_hash: str,
    config_hash: str,
    seed: int,
    confidence: float,
) -> tuple[StrategyResult, ...]:
    """Write every trial of this run into the registry, then judge the strategies against all of them."""
    profits = {name: daily_profit(engine, simulation) for name, engine in simulation.strategies.items()}
    for name, profit in profits.items():
        registry.record(
            data_hash, kind="strategy", name=name, config_hash=config_hash, seed=seed,
            sharpe_daily=sharpe_ratio(profit), observations=len(profit),
        )  # fmt: skip
    for policy in policies:
        saving = -policy.daily_cost_bps[np.isfinite(policy.daily_cost_bps)]
        registry.record(
            data_hash, kind="policy", name=policy.name, config_hash=config_hash, seed=seed,
            sharpe_daily=sharpe_ratio(saving), observations=len(saving),
        )  # fmt: skip
    found = []
    for name, profit in profits.items():
        judged = deflated(profit, registry, data_hash, kind="strategy")
        found.append(
            StrategyResult(
                name=name,
                trades=simulation.strategies[name].loop.totals["fills"],
                pnl=float(profit.sum()),
                sharpe=sharpe_interval(
                    profit, periods_per_year=PERIODS_PER_YEAR, seed=seed, confidence=confidence
                ),
                probabilistic_sharpe=judged.probabilistic,
                deflated_sharpe=judged.deflated,
                trials=judged.trials,
                daily_pnl=profit,
            )
        )
    return tuple(found)

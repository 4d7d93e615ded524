"""The example strategies' profits by day, and how they are judged."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from small_runs import SMALL, simulate, small_quotes

from backtest.engines import Engine
from backtest.showcase import daily_profit, record_and_judge, strategy_factories
from backtest.simulation import Simulation
from backtest.splits import DAY_NS
from backtest.trials import TrialRegistry
from ext.loop_records import EQUITY_DTYPE

MONDAY = 18_001
FEED_NS = 3_000_000


def equity(*samples: tuple[float, float]) -> NDArray[np.void]:
    """Return samples of (day after MONDAY, profit so far in currency), seen `FEED_NS` late."""
    made = np.zeros(len(samples), EQUITY_DTYPE)
    for row, (day, profit) in zip(made, samples, strict=True):
        row["ts_ns"] = MONDAY * DAY_NS + round(day * DAY_NS) + FEED_NS
        row["cash_ticklots"] = round(profit * 100)
    return made


def judged(samples: NDArray[np.void], *, days: int) -> list[float]:
    simulation = SimpleNamespace(
        recording=small_quotes(),
        windows=(SimpleNamespace(test_from_ns=MONDAY * DAY_NS),),
        first_day=MONDAY - 5,
        last_day=MONDAY + days - 1,
    )
    simulation.recording.instrument = SimpleNamespace(tick_value=0.01)
    engine: Any = SimpleNamespace(
        equity=[samples] if len(samples) else [], loop=SimpleNamespace(feed_ns=FEED_NS)
    )
    profit: list[float] = daily_profit(engine, simulation).tolist()  # type: ignore[arg-type]
    return profit


def test_a_day_s_profit_is_what_its_midnights_differ_by() -> None:
    assert judged(equity((0, 5), (1, 7), (2, 4), (3, 4)), days=3) == [2.0, -3.0, 0.0]


def test_a_pause_does_not_move_the_profit_of_the_day_after_it() -> None:
    # The market is shut from Friday to Monday: the next sample after Saturday's first instant is Tuesday's.
    samples = equity((0, 0), (1, 1), (2, 2), (3, 3), (4, 4), (5, 5), (8, 15), (9, 15))
    assert judged(samples, days=9) == [1.0, 1.0, 1.0, 1.0, 1.0, 10.0, 0.0]


def test_a_session_that_opens_on_sunday_counts_to_monday() -> None:
    samples = equity((0, 0), (5, 0), (7, 3), (8, 7))
    assert judged(samples, days=8) == [0.0, 0.0, 0.0, 0.0, 0.0, 7.0]


def test_the_last_day_ends_with_the_data() -> None:
    assert judged(equity((0, 0), (1, 1), (1.8, 4)), days=2) == [1.0, 3.0]


def test_who_never_traded_earned_nothing() -> None:
    assert judged(equity(), days=3) == [0.0, 0.0, 0.0]


def test_open_positions_are_marked_at_the_mid_and_fees_are_paid() -> None:
    samples = equity((0, 0), (1, 0))
    samples["position_lots"][1], samples["mid_x2"][1], samples["cash_ticklots"][1] = 4, 2_001, -4_000
    samples["fee_nano"][1] = 500_000_000
    assert judged(samples, days=1) == pytest.approx([4 * 0.5 * 0.01 - 0.5])


@pytest.fixture(scope="module")
def passed() -> Simulation:
    return simulate(policies=("linucb", "sweep"), probe=False)


def marked(engine: Engine, tick_value: float) -> float:
    """Cash, position at the last mid and fees of a loop at rest."""
    totals = engine.loop.totals
    held = totals["cash_ticklots"] + totals["position_lots"] * totals["mid_x2"] * 0.5
    return held * tick_value - totals["fee_nano"] * 1e-9


def test_days_add_up_to_what_the_account_says(passed: Simulation) -> None:
    tick_value = passed.recording.instrument.tick_value
    first = passed.windows[0].test_from_ns
    for name, engine in passed.strategies.items():
        samples = np.concatenate(engine.equity)
        before = samples[samples["ts_ns"] - engine.loop.feed_ns <= first][-1]
        held = before["cash_ticklots"] + before["position_lots"] * before["mid_x2"] * 0.5
        start = held * tick_value - before["fee_nano"] * 1e-9
        assert engine.loop.totals["fills"] > 0, name
        assert daily_profit(engine, passed).sum() == pytest.approx(marked(engine, tick_value) - start), name


def test_judging_again_adds_no_trial(passed: Simulation, tmp_path: Path) -> None:
    registry = TrialRegistry(tmp_path / "trials.sqlite")
    first, again = (
        record_and_judge(passed, (), registry, data_hash="d", config_hash="c", seed=1, confidence=0.9)
        for _ in range(2)
    )
    assert [strategy.name for strategy in first] == list(passed.strategies)
    assert registry.count("d") == len(passed.strategies) == first[0].trials
    for one, other in zip(first, again, strict=True):
        assert (one.deflated_sharpe, one.pnl, one.trials) == (other.deflated_sharpe, other.pnl, other.trials)
        assert one.pnl == pytest.approx(one.daily_pnl.sum())


def test_each_run_gets_agents_of_its_own() -> None:
    factories = strategy_factories(small_quotes(), SMALL, venue_count=3, seed=1)
    for make in factories.values():
        assert make() is not make()

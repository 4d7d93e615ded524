"""Nothing sees what is to come; noise is not found to be skill, a planted edge is."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from small_runs import Spoilt, simulate, small_quotes

from backtest.api import backtest
from backtest.evaluation import day_stats
from backtest.result import Result
from backtest.splits import DAY_NS
from backtest.trials import TrialRegistry
from backtest.venue_config import VenueConfig
from backtest.walkforward import WalkForwardResult, walk_forward
from data.quotes import QuoteBlock
from data.schema import QUOTE_DTYPE
from engine.strategy import Context, Strategy
from tests.markets import INSTRUMENT, random_flow, random_quotes

LATENCY_NS = 50_000_000
VENUE = VenueConfig(feed_latency_ns=LATENCY_NS, order_latency_ns=LATENCY_NS, ack_latency_ns=LATENCY_NS)


class ReadsEverything(Strategy):
    """Trades on a mixture of all that its context tells."""

    batch_events = 3
    timer_ns = 7_000_000_000

    def on_batch(self, ctx: Context) -> None:
        seen = float(np.nansum(ctx.features)) + ctx.bid_price_ticks + ctx.ask_size_lots
        if int(abs(seen) * 1e3) % 2:
            ctx.buy(1) if ctx.position_lots < 5 else ctx.sell(2)

    def on_timer(self, ctx: Context) -> None:
        ctx.sell(1, ctx.ask_price_ticks, post_only=True, ttl_ns=self.timer_ns)


def played(events: NDArray[np.void]) -> Result:
    return backtest(ReadsEverything(), events, venue=VENUE, instrument=INSTRUMENT, equity_interval="1s")


@pytest.mark.parametrize("events", [random_quotes(3, count=600), random_flow(3)], ids=["quotes", "flow"])
def test_another_future_changes_no_past(events: NDArray[np.void]) -> None:
    cut = 2 * len(events) // 3
    whole, short = played(events), played(events[:cut])
    # What is on its way when the short recording ends is settled without a market.
    until_ns = int(events["ts_ns"][cut - 1])
    before = whole.fills[whole.fills["recv_ns"] < until_ns]
    assert len(before) > 20
    assert before.tobytes() == short.fills[short.fills["recv_ns"] < until_ns].tobytes()
    known = whole.equity_ts_ns < until_ns
    assert known.sum() > 20
    assert whole.equity[known].tolist() == short.equity[short.equity_ts_ns < until_ns].tolist()


def test_another_future_changes_no_day_and_no_model_of_the_main_job() -> None:
    quotes = small_quotes()
    turn_ns = (quotes.first_ns + quotes.last_ns) // 2 // DAY_NS * DAY_NS

    def spoil(_: int, block: QuoteBlock) -> QuoteBlock:
        later = block.ts_ns >= turn_ns
        for prices in (block.bid_ticks, block.ask_ticks):
            prices[later] = prices[later] + 7 * (np.arange(later.sum()) % 5).astype(prices.dtype)
        return block

    told, changed = simulate(), simulate(recording=Spoilt(quotes, spoil))
    day = int((turn_ns - told.windows[0].test_from_ns) // DAY_NS)
    assert day_stats(told, "linucb")["parents"][:day].sum() > 0
    for policy in told.policies:
        past, other = (day_stats(each, policy)[:day] for each in (told, changed))
        assert past.tobytes() == other.tobytes(), policy
        assert day_stats(told, policy).tobytes() != day_stats(changed, policy).tobytes()
    known = [index for index, window in enumerate(told.windows) if window.train_until_ns <= turn_ns]
    assert known
    for index in known:
        model, other_model = told.models[index], changed.models[index]
        assert model is not None
        assert other_model is not None
        assert (model.fp32_model, model.int8_model) == (other_model.fp32_model, other_model.int8_model)


class Leans(Strategy):
    """Holds one lot on the side that shows more, or as the price is even or odd."""

    touch_sizes = True

    def __init__(self, *, by_size: bool) -> None:
        self._by_size = by_size

    def on_touch(self, ctx: Context) -> None:
        up = ctx.bid_size_lots > ctx.ask_size_lots if self._by_size else ctx.bid_price_ticks % 2
        change = (1 if up else -1) - ctx.position_lots
        if change:
            (ctx.buy if change > 0 else ctx.sell)(abs(change))


CANDIDATES = {"sizes": lambda: Leans(by_size=True), "parity": lambda: Leans(by_size=False)}


def hours(seed: int, *, edge: float) -> NDArray[np.void]:
    """Return eighty days of hourly quotes; the shown sizes tell the next step's sign with `edge`."""
    events = random_quotes(seed, count=80 * 24, spread=2, seconds=3_600.0)
    draw = np.random.default_rng(seed + 1_000)
    steps = draw.integers(1, 9, len(events)) * draw.choice([-1, 1], len(events))
    view = events.view(QUOTE_DTYPE)
    mids = 10_000 + np.concatenate(([0], np.cumsum(steps[:-1])))
    view["bid_price_ticks"], view["ask_price_ticks"] = mids - 1, mids + 1
    told = np.where(draw.random(len(events)) < 0.5 + edge / 2, steps > 0, steps < 0)
    view["bid_size_lots"], view["ask_size_lots"] = np.where(told, 30, 10), np.where(told, 10, 30)
    return events


def walked(events: NDArray[np.void], registry: TrialRegistry) -> WalkForwardResult:
    return walk_forward(
        CANDIDATES, events, train_days=20, test_days=20, registry=registry, equity_interval="1h",
        venue=VENUE, instrument=INSTRUMENT,
    )  # fmt: skip


def test_a_planted_edge_is_found(tmp_path: Any) -> None:
    found = walked(hours(1, edge=0.8), TrialRegistry(tmp_path / "trials.sqlite"))
    assert {window.chosen for window in found.windows} == {"sizes"}
    assert found.pnl > 0
    assert found.sharpe.low > 0
    assert found.deflated_sharpe > 0.95


def test_no_skill_is_found_where_sizes_tell_nothing(tmp_path: Any) -> None:
    found = [
        walked(hours(seed, edge=0.0), TrialRegistry(tmp_path / f"{seed}.sqlite")) for seed in range(2, 6)
    ]
    # Crossing the spread makes the mean negative, and four histories leave room for one of luck.
    assert sum(each.deflated_sharpe > 0.95 for each in found) <= 1
    assert sum(each.pnl for each in found) < 0
    assert {window.chosen for each in found for window in each.windows} == {"sizes", "parity"}

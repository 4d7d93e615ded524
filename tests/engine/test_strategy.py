"""Strategies: subscriptions, parameters, and the three that come along."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.errors import ConfigError
from data.schema import Liquidity
from engine.journal import JournalReader
from engine.strategies import MarketMaker, SignalTaker, Twap
from engine.strategy import Strategy, make_agent, subscriptions
from tests.markets import INSTRUMENT, SECOND_NS, START_NS, play, random_flow, random_quotes


class Both(Strategy):
    timer_ns = SECOND_NS

    def on_timer(self, ctx):
        pass

    def on_fill(self, ctx, fill):
        pass


def test_only_overridden_hooks_are_subscribed():
    assert subscriptions(Strategy()) == ()
    assert subscriptions(Both()) == ("on_timer", "on_fill")
    assert subscriptions(MarketMaker()) == ("on_start", "on_touch", "on_report")


def test_parameters_are_the_plain_public_attributes():
    both = Both()
    both.size_lots, both._hidden, both.table = 7, 1, np.zeros(3)
    assert both.parameters() == {
        "timer_ns": SECOND_NS, "batch_events": None, "touch_sizes": False,
        "touch_every_ns": None, "size_lots": 7,
    }  # fmt: skip
    assert MarketMaker(size_lots=3).parameters()["size_lots"] == 3


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"timer_ns": 0}, "timer_ns must be a positive"),
        ({"timer_ns": 1.5}, "timer_ns must be a positive"),
        ({"batch_events": 5}, "sets batch_events and has no on_batch"),
    ],
)
def test_subscriptions_that_can_not_work_are_refused(changes, rule):
    strategy = Both()
    for name, value in changes.items():
        setattr(strategy, name, value)
    with pytest.raises(ConfigError, match=rule):
        make_agent(strategy, instrument=INSTRUMENT, run_id=1)


def test_what_is_no_strategy_is_refused():
    with pytest.raises(ConfigError, match="must be an object of a Strategy class"):
        make_agent(Both, instrument=INSTRUMENT, run_id=1)


def test_a_batch_hook_needs_its_count():
    class Batch(Strategy):
        def on_batch(self, ctx):
            pass

    with pytest.raises(ConfigError, match="sets no batch_events"):
        make_agent(Batch(), instrument=INSTRUMENT, run_id=1)


# The market maker.


@settings(max_examples=10)
@given(seed=st.integers(0, 1_000), limit=st.integers(1, 12), size=st.integers(1, 9))
def test_the_market_maker_keeps_its_position_within_its_limit(seed, limit, size):
    maker = MarketMaker(size_lots=size, position_lots_max=limit, requote_ns=SECOND_NS // 10)
    result = play(maker, random_flow(seed), queue="optimistic")
    signed = result.fills["side"] * result.fills["size_lots"]
    assert np.abs(np.cumsum(signed)).max(initial=0) <= limit


def test_the_market_maker_only_makes():
    result = play(MarketMaker(size_lots=3), random_flow(4), queue="optimistic")
    assert len(result.fills) > 5
    assert set(result.fills["liquidity"]) == {Liquidity.MAKER}
    assert set(result.fills["side"]) == {1, -1}


def test_a_skewed_market_maker_holds_less():
    held = []
    for skew in (0.0, 6.0):
        result = play(
            MarketMaker(size_lots=5, position_lots_max=50, skew_ticks=skew, tolerance=0.0),
            random_flow(9, orders=1_500), queue="optimistic", equity_interval="1s",
        )  # fmt: skip
        held.append(np.abs(result.position_lots).mean())
    assert held[1] < held[0]


# The TWAP.


@settings(max_examples=15)
@given(
    seed=st.integers(0, 1_000), size=st.integers(1, 120), slices=st.integers(1, 20),
    side=st.sampled_from((1, -1)),
    share=st.sampled_from((0.0, 0.5, 0.9)), queue=st.sampled_from(("optimistic", "pessimistic")),
)  # fmt: skip
def test_a_twap_adds_up_to_its_size_and_never_overfills(seed, size, slices, side, share, queue):
    class Watched(Twap):
        def on_report(self, ctx, report):
            assert self.filled_lots + self.open_lots + self.cancelled_lots == self.size_lots
            working = sum(order.leaves_lots for order in ctx.open_orders)
            assert 0 <= working <= self.open_lots
            super().on_report(ctx, report)

    twap = Watched(side=side, size_lots=size, slices=slices, duration_ns=150 * SECOND_NS, passive_share=share)
    result = play(twap, random_flow(seed), queue=queue)
    filled = int(result.fills["size_lots"].sum())
    assert twap.filled_lots == filled <= size
    assert twap.filled_lots + twap.open_lots + twap.cancelled_lots == size
    assert twap.open_lots == 0
    assert result.position_lots[-1] == side * filled
    assert set(result.fills["side"]) <= {side}


def test_a_twap_with_time_and_depth_fills_exactly_its_size(tmp_path):
    twap = Twap(size_lots=100, slices=10, duration_ns=300 * SECOND_NS, passive_share=0.5)
    result = play(twap, random_quotes(3, count=600), journal=tmp_path / "twap.journal")
    assert (twap.filled_lots, twap.cancelled_lots) == (100, 0)
    # Equal slices, spread over the duration, each complete before the next.
    by_slice = np.cumsum(result.fills["size_lots"])
    times = (result.fills["ts_ns"] - START_NS) / SECOND_NS
    for part in range(1, 10):
        assert by_slice[times < 30 * part + 1].max(initial=0) <= 10 * (part + 1)
    sent = JournalReader(result.journal_path).orders()
    assert sent["size_lots"][sent["action"] == 1].max() <= 20


# The signal taker.


class Sine:
    feature_count, row_shape, precision, sha256, abstentions = 16, (16,), "fp32", "1" * 64, 0

    def __init__(self):
        self._calls = 0

    def signal(self, features):
        self._calls += 1
        return float(np.sin(self._calls / 5.0))


def test_the_signal_taker_enters_holds_and_leaves():
    taker = SignalTaker(size_lots=2, enter_at=0.8, exit_at=0.2, timer_ns=10 * SECOND_NS)
    result = play(taker, random_quotes(3, count=900), session=Sine(), equity_interval="10s")
    assert set(result.position_lots) == {-2, 0, 2}
    assert set(result.fills["liquidity"]) == {Liquidity.TAKER}


@pytest.mark.parametrize(
    ("make", "rule"),
    [
        (lambda: MarketMaker(size_lots=0), "size_lots must be positive, was 0"),
        (lambda: MarketMaker(tolerance=-1.0), "tolerance must be"),
        (lambda: Twap(side=0), "side must be 1 or -1"),
        (lambda: Twap(slices=0), "slices must be positive"),
        (lambda: Twap(passive_share=1.0), "passive_share must be"),
        (lambda: SignalTaker(enter_at=0.1, exit_at=0.2), "exit_at < enter_at"),
    ],
)
def test_bad_parameters_are_refused(make, rule):
    with pytest.raises(ConfigError, match=rule):
        make()

"""The loop's two clocks, its channels, and that nothing depends on how the events came in."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backtest.venue_config import VenueConfig
from data.schema import ReportKind
from engine.journal import JournalReader, JournalWriter
from engine.risk import RiskLimits, make_gate
from engine.strategies import MarketMaker
from engine.strategy import Strategy, make_agent
from ext.event_loop import EventLoop
from ext.journal import JournalBuffer
from ext.order_book import OrderBook
from ext.ring_buffer import SpscRing
from ext.sim_venue import SimulatedVenue
from ext.tick_path import Agent
from tests.markets import INSTRUMENT, SECOND_NS, START_NS, Script, joined, play, quote, random_quotes

MILLISECOND_NS = 1_000_000
SLOW = VenueConfig(
    feed_latency_ns=3 * MILLISECOND_NS, order_latency_ns=5 * MILLISECOND_NS, ack_latency_ns=7 * MILLISECOND_NS
)


def loop_of(strategy, *, ring_events=1_024, venue=SLOW, seed=1):
    agent = make_agent(strategy, instrument=INSTRUMENT, run_id=5)
    buffer = JournalBuffer(65_536, run_id=5)
    loop = EventLoop(
        ring=SpscRing(ring_events),
        venues=[
            SimulatedVenue(
                venue.rules(queue="flow", tick_size_ticks=1),
                venue_id=0,
                tick_value=0.01,
                seed=seed,
                book=OrderBook(),
            )
        ],
        agent=agent,
        gate=make_gate(RiskLimits(), INSTRUMENT),
        journal=buffer,
        seed=seed,
    )
    return loop, agent, JournalWriter(None, buffer=buffer, seed=seed)


def test_our_clock_runs_the_feeds_latency_behind_the_venues():
    seen = []

    class Look(Strategy):
        def on_touch(self, ctx):
            seen.append((ctx.now_ns - START_NS, ctx.bid_price_ticks))

    play(Look(), joined(quote(0, 10, 12), quote(1, 11, 12), quote(2, 12, 13)), venue=SLOW)
    assert seen == [(SECOND_NS + 3 * MILLISECOND_NS, 11), (2 * SECOND_NS + 3 * MILLISECOND_NS, 12)]


def test_an_order_meets_the_market_of_its_arrival_not_of_its_decision():
    class Take(Strategy):
        def on_start(self, ctx):
            self.sent_ns = ctx.now_ns
            ctx.buy(1, 20, ioc=True)

        def on_fill(self, ctx, fill):
            self.fill = (fill.price_ticks, fill.ts_ns - self.sent_ns, fill.recv_ns - fill.ts_ns)
            assert ctx.now_ns == fill.recv_ns

    take = Take()
    # Decided at 3 ms after the quote at 12; at the venue 5 ms later the offer is 15.
    play(take, joined(quote(0, 10, 12), quote(0.007, 13, 15), quote(1, 13, 15)), venue=SLOW)
    assert take.fill == (15, 5 * MILLISECOND_NS + 2_000, 7 * MILLISECOND_NS)


def test_at_one_instant_the_market_comes_first():
    script = Script(t1=lambda ctx: seen.append(ctx.bid_price_ticks))
    seen: list[int] = []
    play(script, joined(quote(0, 10, 12), quote(1, 11, 12), quote(2, 12, 13)))
    assert seen == [11]


def test_jitter_never_lets_a_later_command_overtake(tmp_path):
    class Chatter(Strategy):
        timer_ns = MILLISECOND_NS

        def on_timer(self, ctx):
            if ctx.open_orders:
                ctx.cancel_all()
            else:
                ctx.buy(1, 5)

    venue = VenueConfig(order_jitter_ns=20 * MILLISECOND_NS)
    result = play(
        Chatter(), joined(quote(0, 10, 12), quote(1, 11, 12)), venue=venue, journal=tmp_path / "chat.journal"
    )
    reports = JournalReader(result.journal_path).reports()
    kinds = reports["kind"][np.argsort(reports["client_order_id"], kind="stable")].reshape(-1, 2)
    assert len(kinds) > 10
    assert (kinds == [ReportKind.ACCEPTED, ReportKind.CANCELLED]).all()
    assert (np.diff(reports["recv_ns"]) >= 0).all()


@settings(max_examples=12)
@given(cuts=st.lists(st.integers(1, 400), min_size=1, max_size=30), turn=st.integers(1, 900))
def test_the_journal_does_not_depend_on_how_the_events_came_in(cuts, turn):
    events = random_quotes(11, count=900)
    hashes = set()
    for sizes, count_max in (([len(events)], 100_000), (cuts, turn)):
        loop, agent, writer = loop_of(MarketMaker(requote_ns=SECOND_NS))
        position, index = 0, 0
        while position < len(events):
            pushed = loop.ring.try_push(events[position : position + sizes[index % len(sizes)]])
            position, index = position + pushed, index + 1
            while loop.run(count_max):
                writer.flush()
        agent.close()
        while not loop.finish():
            writer.flush()
        assert loop.totals["orders"] > 10
        hashes.add(writer.commit())
    assert len(hashes) == 1


def test_every_open_order_ends_and_the_gate_is_empty_when_the_run_is_finished():
    loop, agent, writer = loop_of(MarketMaker(requote_ns=SECOND_NS))
    loop.ring.try_push(random_quotes(2, count=500))
    loop.run()
    assert loop.gate.open_orders > 0
    agent.close()
    while not loop.finish():
        writer.flush()
    assert loop.gate.open_orders == 0
    assert loop.gate.unknown_reports == 0
    assert loop.gate.position(INSTRUMENT.instrument_id) == loop.totals["position_lots"]


def test_the_last_equity_sample_stands_at_the_end_of_the_data():
    class Idle(Strategy):
        pass

    result = play(Idle(), random_quotes(2, count=500))
    assert result.equity_ts_ns[-1] == START_NS + 499 * SECOND_NS
    assert (np.diff(result.equity_ts_ns) >= 0).all()


def test_an_agent_serves_one_loop():
    loop, agent, _ = loop_of(Script())
    with pytest.raises(ValueError, match="one loop"):
        EventLoop(ring=loop.ring, venues=loop.venues, agent=agent, gate=loop.gate, journal=loop.journal)


def test_venues_carry_their_position():
    loop, _, _ = loop_of(Script())
    with pytest.raises(ValueError, match="position as venue_id"):
        EventLoop(ring=loop.ring, venues=loop.venues * 2, agent=Agent(), gate=loop.gate, journal=loop.journal)


def test_a_market_order_without_a_reference_price_is_refused():
    script = Script(t1=lambda ctx: ctx.buy(1))
    result = play(script, joined(quote(0, 10, 0, ask_size=0), quote(2, 10, 0, ask_size=0)))
    assert result.orders == 0
    assert sum(result.rejections.values()) == 1

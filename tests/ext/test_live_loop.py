"""The loop on a schedule: commands in their venues' rings, latency from the time an event was due."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from benchmarks.bench_events import random_quotes
from benchmarks.bench_tick_to_order import live_engine
from data.schema import EVENT_DTYPE, ORDER_DTYPE, Reason
from ext.event_loop import EventLoop
from ext.histogram import Histogram
from ext.journal import JournalBuffer
from ext.order_book import OrderBook
from ext.ring_buffer import SpscRing
from ext.risk_gate import RiskGate
from ext.sim_venue import SimulatedVenue
from ext.tick_path import Agent
from ext.tick_probe import publish_on_schedule, receive


def quotes(count: int) -> np.ndarray:
    events = random_quotes(count, venues=3, seed=1)
    events["ts_ns"] = events["ts_ns"][0] + np.arange(count) * 1_000
    return events


def test_every_command_of_the_journal_is_in_its_venues_ring() -> None:
    events = quotes(4_000)
    loop, rings = live_engine(events)
    publisher = threading.Thread(target=publish_on_schedule, args=(loop.ring, events, 1_000, 0))
    publisher.start()
    assert loop.run_live()
    publisher.join()
    assert loop.events == len(events)
    found = [ring.pop(ring.capacity) for ring in rings]
    assert sum(map(len, found)) == loop.totals["orders"] == loop.tick_to_order.total > 100
    for venue, orders in enumerate(found):
        assert orders.dtype == ORDER_DTYPE
        assert (orders["venue_id"] == venue).all()
        assert (np.diff(orders["ts_ns"]) >= 0).all()


def test_the_schedule_decides_nothing() -> None:
    events = quotes(3_000)
    hashes = []
    for interval_ns in (1, 2_000):
        loop, rings = live_engine(events)
        publisher = threading.Thread(target=publish_on_schedule, args=(loop.ring, events, interval_ns, 0))
        publisher.start()
        assert loop.run_live()
        publisher.join()
        hashes.append([ring.pop(ring.capacity).tobytes() for ring in rings])
    assert hashes[0] == hashes[1]


def test_an_engine_that_does_nothing_counts_what_each_event_waited() -> None:
    ring, waited = SpscRing(8), Histogram()
    events = quotes(4)
    ring.try_push(events)
    ring.close()
    receive(ring, waited)
    assert waited.total == len(events)
    assert waited.maximum > 0
    with pytest.raises(ValueError, match="ring of events"):
        receive(SpscRing(8, dtype=ORDER_DTYPE), waited)


def test_a_full_ring_refuses_and_its_order_is_not_exposed() -> None:
    events = quotes(2_000)
    loop, rings = live_engine(events, ring_orders=2)
    loop.ring.try_push(events)
    while loop.run():
        pass
    assert loop.gate.refusals == {}
    assert loop.refusals[int(Reason.CAPACITY)] > 0
    assert all(len(ring) == 2 for ring in rings)
    assert loop.totals["orders"] == 2 * len(rings)


@pytest.mark.parametrize(
    ("rings", "words"),
    [
        ([SpscRing(8, dtype=ORDER_DTYPE)] * 2, "one per venue"),
        ([SpscRing(8)], "takes orders"),
        ([SpscRing(8, dtype=ORDER_DTYPE, when_full="drop-oldest")], "must not drop"),
    ],
)
def test_rings_that_do_not_fit_are_refused(rings: list[SpscRing], words: str) -> None:
    rules = {"order_latency_ns": 0, "ack_latency_ns": 0, "feed_latency_ns": 0}
    with pytest.raises(ValueError, match=words):
        EventLoop(
            ring=SpscRing(8),
            venues=[SimulatedVenue(rules, venue_id=0, tick_value=1.0, seed=1, book=OrderBook(8, 8))],
            agent=Agent(),
            gate=RiskGate(
                order_size_lots_max=1, price_band_ticks=1, position_lots_max=1, messages_per_second_max=1
            ),
            journal=JournalBuffer(1 << 14),
            order_rings=rings,
        )


def test_a_schedule_that_cannot_be_kept_is_refused() -> None:
    with pytest.raises(ValueError, match="positive interval"):
        publish_on_schedule(SpscRing(8), np.zeros(1, EVENT_DTYPE), 0)
    with pytest.raises(ValueError, match="ring of events"):
        publish_on_schedule(SpscRing(8, dtype=ORDER_DTYPE), np.zeros(1, EVENT_DTYPE), 1_000)

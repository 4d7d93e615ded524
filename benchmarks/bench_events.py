"""Events through the ring, and through ring, book and features.

The floor of all three is the same: every event's 48 bytes must be copied once into the ring and read
once out of it. The probe does that with numpy's copies, batch by batch, in a buffer as large as the
ring, so that it too stays within the cache.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from data.schema import EVENT_DTYPE, QUOTE_DTYPE, EventFlag, EventKind
from ext.event_loop import EventLoop
from ext.journal import JournalBuffer
from ext.order_book import OrderBook
from ext.ring_buffer import SpscRing
from ext.risk_gate import RiskGate
from ext.sim_venue import SimulatedVenue
from ext.tick_path import Agent

from .harness import Bench, scenario

RING_EVENTS = 4_096
BATCH_EVENTS = 512


def random_quotes(count: int, *, venues: int, seed: int) -> NDArray[np.void]:
    """Return quotes of several venues around one random walk, as EVENT_DTYPE, shape (count,)."""
    random = np.random.default_rng(seed)
    quotes = np.zeros(count, QUOTE_DTYPE)
    mid = 100_000 + np.cumsum(random.integers(-1, 2, count))
    quotes["ts_ns"] = 1_500_000_000_000_000_000 + np.cumsum(random.integers(1, 200_000, count))
    quotes["bid_price_ticks"] = mid - random.integers(1, 4, count)
    quotes["ask_price_ticks"] = mid + random.integers(1, 4, count)
    quotes["bid_size_lots"] = random.integers(1, 500, count)
    quotes["ask_size_lots"] = random.integers(1, 500, count)
    quotes["seq"] = np.arange(count)
    quotes["venue_id"] = np.arange(count) % venues
    quotes["kind"] = EventKind.QUOTE
    quotes["flags"] = EventFlag.LAST_IN_PACKET
    return quotes.view(EVENT_DTYPE)


def copy_twice(events: NDArray[np.void]) -> Callable[[], None]:
    """Return the floor probe: each batch into a ring-sized buffer and out of it again."""
    source = events.view(np.uint8).reshape(-1, EVENT_DTYPE.itemsize)
    ring = np.zeros((RING_EVENTS, EVENT_DTYPE.itemsize), np.uint8)
    target = np.zeros((BATCH_EVENTS, EVENT_DTYPE.itemsize), np.uint8)

    def copy() -> None:
        slot = 0
        for first in range(0, len(source), BATCH_EVENTS):
            batch = source[first : first + BATCH_EVENTS]
            count = len(batch)
            ring[slot : slot + count] = batch
            target[:count] = ring[slot : slot + count]
            slot = (slot + BATCH_EVENTS) % RING_EVENTS

    return copy


@scenario(
    "ring",
    "ring buffer, one thread: push and pop in batches",
    conditions=f"batches of {BATCH_EVENTS} from Python, ring of {RING_EVENTS}; floor: two copies.",
)
def ring(bench: Bench) -> None:
    count = bench.parameter("events", smoke=5_000, full=4_000_000)
    events = random_quotes(count, venues=1, seed=bench.seed)
    total = 0

    def hop() -> None:
        nonlocal total
        total = 0
        spsc = SpscRing(RING_EVENTS)
        for first in range(0, count, BATCH_EVENTS):
            spsc.try_push(events[first : first + BATCH_EVENTS])
            total += int(spsc.pop(BATCH_EVENTS)["seq"][-1])

    bench.throughput("event", hop, count=count, floor=copy_twice(events))
    bench.verify(
        total
        == int(events["seq"][BATCH_EVENTS - 1 :: BATCH_EVENTS].sum())
        + (int(events["seq"][-1]) if count % BATCH_EVENTS else 0),
        "every batch comes out as it went in",
    )


@scenario(
    "ring-threads",
    "ring buffer, a producer and a consumer thread",
    conditions="two Python threads, one interpreter lock; who cannot go on yields; floor: two copies.",
)
def ring_threads(bench: Bench) -> None:
    count = bench.parameter("events", smoke=5_000, full=4_000_000)
    events = random_quotes(count, venues=1, seed=bench.seed)
    taken, ordered = 0, True

    def produce(spsc: SpscRing, left: threading.Event) -> None:
        pushed = 0
        while pushed < count:
            took = spsc.try_push(events[pushed : pushed + BATCH_EVENTS])
            pushed += took
            if not took:
                if left.is_set():
                    return
                time.sleep(0)
        spsc.close()

    def hop() -> None:
        nonlocal taken, ordered
        taken, ordered = 0, True
        spsc, left = SpscRing(RING_EVENTS), threading.Event()
        producer = threading.Thread(target=produce, args=(spsc, left))
        producer.start()
        try:
            while not spsc.drained:
                batch = spsc.pop(BATCH_EVENTS)
                if not len(batch):
                    time.sleep(0)
                    continue
                ordered = ordered and int(batch["seq"][0]) == taken
                taken += len(batch)
        finally:
            # Interrupted: the producer would wait for room, and the interpreter for the producer.
            left.set()
            producer.join()

    bench.throughput("event", hop, count=count, floor=copy_twice(events))
    bench.verify(taken == count and ordered, "every event arrives once, in order")


@scenario(
    "path",
    "ring, book and features, three venues",
    conditions="QUOTE events of three venues through the event loop with an agent that does nothing, one "
    f"thread, ring of {RING_EVENTS}; floor: two copies.",
)
def path(bench: Bench) -> None:
    count = bench.parameter("events", smoke=5_000, full=4_000_000)
    venues = 3
    events = random_quotes(count, venues=venues, seed=bench.seed)
    loop = quiet_loop(venues)

    def stream() -> None:
        nonlocal loop
        loop = quiet_loop(venues)
        for first in range(0, count, RING_EVENTS):
            loop.ring.try_push(events[first : first + RING_EVENTS])
            loop.run(RING_EVENTS)

    bench.throughput("event", stream, count=count, floor=copy_twice(events))
    bench.verify(loop.events == count, "the loop counted every event")
    quotes = events.view(QUOTE_DTYPE)
    for venue in loop.venues:
        last = quotes[quotes["venue_id"] == venue.venue_id][-1]
        shown = (venue.book.bid_price_ticks, venue.book.bid_size_lots, venue.book.ask_price_ticks)
        wanted = (int(last["bid_price_ticks"]), int(last["bid_size_lots"]), int(last["ask_price_ticks"]))
        bench.verify(shown == wanted, f"venue {venue.venue_id} shows its last quote")


def quiet_loop(venue_count: int) -> EventLoop:
    """Return an event loop with nobody trading."""
    rules = {"order_latency_ns": 0, "ack_latency_ns": 0, "feed_latency_ns": 0}
    venues = [
        SimulatedVenue(rules, venue_id=index, tick_value=1.0, seed=1, book=OrderBook(1_024, 1_024))
        for index in range(venue_count)
    ]
    return EventLoop(
        ring=SpscRing(RING_EVENTS),
        venues=venues,
        agent=Agent(),
        gate=RiskGate(
            order_size_lots_max=1, price_band_ticks=1, position_lots_max=1, messages_per_second_max=1
        ),
        journal=JournalBuffer(1 << 14),
    )

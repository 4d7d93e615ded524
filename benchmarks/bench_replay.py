"""Recordings through books and features, in memory and from the store.

The floor is what any replay must do at least: read the 48 bytes of each event once.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from functools import partial

import numpy as np
from numpy.typing import NDArray

from backtest.replayer import replay
from data.instrument import Instrument
from data.schema import EVENT_DTYPE
from data.store import TickStore
from ext.feature_set import ALL_FEATURE_NAMES, FeatureSet
from ext.merge import EventMerge
from ext.order_book import OrderBook
from ext.replay import Replay

from .harness import Bench, scenario, seconds_of
from .replay_markets import level_market, level_walk, order_market

DAY_NS = 86_400 * 10**9
ORDERS, LEVELS = 8_192, 1_024
OF_THE_MARKET = tuple(name for name in ALL_FEATURE_NAMES if not name.startswith("queue_ahead"))
"""Without those of our own orders: nobody trades in a replay."""


def read_once(events: NDArray[np.void]) -> Callable[[], None]:
    """Return the floor probe: a sum over the events' words."""
    words = events.view(np.uint64)
    return words.sum


def alone(events: NDArray[np.void]) -> int:
    """Return the hash of a book that took one venue's events by itself."""
    book = OrderBook(ORDERS, LEVELS)
    book.apply(events)
    return book.state_hash()


@scenario(
    "replay",
    "events in memory through a book, without features and with all",
    conditions="one thread; by level: about 40 levels a side, one event in fifty moves the mid; by order: "
    "about 1,000 and 4,000 live orders; all features kept per event and read once at the end; floor: reading "
    "the events.",
)
def in_memory(bench: Bench) -> None:
    count = bench.parameter("events", smoke=4_000, full=2_000_000)
    markets = {
        "L2": (level_market(count, seed=bench.seed), 20.0),
        "L3 of 1,000 orders": (order_market(count, seed=bench.seed, live=1_000), 30.0),
        "L3 of 4,000 orders": (order_market(count, seed=bench.seed, live=4_000), 30.0),
    }
    last: list[Replay] = []
    for name, (events, goal_ns) in markets.items():
        for features, suffix in ((None, ""), (FeatureSet(OF_THE_MARKET), ", all features")):

            def work(events: NDArray[np.void] = events, features: FeatureSet | None = features) -> None:
                last[:] = [Replay(1, features=features, order_capacity=ORDERS, level_capacity=LEVELS)]
                last[0].apply(events)

            bench.throughput(
                f"{name}{suffix}, event", work, count=count, floor=read_once(events),
                goal=goal_ns + (12.0 if features else 0.0),
            )  # fmt: skip
            bench.verify(
                last[0].state_hash() == folded([alone(events)]), f"{name}: the book is the reference's"
            )
            bench.verify(last[0].events == count, f"{name}: every event was counted")


@scenario(
    "replay-venues",
    "streams of 1, 2, 4 and 8 venues merged and applied in one thread",
    conditions="the same number of events in all, by level, each venue its own stream and book; growth: 8 "
    "venues and 1 in turns, time over time; floor: reading the events. With a reader thread the merge stands "
    "beside the books, see replay-store.",
)
def venues(bench: Bench) -> None:
    count = bench.parameter("events", smoke=4_000, full=2_000_000)
    last: list[Replay] = []
    markets = {number: market_of(number, count // number, seed=bench.seed) for number in (1, 2, 4, 8)}

    def work(parts: list[NDArray[np.void]]) -> None:
        merge = EventMerge(len(parts))
        last[:] = [Replay(len(parts), order_capacity=ORDERS, level_capacity=LEVELS)]
        for stream, part in enumerate(parts):
            merge.refill(stream, part)
        while last[0].apply_merged(merge, count) or merge.dry:
            for stream in merge.dry:
                merge.close(stream)

    for number, parts in markets.items():
        floor = read_once(np.concatenate(parts))
        bench.throughput(f"{number} venues, event", partial(work, parts), count=count, floor=floor)
        bench.verify(
            last[0].state_hash() == folded([alone(part) for part in parts]), "the books are the references'"
        )
        bench.verify(last[0].events == sum(map(len, parts)), "every event was counted")
    turns = [
        [seconds_of(partial(work, markets[number])) for number in (1, 8)] for _ in range(2 * bench.passes)
    ]
    growth = [eight / one for one, eight in turns]
    bench.record("growth from 1 to 8 venues", "times", growth, floor=1.0, goal=1.15)


@scenario(
    "replay-long",
    "a thousand million events by level through one book",
    conditions="one thread; a market of half a million events again and again, each time from where its mid "
    "has gone; an event's time by hundredths of them; growth: the book that has taken them all and a new one "
    "in turns over the next ten million, time over time; floor: reading the events.",
)
def long(bench: Bench) -> None:
    size = bench.parameter("events a piece", smoke=1_000, full=500_000)
    pieces = bench.parameter("pieces", smoke=4, full=2_000)
    events, gone_ticks = level_walk(size, seed=bench.seed)
    length_ns = events["ts_ns"][-1] - events["ts_ns"][0] + 1
    old, new = (Replay(order_capacity=ORDERS, level_capacity=LEVELS) for _ in range(2))

    def onwards(replay: Replay) -> float:
        return seconds_of(partial(replay.apply, events)) * 1e9 / size

    def move() -> None:
        events["price_ticks"] += gone_ticks
        events["ts_ns"] += length_ns

    found, growth = [], []
    for _ in range(pieces):
        found.append(onwards(old))
        move()
    for _ in range(2 if bench.smoke else 20):
        growth.append(onwards(old) / onwards(new))
        move()
    bench.verify(old.backwards == 0 == old.books[0].crossed, "every event came in order and no book crossed")
    bench.verify(old.events == size * (pieces + len(growth)), "every event was counted")
    hundredths = [float(np.mean(part)) for part in np.array_split(found, min(pieces, 100))]
    bench.record("event", "ns", hundredths, floor=seconds_of(read_once(events)) * 1e9 / size)
    bench.record("growth after all events", "times", growth, floor=1.0, goal=1.05)


@scenario(
    "replay-store",
    "a tick store through books: a thread decodes and merges, another applies",
    conditions="by level, packed cache and Parquet in the page cache, checksums verified, wall time of the "
    "whole replay; floor: reading the events.",
)
def from_store(bench: Bench) -> None:
    count = bench.parameter("events", smoke=6_000, full=8_000_000)
    days = bench.parameter("days", smoke=2, full=8)
    for venue_count, cached in ((1, True), (8, True), (1, False)):
        per_day = count // days // venue_count
        with tempfile.TemporaryDirectory() as folder:
            store, hashes = TickStore(folder), []
            for venue, part in enumerate(market_of(venue_count, per_day * days, seed=bench.seed)):
                by_day(part, per_day)
                store.write(np.array_split(part, days), instrument=Instrument(symbol="X"), venue=f"V{venue}")
                hashes.append(alone(part))
            if cached:
                store.build_cache()
            found: list[object] = []

            def work(folder: str = folder, found: list[object] = found) -> None:
                result = replay(folder)
                found[:] = [result.events, result.state_hash]

            form = "packed" if cached else "Parquet"
            every = np.zeros(per_day * days * venue_count, EVENT_DTYPE)
            bench.throughput(
                f"{venue_count} venues, {form}, event", work, count=per_day * days * venue_count,
                floor=read_once(every), goal=36.0 if cached else None,
            )  # fmt: skip
            bench.verify(found[0] == per_day * days * venue_count, "every event was counted")
            bench.verify(found[1] == f"{folded(hashes):016x}", "the books are the references'")


def market_of(venue_count: int, count: int, *, seed: int) -> list[NDArray[np.void]]:
    """Return one stream by level per venue, all over the same stretch of time."""
    step_ns = 20_000 * venue_count
    return [level_market(count, seed=seed, venue=venue, step_ns=step_ns) for venue in range(venue_count)]


def by_day(events: NDArray[np.void], per_day: int) -> None:
    """Move every `per_day` events to a day of their own."""
    days = np.arange(len(events)) // per_day
    begun_ns = events["ts_ns"][days * per_day]
    events["ts_ns"] += events["ts_ns"][0] + days * DAY_NS - begun_ns


def folded(hashes: list[int]) -> int:
    """Fold books' hashes like `Replay.state_hash`."""
    state = 0xCBF29CE484222325
    for venue, word in enumerate(hashes):
        for byte in (venue, *word.to_bytes(8, "little")):
            state = (state ^ byte) * 0x100000001B3 % (1 << 64)
    return state

"""The feed's book while the price stands and while it walks half its own value away.

Nothing is recentred when a price walks, so the slowest thousandth of the walk's events should look like the
standing market's. Every event is timed by the processor's clock; the floor is an event that changes
nothing, which is what the clock and the loop take.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from data.schema import EVENT_DTYPE, EventKind
from ext.order_book import OrderBook

from .harness import Bench, scenario

START_TICKS = 1_000_000
DEPTH_TICKS = 32


def order_flow(live: int, count: int, *, walk_ticks: int, seed: int) -> NDArray[np.void]:
    """Return events that hold `live` orders around a centre, which drifts by `walk_ticks` in all.

    Each order leaves when `live` younger ones have come, so that the book follows its centre.
    """
    draw = np.random.default_rng(seed)
    adds = (count + live) // 2
    centre = START_TICKS + np.arange(adds, dtype=np.int64) * walk_ticks // adds
    side = draw.choice(np.array([-1, 1]), adds)
    events = np.zeros(2 * adds, EVENT_DTYPE)
    events["kind"][0::2], events["kind"][1::2] = EventKind.ADD, EventKind.CANCEL
    ids = np.arange(1, adds + 1, dtype=np.uint64) * np.uint64(0xD1342543DE82EF95)
    events["order_id"][0::2] = ids
    events["order_id"][1::2][live:] = ids[:-live]
    events["side"][0::2] = side
    events["size_lots"][0::2] = draw.integers(1, 200, adds)
    away = 1 + draw.exponential(DEPTH_TICKS, adds).astype(np.int64)
    events["price_ticks"][0::2] = centre - side * away
    return events[events["order_id"] > 0]


@scenario(
    "book-walk",
    "the book of a feed by order while its price walks",
    conditions=f"mean depth {DEPTH_TICKS} ticks, one book given its capacity; p99.9 is the figure.",
)
def book_walk(bench: Bench) -> None:
    live = bench.parameter("live", smoke=200, full=10_000)
    count = bench.parameter("events", smoke=4_000, full=4_000_000)
    nothing = np.zeros(min(count, 100_000), EVENT_DTYPE)
    nothing["kind"] = EventKind.TRADE
    idle = OrderBook().time_events(nothing)
    for name, walk_ticks in (("standing", 0), ("walking 50 %", START_TICKS // 2)):
        events = order_flow(live, count, walk_ticks=walk_ticks, seed=bench.seed)
        book, whole = OrderBook(2 * live, 4_096), OrderBook(2 * live, 4_096)
        bench.samples(name, book.time_events(events), floor=idle)
        whole.apply(events)
        bench.verify(book.state_hash() == whole.state_hash(), "timed events do what events do")
        bench.verify(book.live_orders == live, "the book keeps its size")
        bench.verify(book.unknown_orders == book.duplicate_orders == 0, "every order is known")

"""The feed book alone: one generated market by order (L3) and by price level (L2), at three sizes.

Floor: one pass over the events' 48 bytes and, for orders, one read of the 32-byte node that each names, in
a table as large as the book; numpy does both.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from data.schema import EVENT_DTYPE
from ext.order_book import OrderBook

from .flow import level_flow, order_flow, standing
from .harness import Bench, scenario

BATCH_EVENTS = 4_096


def apply_all(book: OrderBook, events: NDArray[np.void]) -> None:
    """Apply the events in batches of `BATCH_EVENTS`."""
    for first in range(0, len(events), BATCH_EVENTS):
        book.apply(events[first : first + BATCH_EVENTS])


def verify_book(bench: Bench, book: OrderBook, flow: NDArray[np.void]) -> None:
    """Compare every level of the book with numpy's count."""
    wanted = standing(flow)
    levels = book.level_count(1) + book.level_count(-1)
    same = levels == len(wanted) and all(
        book.size_at(side, price) == lots for (side, price), lots in wanted.items()
    )
    bench.verify(same, "every level shows the lots that numpy counts")
    troubles = (book.crossed, book.unknown_orders, book.duplicate_orders, book.refused, book.lost)
    bench.verify(not any(troubles), "the feed held nothing unknown, double or crossed")


def _floor(events: NDArray[np.void], live: int, *, seed: int) -> Callable[[], None]:
    """Return the probe; `live` 0 leaves out the nodes."""
    source = events.view(np.uint8).reshape(-1, EVENT_DTYPE.itemsize)
    nodes = np.zeros((max(live, 1), 4), np.int64)
    places = np.random.default_rng(seed).integers(0, max(live, 1), len(events))
    target = np.empty((BATCH_EVENTS, EVENT_DTYPE.itemsize), np.uint8)
    found = np.empty((BATCH_EVENTS, 4), np.int64)

    def probe() -> None:
        for first in range(0, len(events), BATCH_EVENTS):
            count = min(BATCH_EVENTS, len(events) - first)
            target[:count] = source[first : first + count]
            if live:
                np.take(nodes, places[first : first + count], axis=0, out=found[:count], mode="clip")

    return probe


@scenario(
    "book",
    "feed book by order and by level, 1,000, 50,000 and 1,000,000 live orders",
    conditions=f"batches of {BATCH_EVENTS} events through Python, hashed 64-bit ids, a mid that walks; 48 % "
    "adds, 44 % cancels, the rest executions in time priority; floor: events read, one 32-byte node gathered "
    "each.",
)
def book(bench: Bench) -> None:
    count = bench.parameter("events", smoke=4_000, full=1_000_000)
    for live in (200, 400) if bench.smoke else (1_000, 50_000, 1_000_000):
        # The book has its size before the timed part begins.
        filling = live + live // 4
        flow = order_flow(filling + count, live=live, seed=bench.seed)
        _by_order(bench, flow, filling=filling, live=live)
        if live < 1_000_000:
            _by_level(bench, f"event, L2, {live:,} live", level_flow(flow)[filling:])


def _by_order(bench: Bench, flow: NDArray[np.void], *, filling: int, live: int) -> None:
    current = OrderBook()
    tail = flow[filling:]

    def fill() -> None:
        nonlocal current
        current = OrderBook(2 * live, 8_192)
        apply_all(current, flow[:filling])

    bench.throughput(
        f"event, L3, {live:,} live",
        lambda: apply_all(current, tail),
        count=len(tail),
        prepare=fill,
        floor=_floor(tail, live, seed=bench.seed),
    )
    verify_book(bench, current, flow)


def _by_level(bench: Bench, name: str, levels: NDArray[np.void]) -> None:
    current = OrderBook()

    def clear() -> None:
        nonlocal current
        current = OrderBook(1_024, 8_192)

    bench.throughput(
        name,
        lambda: apply_all(current, levels),
        count=len(levels),
        prepare=clear,
        floor=_floor(levels, 0, seed=bench.seed),
    )
    side_price = levels["price_ticks"].astype(np.int64) * 2 + (levels["side"] > 0)
    _, newest = np.unique(side_price[::-1], return_index=True)
    last = levels[::-1][newest]
    shown = all(
        current.size_at(int(row["side"]), int(row["price_ticks"])) == int(row["size_lots"]) for row in last
    )
    bench.verify(shown, "every level shows the size it was last given")

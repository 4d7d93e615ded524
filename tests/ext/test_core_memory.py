"""Memory of the compiled core that goes while something may still point there."""

from __future__ import annotations

import gc

import numpy as np

from data.schema import EVENT_DTYPE, ORDER_DTYPE, EventKind, OrderAction, OrderType, TimeInForce
from ext.matching_engine import MatchingEngine
from ext.order_book import OrderBook


def test_a_batch_looks_ahead_past_the_end_of_an_emptied_table_of_ids() -> None:
    """The ids that are looked up belong to the older table's last bucket, until the table is given back."""
    draw = np.random.default_rng(1)
    # Of every 8,192 ids one has the last of the older table's buckets for its home: top bits of a hash of
    # both halves of id * 2^64 / phi, all of them set.
    at_random = draw.integers(2**40, 2**62, 400_000).tolist()
    products = [order_id * 0x9E3779B97F4A7C15 for order_id in at_random]
    last = [
        order_id
        for order_id, product in zip(at_random, products, strict=True)
        if (product % 2**64 >> 51) ^ int.from_bytes((product >> 64).to_bytes(8, "little")) >> 51 == 2**13 - 1
    ]
    assert len(last) > 20
    last_homes = np.resize(np.array(last, np.uint64), 6_000)
    commands = np.zeros(3 * len(last_homes), ORDER_DTYPE)
    commands["client_order_id"] = draw.integers(2**62, 2**63, len(commands))
    commands["client_order_id"][2::3] = last_homes
    commands["action"] = OrderAction.NEW
    commands["action"][2::3] = OrderAction.CANCEL
    commands["order_type"], commands["time_in_force"] = OrderType.LIMIT, TimeInForce.GTC
    commands["side"], commands["price_ticks"], commands["size_lots"] = 1, 100, 1
    engine = MatchingEngine(20_000, 64)
    first = np.repeat(commands[:1], 16_400)
    first["client_order_id"] = np.arange(1, len(first) + 1, dtype=np.uint64) * np.uint64(2**32 + 1)
    engine.submit(first)
    engine.submit(commands)
    assert engine.live_orders == len(first) + 2 * len(last_homes)
    engine.verify()


class Holder:
    """An object in a cycle with itself, which the collector has to find."""

    def __init__(self, book: OrderBook) -> None:
        self.book, self.myself = book, self


def test_a_book_in_a_cycle_is_freed_before_its_memory() -> None:
    levels = np.zeros(400, EVENT_DTYPE)
    levels["kind"], levels["side"] = EventKind.LEVEL, 1
    levels["price_ticks"] = np.arange(-200, 200) * 5_000
    enabled = gc.isenabled()
    gc.disable()
    try:
        for _ in range(5):
            book = OrderBook(64, 64)  # older than its holder: the collector comes to it first
            for size_lots in (1, 0):
                levels["size_lots"] = size_lots
                book.apply(levels)
            Holder(book)
            del book
            assert gc.collect() >= 1
    finally:
        if enabled:
            gc.enable()

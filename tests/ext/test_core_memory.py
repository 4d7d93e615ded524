"""Memory of the compiled core that goes while something may still point there."""

from __future__ import annotations

import gc

import numpy as np

from data.schema import EVENT_DTYPE, ORDER_DTYPE, EventKind, OrderAction, OrderType, TimeInForce
from ext.matching_engine import MatchingEngine
from ext.order_book import OrderBook


def test_a_batch_looks_ahead_past_the_end_of_an_emptied_table_of_ids() -> None:
    """The ids that are looked up belong to the older table's last bucket, until the table is given back."""
    unspread = pow(0x9E3779B97F4A7C15, -1, 2**64)  # an id's home is the top of id * 2^64 / phi
    last_homes = [(2**64 - 1 - place) * unspread % 2**64 for place in range(6_000)]
    commands = np.zeros(3 * len(last_homes), ORDER_DTYPE)
    commands["client_order_id"] = np.random.default_rng(1).integers(1, 2**63, len(commands))
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

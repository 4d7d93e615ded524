"""A table of books is as many books, and completes events from what each holds."""

from __future__ import annotations

import random

import numpy as np
import pytest

from data.schema import EVENT_DTYPE, EventFlag, EventKind
from ext.book_table import BookTable
from ext.order_book import OrderBook


def random_events(*, seed: int, count: int) -> np.ndarray:
    """Orders of five instruments; ids are unique over all, some unknown, some taken too much from."""
    draw, events = random.Random(seed), np.zeros(count, EVENT_DTYPE)
    live: list[tuple[int, int]] = []
    for row in range(count):
        event = events[row]
        event["seq"], event["flags"] = row, EventFlag.LAST_IN_PACKET
        event["instrument_id"] = draw.choice((1, 2, 7, 500, 65_535))
        action = draw.random()
        if action < 0.5 or not live:
            event["kind"], event["order_id"], event["side"] = EventKind.ADD, row + 1, draw.choice((1, -1))
            event["price_ticks"] = 10_000 - int(event["side"]) * 100 * draw.randint(1, 90)
            event["size_lots"] = draw.randint(1, 9)
            live.append((row + 1, int(event["instrument_id"])))
        elif action < 0.97:
            place = draw.randrange(len(live))
            event["order_id"], event["instrument_id"] = live[place]
            event["kind"] = draw.choice((EventKind.CANCEL, EventKind.REDUCE, EventKind.EXECUTE))
            event["size_lots"] = 0 if event["kind"] == EventKind.CANCEL else draw.randint(1, 9)
            if draw.random() < 0.5:
                live.pop(place)
        else:
            event["kind"], event["order_id"] = EventKind.TRADE, 0
            event["price_ticks"], event["size_lots"] = 10_000, 5
    return events


@pytest.mark.parametrize("seed", range(5))
def test_each_book_is_what_it_would_be_alone(seed: int) -> None:
    events = random_events(seed=seed, count=4_000)
    given, table = events.copy(), BookTable()
    for start in range(0, len(events), 257):
        table.complete(events[start : start + 257])
    assert table.instruments() == sorted(set(given["instrument_id"].tolist()))
    unknown = overdrawn = 0
    for instrument in table.instruments():
        own = OrderBook()
        for row in np.flatnonzero(given["instrument_id"] == instrument).tolist():
            event, order = events[row], own.order(int(given["order_id"][row]))
            if EventKind.CANCEL <= given["kind"][row] <= EventKind.EXECUTE:
                if order is None:
                    unknown += 1
                    assert event == given[row]
                else:
                    assert event["side"] == order["side"]
                    assert event["price_ticks"] == order["price_ticks"]
                    if given["kind"][row] == EventKind.CANCEL:
                        assert event["size_lots"] == order["size_lots"]
                    overdrawn += int(event["size_lots"]) > order["size_lots"]
            else:
                assert event == given[row]
            own.apply(given[row : row + 1])
        assert table.book(instrument).state_hash() == own.state_hash()
    assert (table.unknown_orders, table.overdrawn) == (unknown, overdrawn)
    assert unknown > 0
    assert overdrawn > 0


def test_a_replacement_takes_the_side_of_what_it_replaces() -> None:
    events = np.zeros(4, EVENT_DTYPE)
    events["kind"] = [EventKind.ADD, EventKind.CANCEL, EventKind.ADD, EventKind.ADD]
    events["order_id"], events["side"] = [1, 1, 2, 3], [-1, 0, 0, 0]
    events["size_lots"], events["price_ticks"] = [5, 0, 7, 7], [100, 0, 99, 98]
    table = BookTable()
    table.complete(events)
    assert events["side"].tolist() == [-1, -1, -1, 0]
    assert table.book(0).queue_array(-1, 99).tolist() == [[2, 7]]
    assert table.book(0).refused == 1


def test_a_book_outlives_its_table() -> None:
    table = BookTable(1, 1)
    events = random_events(seed=3, count=2_000)
    table.complete(events)
    books = [table.book(instrument) for instrument in table.instruments()]
    before = [book.state_hash() for book in books]
    del table
    assert [book.state_hash() for book in books] == before
    books[0].apply(events)
    assert books[0].live_orders > 0


def test_a_block_may_be_empty_but_not_foreign() -> None:
    table = BookTable()
    assert table.complete(np.empty(0, EVENT_DTYPE)) == 0
    assert table.instruments() == []
    assert table.first_fault is None
    with pytest.raises(TypeError, match="EVENT_DTYPE"):
        table.complete(np.zeros(3))

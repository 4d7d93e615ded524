"""A table of books is as many books, and completes events from what each holds."""

from __future__ import annotations

import random

import numpy as np
import pytest
from alone import run_alone

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


def counted_events(*, seed: int, count: int) -> np.ndarray:
    """Events of every kind; ids are counted at first, then meet on the same places of a window."""
    draw, events = random.Random(seed), np.zeros(count, EVENT_DTYPE)
    kinds = (
        [EventKind.ADD] * 8 + [EventKind.CANCEL] * 5 + [EventKind.REDUCE, EventKind.EXECUTE, EventKind.LEVEL]
    )
    for row in range(count):
        event = events[row]
        event["seq"], event["flags"] = row, EventFlag.LAST_IN_PACKET
        event["instrument_id"], event["side"] = draw.randrange(5), draw.choice((1, -1))
        event["price_ticks"] = 10_000 - int(event["side"]) * 100 * draw.randint(1, 40)
        event["size_lots"] = draw.randint(1, 9)
        if row < 200:
            event["kind"], event["order_id"] = EventKind.ADD, row + 1
            continue
        event["kind"] = EventKind.CLEAR if draw.random() < 0.002 else draw.choice(kinds)
        if event["kind"] == EventKind.LEVEL:
            event["size_lots"] = draw.choice((0, 20))
        elif event["kind"] != EventKind.CLEAR:
            event["order_id"] = draw.randint(1, 250) + draw.randrange(3) * (1 << 22)
    return events


@pytest.mark.parametrize("seed", range(4))
def test_ids_that_meet_in_the_shared_window_stay_apart(seed: int) -> None:
    """Ids 2^22 apart share a place, as one id of several books does; a book's own index takes the rest."""
    events = counted_events(seed=seed, count=6_000)
    table, own = BookTable(16, 16), {instrument: OrderBook() for instrument in range(5)}
    unknown = 0
    for start in range(0, len(events), 50):
        block = events[start : start + 50]
        for event in block:
            own[int(event["instrument_id"])].apply(event.reshape(1))
        unknown += table.complete(block.copy())
        assert table.ids_counted == (start >= 50)
        for instrument in table.instruments():
            assert table.book(instrument).state_hash() == own[instrument].state_hash()
    for instrument, alone in own.items():
        book = table.book(instrument)
        assert book.duplicate_orders == alone.duplicate_orders > 0
        for order_id in range(1, 251):
            for lap in range(3):
                ours, theirs = (each.order(order_id + (lap << 22)) for each in (book, alone))
                assert ours == theirs
        book.apply(events)
        alone.apply(events)
        book.restore(book.snapshot())
        assert book.state_hash() == alone.state_hash()
    assert unknown > 0


def test_ids_at_random_are_not_counted() -> None:
    events = random_events(seed=1, count=2_000)
    events["order_id"] *= 1_000_003
    table = BookTable()
    table.complete(events)
    assert not table.ids_counted
    assert table.unknown_orders > 0


def test_a_table_goes_on_after_memory_ran_out() -> None:
    told = run_alone("""
        import resource
        import numpy as np
        from data.schema import EVENT_DTYPE
        from ext.book_table import BookTable

        table, step = BookTable(), 1 << 16
        events = np.zeros(step, EVENT_DTYPE)
        events["kind"], events["side"], events["size_lots"], events["price_ticks"] = 1, 1, 5, 100
        events["order_id"] = np.arange(1, step + 1)
        events["instrument_id"] = 1
        events["instrument_id"][0] = 2
        table.complete(events)
        with open("/proc/self/statm") as file:
            now = int(file.read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (now + (8 << 20), now + (8 << 20)))
        for _ in range(64):
            events["instrument_id"] = 1
            events["order_id"] += step
            try:
                table.complete(events)
            except MemoryError as error:
                print(error)
                break
        lost = table.book(1).lost
        events = events[:1]
        events["order_id"], events["instrument_id"] = 1, 2
        events["kind"] = 4
        table.complete(events)
        events["instrument_id"], events["order_id"] = 1, 2
        table.complete(events)
        print(lost > 0, table.book(1).lost == lost, table.unknown_orders)
    """)
    assert "which 1 books miss: [1]" in told
    assert told.splitlines()[-1] == "True True 0"


@pytest.mark.parametrize("kind", [EventKind.LEVEL, EventKind.ADD])
def test_a_level_without_orders_that_is_lost_is_told_too(kind: EventKind) -> None:
    told = run_alone(f"""
        import resource
        import numpy as np
        from data.schema import EVENT_DTYPE
        from ext.book_table import BookTable

        table, step = BookTable(), 1 << 16
        events = np.zeros(step, EVENT_DTYPE)
        events["kind"], events["side"], events["size_lots"] = {int(kind)}, 1, 5
        events["price_ticks"] = np.arange(step)
        table.complete(events)
        with open("/proc/self/statm") as file:
            now = int(file.read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (now + (8 << 20), now + (8 << 20)))
        for _ in range(64):
            events["price_ticks"] += step
            try:
                table.complete(events)
            except MemoryError as error:
                print(error)
                break
        print(table.book(0).lost > 0)
    """)
    assert "which 1 books miss: [0]" in told
    assert told.splitlines()[-1] == "True"


def test_a_huge_book_takes_its_pages_as_orders_come() -> None:
    told = run_alone("""
        from pathlib import Path
        from ext.order_book import OrderBook

        try:
            OrderBook(1 << 30)
        except MemoryError:
            pass
        # getrusage's peak would begin with that of the tests, which forked this program.
        status = Path("/proc/self/status").read_text().split()
        print(int(status[status.index("VmHWM:") + 1]) < 1 << 20)
    """)
    assert told.split() == ["True"]


def test_a_block_may_be_empty_but_not_foreign() -> None:
    table = BookTable()
    assert table.complete(np.empty(0, EVENT_DTYPE)) == 0
    assert table.instruments() == []
    assert table.first_fault is None
    with pytest.raises(TypeError, match="EVENT_DTYPE"):
        table.complete(np.zeros(3))

"""The compiled book against the reference, and the rules that a test should name."""

from __future__ import annotations

import random
import resource
from typing import Any

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from data.schema import EVENT_DTYPE, QUOTE_DTYPE, EventFlag, EventKind
from ext.merge import EventMerge
from ext.order_book import OrderBook
from ext.replay import Replay
from tests.reference.order_book import ReferenceBook

INT32 = np.iinfo(np.int32)
ADD, CANCEL, REDUCE, EXECUTE = EventKind.ADD, EventKind.CANCEL, EventKind.REDUCE, EventKind.EXECUTE
TRADE, LEVEL, CLEAR = EventKind.TRADE, EventKind.LEVEL, EventKind.CLEAR
LAST = int(EventFlag.LAST_IN_PACKET)


def event(
    kind: int, side: int = 0, price: int = 0, size: int = 0, order_id: int = 0, flags: int = 0
) -> tuple[Any, ...]:
    return (0, 0, order_id, size, price, 0, 0, 0, kind, side, flags, 0)


def events(*rows: tuple[Any, ...]) -> np.ndarray[Any, Any]:
    return np.array(list(rows), EVENT_DTYPE)


def quotes(*rows: tuple[int, int, int, int], flags: int = LAST) -> np.ndarray[Any, Any]:
    """Build quotes from (bid, bid size, ask, ask size)."""
    array = np.zeros(len(rows), QUOTE_DTYPE)
    array["kind"], array["flags"] = EventKind.QUOTE, flags
    for name, column in zip(
        ("bid_price_ticks", "bid_size_lots", "ask_price_ticks", "ask_size_lots"),
        zip(*rows, strict=True),
        strict=True,
    ):
        array[name] = column
    return array.view(EVENT_DTYPE)


def book_of(*rows: tuple[Any, ...]) -> OrderBook:
    book = OrderBook(16, 16)
    book.apply(events(*rows))
    return book


def touch(book: OrderBook) -> tuple[int, int, int, int]:
    return book.bid_price_ticks, book.bid_size_lots, book.ask_price_ticks, book.ask_size_lots


def assert_same(book: OrderBook, reference: ReferenceBook) -> None:
    assert touch(book) == (*reference.touch[+1], *reference.touch[-1])
    assert book.state_hash() == reference.state_hash()
    assert (book.applied, book.crossed, book.unknown_orders, book.duplicate_orders, book.refused) == (
        reference.applied, reference.crossed, reference.unknown, reference.duplicates, reference.refused,
    )  # fmt: skip
    assert (book.live_orders, book.entries, book.lost) == (len(reference.places), reference.entries, 0)


def assert_same_views(book: OrderBook, reference: ReferenceBook) -> None:
    for side in (+1, -1):
        count = len(reference.levels[side])
        assert book.level_count(side) == count
        for wanted in (0, 1, 5, count + 1):
            expected = reference.depth(side, wanted)
            assert [tuple(row) for row in book.depth_array(side, wanted).tolist()] == expected
            assert [tuple(row) for row in book.depth_view(side, wanted).tolist()] == expected
        for price in [*reference.levels[side], 0, INT32.min, INT32.max]:
            assert book.size_at(side, price) == reference.size_at(side, price)
            queue = [tuple(row) for row in book.queue_array(side, price).tolist()]
            assert queue == reference.queue(side, price)
    for order_id in [*reference.places, 0, 2**64 - 1]:
        assert book.order(order_id) == reference.order(order_id)


# Few prices and ids, so that orders meet; a leaf of the price index ends at 4,095 and at -4,096.
PRICES = st.sampled_from([INT32.min, -4097, -4096, -1, 0, 1, 2, 3, 4095, 4096, 8_000_000, INT32.max])
SIZES = st.one_of(st.integers(1, 9), st.sampled_from([-1, 0, 2**48, 2**48 + 1, -(2**63)]))
IDS = st.one_of(st.integers(0, 12), st.sampled_from([2**63, 2**64 - 1]))
SIDES = st.sampled_from([+1, -1, +1, -1, 0, 2])
FLAGS = st.sampled_from([0, LAST, LAST, int(EventFlag.HIDDEN)])


class BookAgainstReference(RuleBasedStateMachine):
    """The compiled book and the reference agree after every event."""

    def __init__(self) -> None:
        super().__init__()
        self.book = OrderBook(1, 1)
        self.reference = ReferenceBook()

    def both(
        self, kind: int, side: int = 0, price: int = 0, size: int = 0, order_id: int = 0, flags: int = 0
    ) -> None:
        self.book.apply(events(event(kind, side, price, size, order_id, flags)))
        self.reference.apply(kind, side=side, price=price, size=size, order_id=order_id, flags=flags)

    @rule(side=SIDES, price=PRICES, size=SIZES, order_id=IDS, flags=FLAGS)
    def add(self, side: int, price: int, size: int, order_id: int, flags: int) -> None:
        self.both(ADD, side, price, size, order_id, flags)

    @rule(
        kind=st.sampled_from([CANCEL, REDUCE, EXECUTE]),
        side=SIDES, price=PRICES, size=SIZES, order_id=IDS, flags=FLAGS,
    )  # fmt: skip
    def lower(self, kind: int, side: int, price: int, size: int, order_id: int, flags: int) -> None:
        self.both(kind, side, price, size, order_id, flags)

    @rule(side=SIDES, price=PRICES, size=SIZES, flags=FLAGS)
    def level(self, side: int, price: int, size: int, flags: int) -> None:
        self.both(LEVEL, side, price, size, 0, flags)

    @rule(bid=PRICES, bid_size=st.integers(0, 3), ask=PRICES, ask_size=st.integers(0, 3), flags=FLAGS)
    def quote(self, bid: int, bid_size: int, ask: int, ask_size: int, flags: int) -> None:
        self.book.apply(quotes((bid, bid_size, ask, ask_size), flags=flags))
        self.reference.quote((bid, bid_size), (ask, ask_size), flags)

    @rule(kind=st.sampled_from([TRADE, CLEAR, EventKind.STATUS, 0, 77]), flags=FLAGS)
    def other(self, kind: int, flags: int) -> None:
        self.both(kind, +1, 1, 1, 1, flags)

    @invariant()
    def agree(self) -> None:
        assert_same(self.book, self.reference)
        assert_same_views(self.book, self.reference)


TestBookAgainstReference = BookAgainstReference.TestCase
TestBookAgainstReference.settings = settings(max_examples=60, stateful_step_count=60, deadline=None)


def random_flow(seed: int, count: int) -> list[tuple[Any, ...]]:
    """Draw order flow around a centre that walks from far below zero up, with jumps."""
    draw = random.Random(seed)
    centre, next_id = -3_000_000, 1
    live: list[tuple[int, int, int]] = []
    rows: list[tuple[Any, ...]] = []
    for _ in range(count):
        if draw.random() < 0.002:
            centre += draw.choice((-40_000, 100_000, 5, 4_096))
        choice, side = draw.random(), draw.choice((+1, -1))
        price = centre - side * int(draw.expovariate(0.02))
        if choice < 0.45 or not live:
            order_id = next_id if draw.random() < 0.98 else draw.randint(0, next_id)
            next_id += 1
            live.append((order_id, side, price))
            rows.append(event(ADD, side, price, draw.randint(1, 50), order_id, LAST))
        elif choice < 0.90:
            slot = draw.randrange(max(0, len(live) - 400), len(live))
            live[slot], live[-1] = live[-1], live[slot]
            order_id, side, price = live[-1] if draw.random() < 0.3 else live.pop()
            kind = draw.choice((CANCEL, CANCEL, REDUCE, EXECUTE))
            rows.append(event(kind, side, price, draw.randint(1, 60), order_id))
        elif choice < 0.95:
            rows.append(event(EXECUTE, side, price, draw.randint(1, 9), 2**62 + len(rows)))
        elif choice < 0.9995:
            rows.append(event(LEVEL, side, price, max(0, draw.randint(-20, 90)), 0, LAST))
        else:
            rows.append(event(CLEAR, flags=LAST))
            live.clear()
    return rows


@pytest.mark.parametrize("seed", [1])
def test_a_hundred_thousand_random_events_agree_with_the_reference(seed: int) -> None:
    rows = random_flow(seed, 100_000)
    book, reference = OrderBook(64, 64), ReferenceBook()
    array = events(*rows)
    for row in range(len(rows)):
        book.apply(array[row : row + 1])
        _, _, order_id, size, price, _, _, _, kind, side, flags, _ = rows[row]
        reference.apply(kind, side=side, price=price, size=size, order_id=order_id, flags=flags)
        assert touch(book) == (*reference.touch[+1], *reference.touch[-1]), f"seed {seed}, row {row}"
        if row % 1_000 == 999:
            assert_same(book, reference)
    assert_same_views(book, reference)
    assert reference.crossed > 0
    assert reference.unknown > 1_000
    whole = OrderBook()
    assert whole.apply(array) == len(rows)
    assert whole.state_hash() == book.state_hash()


def test_a_quote_sets_the_touch_and_answers_for_the_empty_ladder() -> None:
    book = OrderBook()
    book.apply(quotes((-7, 3, -5, 2**32 - 1)))
    assert touch(book) == (-7, 3, -5, 2**32 - 1)
    assert book.depth_array(+1, 10).tolist() == [[-7, 3]]
    assert (book.size_at(-1, -5), book.size_at(-1, -4)) == (2**32 - 1, 0)
    book.apply(quotes((-7, 0, -5, 0)))
    assert touch(book) == (0, 0, 0, 0)
    assert book.depth_array(+1, 10).shape == (0, 2)


def test_a_ladder_event_takes_its_side_of_the_touch_back_from_the_quote() -> None:
    book = book_of(event(ADD, +1, 10, 5, 1), event(ADD, -1, 12, 5, 2))
    book.apply(quotes((11, 9, 13, 9)))
    book.apply(events(event(ADD, +1, 8, 1, 3)))
    assert touch(book) == (10, 5, 13, 9)


def test_crossed_counts_packet_ends_only() -> None:
    rows = [event(ADD, +1, 10, 1, 1), event(ADD, -1, 10, 1, 2), event(ADD, -1, 11, 1, 3, LAST)]
    assert book_of(*rows).crossed == 1
    book = OrderBook()
    book.apply(quotes((10, 1, 10, 1), (10, 1, 9, 1), (10, 1, 11, 1), (10, 1, 9, 0)))
    assert book.crossed == 2


def test_reduce_keeps_the_place_and_a_later_add_stands_behind() -> None:
    book = book_of(
        event(ADD, +1, 10, 5, 1),
        event(ADD, +1, 10, 5, 2),
        event(REDUCE, +1, 10, 2, 1),
        event(ADD, +1, 10, 1, 3),
    )
    assert book.queue_array(+1, 10).tolist() == [[1, 3], [2, 5], [3, 1]]
    orders = [book.order(order_id) for order_id in (1, 2, 3)]
    assert [order and order["entry"] for order in orders] == [0, 1, 2]


@pytest.mark.parametrize("gone", [1, 2, 3])
def test_cancel_at_head_middle_and_tail_keeps_the_others_in_order(gone: int) -> None:
    book = book_of(*(event(ADD, -1, 10, 4, order_id) for order_id in (1, 2, 3)), event(CANCEL, order_id=gone))
    assert book.queue_array(-1, 10)[:, 0].tolist() == [order_id for order_id in (1, 2, 3) if order_id != gone]
    assert book.size_at(-1, 10) == 8


def test_an_id_is_free_again_after_a_cancel_and_after_a_fill() -> None:
    book = book_of(
        event(ADD, +1, 10, 5, 1), event(CANCEL, order_id=1),
        event(ADD, +1, 11, 5, 1), event(EXECUTE, size=5, order_id=1),
        event(ADD, -1, 12, 5, 1),
    )  # fmt: skip
    assert (book.duplicate_orders, book.unknown_orders) == (0, 0)
    assert touch(book) == (0, 0, 12, 5)


def test_an_execution_larger_than_the_order_stops_at_the_order() -> None:
    book = book_of(event(ADD, +1, 10, 5, 1), event(ADD, +1, 10, 5, 2), event(EXECUTE, +1, 10, 99, 1))
    assert book.queue_array(+1, 10).tolist() == [[2, 5]]
    assert book.size_at(+1, 10) == 5


def test_an_unknown_order_lowers_its_level_and_is_counted() -> None:
    book = book_of(event(LEVEL, +1, 10, 30), event(ADD, +1, 10, 5, 1), event(CANCEL, +1, 10, 10, 77))
    assert (book.size_at(+1, 10), book.unknown_orders) == (25, 1)
    book.apply(events(event(EXECUTE, +1, 10, 10)))
    assert (book.size_at(+1, 10), book.unknown_orders) == (15, 1)
    book.apply(events(event(EXECUTE, +1, 10, 16, 78)))
    assert touch(book)[:2] == (0, 0)
    assert (book.live_orders, book.order(1)) == (0, None)


def test_a_level_total_below_its_orders_stands_and_keeps_them() -> None:
    book = book_of(event(ADD, +1, 10, 5, 1), event(ADD, +1, 10, 5, 2), event(LEVEL, +1, 10, 3))
    assert (book.size_at(+1, 10), book.live_orders) == (3, 2)
    book.apply(events(event(LEVEL, +1, 10, 0)))
    assert (book.size_at(+1, 10), book.live_orders) == (0, 0)


def test_hidden_executions_and_prints_change_nothing() -> None:
    book = book_of(event(ADD, +1, 10, 5, 1))
    before = book.state_hash()
    book.apply(events(event(EXECUTE, +1, 10, 5, 1, int(EventFlag.HIDDEN)), event(TRADE, -1, 10, 5)))
    assert book.state_hash() == before
    assert book.applied == 3


def test_the_hash_tells_the_order_of_a_queue() -> None:
    first, second = event(ADD, +1, 10, 5, 1), event(ADD, +1, 10, 5, 2)
    assert book_of(first, second).state_hash() != book_of(second, first).state_hash()
    assert book_of(first, second).state_hash() == book_of(first, second).state_hash()


def applied_to_both(array: np.ndarray[Any, Any], *, batch: int) -> tuple[OrderBook, ReferenceBook]:
    book, reference = OrderBook(64, 64), ReferenceBook()
    for first in range(0, len(array), batch):
        book.apply(array[first : first + batch])
    for row in array.tolist():
        _, _, order_id, size, price, _, _, _, kind, side, flags, _ = row
        reference.apply(kind, side=side, price=price, size=size, order_id=order_id, flags=flags)
    return book, reference


@pytest.mark.parametrize("grid", [1, 7, 100, 4_096, 12_345, 3 << 20, 1 << 28])
@pytest.mark.parametrize("origin", [0, -1, 37, INT32.max])
def test_any_price_is_right_whatever_grid_the_first_ones_stood_on(grid: int, origin: int) -> None:
    draw = np.random.default_rng(grid + origin % 1_000)
    count = 1_500
    lowest, highest = (INT32.min - origin) // grid + 1, (INT32.max - origin) // grid
    near = np.clip(draw.integers(-30, 30, count), lowest, highest)
    far = draw.integers(lowest, highest + 1, count)
    prices = origin + grid * np.where(np.arange(count) % 8 < 7, near, far)
    # From the 200th on, one in four stands anywhere: on the grid or off it, the ends of the range included.
    anywhere = np.flatnonzero((np.arange(count) > 200) & (draw.random(count) < 0.25))
    prices[anywhere] = np.clip(
        prices[anywhere] + draw.integers(-2 * grid, 2 * grid + 1, len(anywhere)), INT32.min, INT32.max
    )
    prices[300:304] = [INT32.min, INT32.max, INT32.min + 1, INT32.max - 1]
    array = np.zeros(2 * count, EVENT_DTYPE)
    array["kind"][:count], array["kind"][count:] = ADD, CANCEL
    array["order_id"] = np.tile(np.arange(1, count + 1), 2)
    array["side"][:count], array["size_lots"] = draw.choice([-1, 1], count), 1
    array["price_ticks"][:count] = prices
    order = np.argsort(np.concatenate((np.arange(count), np.arange(count) + draw.exponential(120, count))))
    array = array[order]
    for part in (array[: len(array) // 2], array):
        book, reference = applied_to_both(part, batch=100)
        assert_same(book, reference)
        assert_same_views(book, reference)
    assert book.live_orders == 0


def test_a_book_large_enough_to_be_fetched_ahead_agrees_with_the_reference() -> None:
    draw = np.random.default_rng(4)
    standing, count = 17_000, 20_000
    array = np.zeros(standing + count, EVENT_DTYPE)
    ids = np.arange(1, len(array) + 1)
    array["kind"], array["order_id"], array["flags"] = ADD, ids, LAST
    array["side"] = draw.choice([-1, 1], len(array))
    array["price_ticks"] = 10_000 - array["side"] * (1 + draw.exponential(200, len(array)).astype(np.int64))
    array["size_lots"] = draw.integers(1, 9, len(array))
    tail = array[standing:]
    # Cancels and the like name any order so far: some have left, some never came.
    lowering = draw.random(count) < 0.5
    tail["kind"][lowering] = draw.choice([CANCEL, REDUCE, EXECUTE, TRADE], lowering.sum())
    tail["order_id"][lowering] = draw.integers(1, standing + count, lowering.sum())
    tail["kind"][::1_000], tail["order_id"][::1_000] = LEVEL, 0
    book, reference = applied_to_both(array, batch=1_003)
    assert book.live_orders > 16_384
    assert book.unknown_orders > 1_000
    assert_same(book, reference)


def test_a_replay_fetches_ahead_without_changing_anything() -> None:
    draw = np.random.default_rng(5)
    standing, count = 20_000, 20_000
    array = np.zeros(standing + count, EVENT_DTYPE)
    array["kind"], array["size_lots"], array["side"] = ADD, 5, draw.choice([-1, 1], len(array))
    array["order_id"] = np.arange(1, len(array) + 1)
    array["ts_ns"] = np.arange(len(array))
    array["price_ticks"] = 10_000 - array["side"] * draw.integers(1, 900, len(array))
    array["kind"][standing::2] = CANCEL
    array["order_id"][standing::2] = draw.integers(1, standing, count // 2)
    array["venue_id"][::20] = 1
    replay, merged, merge = Replay(2), Replay(2), EventMerge(2)
    replay.apply(array)
    for venue in (0, 1):
        merge.refill(venue, array[array["venue_id"] == venue])
    while merged.apply_merged(merge, 700) or merge.dry:
        for venue in merge.dry:
            merge.close(venue)
    assert merged.events == replay.events == len(array)
    assert merged.state_hash() == replay.state_hash()
    for venue, book in enumerate(replay.books):
        alone = OrderBook()
        for event_row in np.flatnonzero(array["venue_id"] == venue).tolist():
            alone.apply(array[event_row : event_row + 1])
        assert alone.state_hash() == book.state_hash()
    assert replay.books[0].live_orders > 16_384


def test_pools_and_ids_grow_past_their_capacity() -> None:
    count = 20_000  # pools move from an arena's chunk to pages of their own, and those grow
    book = OrderBook(1, 1)
    book.apply(events(*(event(ADD, +1, -price, 1, price << 40) for price in range(1, count + 1))))
    assert (book.live_orders, book.level_count(+1)) == (count, count)
    assert book.depth_array(+1, count).tolist() == [[-price, 1] for price in range(1, count + 1)]
    book.apply(events(*(event(CANCEL, order_id=price << 40) for price in range(1, count + 1))))
    assert (book.live_orders, book.level_count(+1), book.unknown_orders) == (0, 0, 0)


def test_ids_are_found_while_a_table_that_doubled_is_moved() -> None:
    draw = np.random.default_rng(6)
    # The table of 16,384 ids doubles at the next one; two buckets move with each id after that.
    standing, count = 16_384, 9_000
    array = np.zeros(standing + count, EVENT_DTYPE)
    array["kind"], array["side"], array["size_lots"] = ADD, 1, 1
    array["price_ticks"] = draw.integers(1, 50, len(array))
    array["order_id"] = np.arange(1, len(array) + 1)
    tail = array[standing:]
    lowering = draw.random(count) < 0.4
    lowering[0] = False
    tail["kind"][lowering] = CANCEL
    # Old ones and new ones, some of them gone, and some that come again while they live.
    tail["order_id"][lowering] = draw.integers(1, standing + count, lowering.sum())
    tail["order_id"][1::50] = draw.integers(1, standing, len(tail[1::50]))
    book, reference = OrderBook(standing, 64), ReferenceBook()
    book.apply(array[:standing])
    for row, told in enumerate(array.tolist()):
        _, _, order_id, size, price, _, _, _, kind, side, flags, _ = told
        reference.apply(kind, side=side, price=price, size=size, order_id=order_id, flags=flags)
        if row >= standing:
            book.apply(array[row : row + 1])
            if row % 500 == 0:
                assert_same(book, reference)
    assert book.duplicate_orders > 50
    assert book.unknown_orders > 1_000
    for order_id in range(1, standing + count + 1):
        assert (book.order(order_id) is None) == (order_id not in reference.places)


def test_a_price_that_walks_over_the_whole_range_leaves_nothing_behind() -> None:
    prices = np.arange(INT32.min, INT32.max, 9_973, dtype=np.int64)
    array = np.zeros(2 * len(prices), EVENT_DTYPE)
    array["kind"], array["side"] = LEVEL, -1
    array["price_ticks"][0::2], array["size_lots"][0::2] = prices, 1
    array["price_ticks"][1::2][1:] = prices[:-1]
    array["price_ticks"][1] = INT32.max
    book = OrderBook()
    book.apply(array)
    assert book.level_count(-1) == 1
    assert touch(book) == (0, 0, prices[-1], 1)


def test_a_depth_view_is_the_books_own_memory() -> None:
    book = book_of(event(ADD, +1, 10, 5, 1), event(ADD, +1, 9, 4, 2))
    first = book.depth_view(+1, 2)
    book.apply(events(event(CANCEL, order_id=1)))
    second = book.depth_view(+1, 2)
    assert second.tolist() == [[9, 4]]
    assert first.tolist() == [[9, 4], [9, 4]]
    assert first.ctypes.data == second.ctypes.data
    assert not second.flags.writeable
    with pytest.raises(ValueError, match="count"):
        book.depth_view(+1, -1)


@pytest.mark.nightly
def test_a_book_walked_through_a_thousand_million_levels_keeps_its_size() -> None:
    block, ladder = 500_000, 8
    array = np.zeros(2 * block, EVENT_DTYPE)
    array["kind"], array["side"] = LEVEL, +1
    array["size_lots"][0::2] = 1
    array["price_ticks"][0::2] = np.arange(block) - 500_000_000
    array["price_ticks"][1::2] = array["price_ticks"][0::2] - ladder
    book = OrderBook(1, ladder + 1)
    book.apply(array)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(1_999):
        array["price_ticks"] += block
        book.apply(array)
        assert (book.level_count(+1), book.bid_price_ticks) == (ladder, array["price_ticks"][-2])
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 4_096  # KiB
    assert book.bid_price_ticks == 499_999_999


@pytest.mark.parametrize("seed", [1, 2])
def test_a_restored_book_goes_on_like_the_one_it_was_taken_of(seed: int) -> None:
    array = events(*random_flow(seed, 6_000))
    book, other = OrderBook(64, 64), book_of(event(ADD, +1, 3, 5, 77), event(ADD, -1, 9, 5, 78))
    for first in range(0, len(array), 1_500):
        book.apply(array[first : first + 1_500])
        other.apply(array[: first // 2])
        counted = other.applied, other.crossed, other.refused, other.duplicate_orders, other.unknown_orders
        other.restore(book.snapshot())
        assert other.state_hash() == book.state_hash()
        assert other.live_orders == book.live_orders > 0
        assert counted == (
            other.applied, other.crossed, other.refused, other.duplicate_orders, other.unknown_orders
        )  # fmt: skip
        for one in (book, other):
            one.apply(array[first + 1_500 : first + 1_600])
        assert other.state_hash() == book.state_hash()


@pytest.mark.parametrize(
    "rows",
    [
        (),
        (event(ADD, +1, 10, 5, 1), event(LEVEL, +1, 10, 3)),
        (event(ADD, +1, 10, 5, 1), event(ADD, +1, 10, 4), event(ADD, -1, 11, 2, 2)),
        (event(ADD, -1, 7, 1 << 48), event(ADD, -1, 7, 1 << 48), event(ADD, -1, 7, 3, 9)),
        (event(ADD, -1, 7, 1 << 48, 1), event(ADD, -1, 7, 1 << 48, 2), event(REDUCE, -1, 7, 1, 5)),
    ],
)
@pytest.mark.parametrize("quoted", [False, True])
@pytest.mark.parametrize("takes_back", [(), (+1,), (-1,)])
def test_a_snapshot_holds_totals_and_quotes(
    rows: tuple[Any, ...], quoted: bool, takes_back: tuple[int, ...]
) -> None:
    book = book_of(*rows)
    if quoted:
        book.apply(quotes((-7, 3, -5, 2**32 - 1)))
        book.apply(events(*(event(LEVEL, side, 10_000, 0) for side in takes_back)))
    other = OrderBook()
    other.restore(book.snapshot())
    assert other.state_hash() == book.state_hash()
    assert touch(other) == touch(book)
    for one in (book, other):
        one.apply(events(event(ADD, +1, -9, 1, 40), event(LEVEL, -1, 12, 0)))
    assert touch(other) == touch(book)
    assert other.state_hash() == book.state_hash()


def test_a_bad_snapshot_changes_nothing() -> None:
    book = book_of(event(ADD, +1, 10, 5, 1), event(ADD, -1, 12, 5, 2))
    before = book.state_hash()
    for bad in (event(ADD, 0, 10, 5, 3), event(CANCEL, +1, 10, 5, 4), event(99)):
        with pytest.raises(ValueError, match="a snapshot must hold events"):
            book.restore(events(event(ADD, +1, 11, 5, 3), bad))
        assert book.state_hash() == before
        assert (book.applied, book.refused, book.unknown_orders) == (2, 0, 0)


def test_a_level_refuses_lots_that_would_pass_its_limit() -> None:
    book = OrderBook()
    adds = np.repeat(events(event(ADD, +1, 100, 2**48, 1)), 2**14 + 1)
    adds["order_id"] = np.arange(1, len(adds) + 1)
    book.apply(adds)
    assert (book.bid_size_lots, book.live_orders, book.refused) == (2**62, 2**14, 1)
    book.apply(events(event(REDUCE, +1, 100, 1, 1)))
    assert book.bid_size_lots == 2**62 - 1


def test_bad_arrays_are_refused_by_rule() -> None:
    book = OrderBook()
    array = events(event(ADD, +1, 1, 1, 1), event(ADD, +1, 1, 1, 2))
    with pytest.raises(TypeError, match="EVENT_DTYPE"):
        book.apply(array.view(QUOTE_DTYPE))
    with pytest.raises(TypeError, match="EVENT_DTYPE"):
        book.apply(np.zeros(3))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="contiguous"):
        book.apply(array[::2][:1].repeat(4)[::2])
    with pytest.raises(ValueError, match="contiguous"):
        book.apply(array.reshape(1, 2))
    with pytest.raises(ValueError, match="multiple of 8"):
        book.apply(np.frombuffer(b"\0" * 49, np.uint8)[1:].view(EVENT_DTYPE))
    with pytest.raises(ValueError, match="side must be"):
        book.size_at(0, 1)
    with pytest.raises(ValueError, match="order_capacity"):
        OrderBook(0)
    assert book.applied == 0
    assert book.apply(array[:0]) == 0

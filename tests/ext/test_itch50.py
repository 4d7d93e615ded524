"""The compiled ITCH decoder against the slow one, message by message, and against damage."""

from __future__ import annotations

import random
import struct
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from itch_day import FORMATS, ItchDay, framed, message, reference_events

from data.schema import EVENT_DTYPE, RECV_NOT_RECORDED, EventKind
from ext.book_table import BookTable
from ext.itch50 import LENGTHS, Itch50Decoder

MIDNIGHT_NS = 1_548_824_400 * 10**9
FIELDS = ["ts_ns", "order_id", "size_lots", "price_ticks", "seq", "instrument_id", "kind", "side", "flags"]


def decoded(data: bytes, *, room: int = 64, decoder: Itch50Decoder | None = None) -> tuple[np.ndarray, int]:
    """Decode to the end or the first fault; return the events and the position reached."""
    decoder = decoder or Itch50Decoder(midnight_ns=MIDNIGHT_NS)
    out, blocks, at = np.empty(room, EVENT_DTYPE), [np.empty(0, EVENT_DTYPE)], 0
    while True:
        written, position = decoder.decode(data, out, start=at)
        blocks.append(out[:written].copy())
        if position == at:
            return np.concatenate(blocks), at
        at = position


def rows_of(events: np.ndarray) -> list[tuple[int, ...]]:
    return [tuple(int(event[name]) for name in FIELDS) for event in events]


def test_lengths_are_those_of_the_fields() -> None:
    assert {kind: 11 + struct.calcsize(">" + form) for kind, form in FORMATS.items()} == LENGTHS


@pytest.mark.parametrize("zero", [False, True])
@pytest.mark.parametrize("seed", range(5))
def test_every_message_becomes_what_the_slow_decoder_says(seed: int, zero: bool) -> None:
    day = ItchDay(seed=seed, symbols=6, messages=4_000)
    decoder = Itch50Decoder(midnight_ns=MIDNIGHT_NS)
    events, _ = decoded(framed(day.messages, zero=zero), decoder=decoder)
    assert decoder.fault is None
    assert decoder.messages == len(day.messages)
    assert decoder.zero_lengths == zero
    assert sum(decoder.counts().values()) == len(day.messages)
    assert set(decoder.counts()) == set(LENGTHS)
    table = BookTable()
    assert table.complete(events) == 0
    assert table.overdrawn == table.duplicate_orders == table.crossed == 0
    assert rows_of(events) == list(reference_events(day.messages, midnight_ns=MIDNIGHT_NS))
    assert (events["recv_ns"] == RECV_NOT_RECORDED).all()
    assert not events["_reserved"].any()
    assert sum(len(table.book(locate).queue_array(side, price)) for locate in table.instruments()
               for side in (1, -1) for price, _ in table.book(locate).depth_array(side, 10_000).tolist()
               if price) == len(day.orders)  # fmt: skip


@pytest.mark.parametrize("locate", [1, 4])
def test_one_symbol_is_found_by_its_name(locate: int) -> None:
    day = ItchDay(seed=9, symbols=6, messages=4_000)
    decoder = Itch50Decoder(midnight_ns=MIDNIGHT_NS, symbol=day.names[locate - 1].strip(), instrument_id=77)
    events, _ = decoded(framed(day.messages), decoder=decoder)
    assert decoder.locate == locate
    assert (events["instrument_id"] == 77).all()
    BookTable().complete(events)
    expected = [
        (*row[:5], 77, *row[6:])
        for row in reference_events(day.messages, midnight_ns=MIDNIGHT_NS, locate=locate)
    ]
    assert rows_of(events) == expected


def test_the_directory_is_kept() -> None:
    day = ItchDay(seed=2, symbols=3, messages=60)
    decoder = Itch50Decoder()
    decoded(framed(day.messages), decoder=decoder)
    assert decoder.symbols() == {1: "T0000", 2: "T0001", 3: "T0002"}


@given(cuts=st.lists(st.integers(0, 6_000), max_size=12), room=st.integers(2, 40))
def test_cuts_anywhere_change_nothing(cuts: list[int], room: int) -> None:
    data = framed(ItchDay(seed=3, symbols=2, messages=200).messages)
    decoder, held, blocks = Itch50Decoder(midnight_ns=MIDNIGHT_NS), b"", []
    places = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    for start, stop in pairwise(places):
        held += data[start:stop]
        events, position = decoded(held, room=room, decoder=decoder)
        blocks.append(events)
        held = held[position:]
    assert held == b""
    assert np.concatenate(blocks).tobytes() == decoded(data)[0].tobytes()


def add(**changes: object) -> bytes:
    fields = {"order_id": 5, "side": b"B", "size": 100, "stock": b"AAPL    ", "price": 10_000} | changes
    clock_ns = fields.pop("clock_ns", 5)
    locate = fields.pop("locate", 1)
    return message("A", locate, clock_ns, *fields.values())  # type: ignore[arg-type]


def test_a_cross_may_have_more_shares_than_four_bytes_count() -> None:
    events, _ = decoded(framed([message("Q", 1, 6, 5 << 32, b"AAPL    ", 10_000, 1, b"O")]))
    assert [int(size) for size in events["size_lots"]] == [5 << 32]


@pytest.mark.parametrize(
    ("body", "rule"),
    [
        (b"z" + bytes(35), "message type"),
        (add()[:-1], "length"),
        (add() + b"x", "length"),
        (add(side=b"b"), "side must be B or S"),
        (add(size=0), "shares"),
        (add(size=1 << 31), "shares"),
        (add(price=1 << 31), "price must fit"),
        (add(clock_ns=86_400 * 10**9), "time must lie within the day"),
        (add(clock_ns=3), "time must not run backwards"),
        (add(stock=b"MSFT    "), "keep its symbol"),
        (message("X", 1, 6, 5, 0), "shares"),
        (message("E", 1, 6, 5, 0, 1), "shares"),
        (message("C", 1, 6, 5, 0, 1, b"Y", 1), "shares"),
        (message("U", 1, 6, 5, 6, 0, 1), "shares"),
        (message("U", 1, 6, 5, 6, 1, 1 << 31), "price must fit"),
        (message("Q", 1, 6, (1 << 48) + 1, b"AAPL    ", 5, 1, b"O"), "shares"),
        (message("Q", 1, 6, 1 << 33, b"AAPL    ", 1 << 31, 1, b"O"), "price must fit"),
        (message("H", 1, 6, b"AAPL    ", b"?", b" ", b"    "), "trading state"),
    ],
)
def test_a_broken_message_stops_the_decoder_where_it_stands(body: bytes, rule: str) -> None:
    good = [add(clock_ns=4), add(order_id=6)]
    decoder = Itch50Decoder()
    events, position = decoded(framed([*good, body, add(order_id=9)]), decoder=decoder)
    assert decoder.fault is not None
    assert rule in decoder.fault
    assert position == len(framed(good))
    assert len(events) == decoder.messages == 2


EDGES = st.sampled_from([0, 1, 2, 100, (1 << 31) - 1, 1 << 31, (1 << 32) - 1])
ORDER_IDS = st.sampled_from([0, 1, 5, 1 << 63, (1 << 64) - 1])
ORDER_FIELDS = {
    "A": st.tuples(ORDER_IDS, st.sampled_from([b"B", b"S", b"b"]), EDGES, st.just(b"AAPL    "), EDGES),
    "F": st.tuples(
        ORDER_IDS, st.sampled_from([b"B", b"S"]), EDGES, st.just(b"AAPL    "), EDGES, st.just(b"MPID")
    ),
    "E": st.tuples(ORDER_IDS, EDGES, st.just(7)),
    "X": st.tuples(ORDER_IDS, EDGES),
    "D": st.tuples(ORDER_IDS),
}


@given(st.data())
def test_order_messages_mean_the_same_among_all_stocks_as_for_one(data: st.DataObject) -> None:
    kinds = data.draw(st.lists(st.sampled_from("AFEXD"), max_size=8))
    clocks = data.draw(st.lists(st.sampled_from([4, 4, 5, 86_400 * 10**9]), min_size=8, max_size=8))
    day = framed(
        [
            add(clock_ns=4),
            *(
                message(kind, 1, clock_ns, *data.draw(ORDER_FIELDS[kind]))
                for kind, clock_ns in zip(kinds, clocks, strict=False)
            ),
        ]
    )
    every, one = Itch50Decoder(), Itch50Decoder(symbol=b"AAPL", instrument_id=1)
    events, position = decoded(day, decoder=every)
    same, same_position = decoded(day, decoder=one)
    assert (events.tobytes(), position, every.fault) == (same.tobytes(), same_position, one.fault)
    assert every.counts() == one.counts()


def test_length_bytes_are_zero_before_all_messages_or_before_none() -> None:
    decoder = Itch50Decoder()
    assert decoded(framed([add()]) + framed([add()], zero=True), decoder=decoder)[1] == len(framed([add()]))
    assert decoder.fault is not None
    decoder = Itch50Decoder()
    decoded(framed([add()], zero=True) + framed([add()]), decoder=decoder)
    assert decoder.fault is not None


def test_any_bytes_are_decoded_or_refused_within_their_bounds() -> None:
    draw = random.Random(1)
    whole = framed(ItchDay(seed=5, symbols=3, messages=300).messages)
    for _ in range(3_000):
        damaged = bytearray(whole[: draw.randrange(len(whole))])
        for _ in range(draw.choice((1, 1, 4, 40))):
            if damaged:
                damaged[draw.randrange(len(damaged))] ^= 1 << draw.randrange(8)
        decoder = Itch50Decoder()
        events, position = decoded(bytes(damaged), decoder=decoder)
        BookTable().complete(events)
        left = len(damaged) - position
        assert decoder.fault is not None or left < 2 + max(LENGTHS.values())


def test_arguments_are_checked() -> None:
    decoder, out = Itch50Decoder(), np.empty(2, EVENT_DTYPE)
    with pytest.raises(ValueError, match="room for 2"):
        decoder.decode(b"", out[:1])
    with pytest.raises(ValueError, match="start must lie"):
        decoder.decode(b"ab", out, start=3)
    out.flags.writeable = False
    with pytest.raises(ValueError, match="writable"):
        decoder.decode(b"ab", out)
    with pytest.raises(TypeError, match="EVENT_DTYPE"):
        decoder.decode(b"ab", np.empty(4))
    with pytest.raises(ValueError, match="1 to 8 bytes"):
        Itch50Decoder(symbol=b"")
    assert decoder.decode(b"", np.empty(2, EVENT_DTYPE)) == (0, 0)


def test_a_table_counts_what_feeds_get_wrong() -> None:
    messages = [
        add(),
        message("E", 1, 6, 5, 150, 1),
        message("D", 1, 7, 99),
        message("U", 1, 8, 98, 97, 5, 5),
    ]
    events, _ = decoded(framed(messages))
    table = BookTable()
    assert table.complete(events) == 2
    assert (table.unknown_orders, table.overdrawn, table.first_fault) == (2, 1, 1)
    # The replacement of an unknown order has no side, so the book refuses it.
    assert table.book(1).live_orders == 0
    assert table.book(1).refused > 0
    assert EventKind(int(events["kind"][-1])) is EventKind.ADD
    assert events["side"][-1] == 0
    with pytest.raises(ValueError, match="16 bits"):
        table.book(65_536)
    events.flags.writeable = False
    with pytest.raises(ValueError, match="writable"):
        table.complete(events)

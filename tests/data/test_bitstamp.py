"""Bitstamp's order log: orders from before it, events in the wrong order, pushed snapshots."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("msgspec")

from feed_files import BASE_MS, joined, mutants, survives, told, write_lines

from data.errors import DataError
from data.importers import bitstamp
from data.schema import EventKind
from ext.order_book import OrderBook

ADD, CANCEL, REDUCE, CLEAR, TRADE = (
    EventKind.ADD, EventKind.CANCEL, EventKind.REDUCE, EventKind.CLEAR, EventKind.TRADE,
)  # fmt: skip


def order(ms: int, what: str, number: int, price: str, amount: str, side: int = 0) -> str:
    record = {"price": price, "amount": amount, "datetime": "1", "id": number, "order_type": side}
    return f"{BASE_MS + ms} order_{what} {json.dumps(record)}"


LOG = [
    order(0, "created", 50, "10.20", "2.0"),
    # 40 stood before: 0.5 of it trades, and it goes with 1.0 left.
    order(10, "changed", 40, "10.30", "1.00", 1),
    f'{BASE_MS + 11} trade {{"price": 10.300000000000001, "amount": 0.5, "id": 1}}',
    f'{BASE_MS + 12} order_book {{"bids": [["10.20", "2.0"]], "asks": [["10.30", "1.00"]]}}',
    order(20, "deleted", 40, "10.30", "1.00", 1),
    # 60 is logged as deleted before it is created, 55 never created: a market order.
    order(30, "deleted", 60, "10.25", "1.00"),
    order(31, "created", 60, "10.25", "1.00"),
    order(32, "changed", 55, "11.00", "1.00"),
    order(40, "changed", 50, "10.20", "1.5"),
    order(50, "deleted", 50, "10.20", "0.0"),
]


def test_orders_from_before_the_log_stand_at_its_beginning(tmp_path: Path) -> None:
    source = bitstamp.open_source([write_lines(tmp_path / "b.log", LOG)], symbol="BTCUSD")
    assert source.instrument.symbol == "BTCUSD"
    events = joined(source)
    assert told(events) == [
        (CLEAR, 0, 0, 0, 4),
        (ADD, -1, 1030, 15, 5),
        (ADD, 1, 1020, 20, 1),
        (REDUCE, -1, 1030, 5, 1),
        (TRADE, 0, 1030, 5, 1),
        (CANCEL, -1, 1030, 10, 1),
        (REDUCE, 1, 1020, 5, 1),
        (CANCEL, 1, 1020, 15, 1),
    ]
    assert events["order_id"].tolist() == [0, 40, 50, 40, 0, 40, 50, 50]
    assert source.notes == (
        "1 orders stood before the log, as far as it tells",
        "1 pushed snapshots, used by verify",
        "2 rows rejected: an order must be created before it is deleted",
        "1 rows rejected: an order that changes or ends must have been created",
    )


def test_pushed_snapshots_are_compared_with_the_book(tmp_path: Path) -> None:
    check = bitstamp.verify([write_lines(tmp_path / "good.log", LOG)])
    assert (check.matched, check.total) == (1, 1)
    rows = [row.replace('[["10.20", "2.0"]]', '[["10.20", "2.1"]]') for row in LOG]
    check = bitstamp.verify([write_lines(tmp_path / "bad.log", rows)])
    assert (check.matched, check.total) == (0, 1)
    assert "bad.log:row 3: expected touch (1020, 21, 1030, 10), was (1020, 20, 1030, 10)" in str(
        check.first_mismatch
    )


def push(ms: int, bids: list[list[str]], asks: list[list[str]]) -> str:
    return f"{BASE_MS + ms} order_book {json.dumps({'bids': bids, 'asks': asks})}"


def test_what_only_the_pushes_show_stood_all_along(tmp_path: Path) -> None:
    """An order that never changes has no event: every push that reaches its level shows it."""
    asks = [["11.00", "1.0"]]
    rows = [order(0, "created", 50, "10.00", "2.0"), order(1, "created", 51, "11.00", "1.0", 1)]
    rows += [push(1_000 * at, [["10.00", "2.0"], ["9.50", "4.0"]], asks) for at in range(1, 12)]
    # 9.80 is within the reach of every push and in the last ones alone: it was not there before.
    rows += [
        push(1_000 * at, [["10.00", "2.0"], ["9.80", "1.0"], ["9.50", "4.0"]], asks) for at in range(12, 24)
    ]
    rows += [order(30_000, "deleted", 50, "10.00", "2.0"), push(31_000, [["9.50", "4.0"]], asks)]
    path = write_lines(tmp_path / "u.log", rows)
    events = joined(bitstamp.open_source([path]))
    assert told(events)[:2] == [(CLEAR, 0, 0, 0, 4), (ADD, 1, 95, 4, 5)]
    check = bitstamp.verify([path])
    assert (check.matched, check.total) == (24, 24)
    assert "1 levels stood all along, as only the pushes tell" in check.notes


@pytest.mark.parametrize(("lag_ms", "matched"), [(90, 2), (110, 1)])
def test_a_push_may_lie_behind_the_orders_a_little(tmp_path: Path, lag_ms: int, matched: int) -> None:
    before = [["10.00", "2.0"]]
    rows = [
        order(0, "created", 50, "10.00", "2.0"),
        order(500, "created", 51, "10.50", "1.0"),
        push(500 + lag_ms, before, []),
        order(900, "deleted", 51, "10.50", "1.0"),
        push(901, before, []),
    ]
    check = bitstamp.verify([write_lines(tmp_path / "lag.log", rows)])
    assert (check.matched, check.total) == (matched, 2)


def test_strictness_refuses_what_is_otherwise_counted(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "s.log", [*LOG[:1], LOG[0]])
    assert len(joined(bitstamp.open_source([path]))) == 2
    with pytest.raises(DataError, match="row 1: an order must be created once and with a size"):
        joined(bitstamp.open_source([path], strict=True))


@pytest.mark.parametrize(
    ("bad", "rule"),
    [
        (order(60, "created", 70, "10.20", "1", 2), "order_type 0 or 1"),
        (order(60, "created", -1, "10.20", "1"), "a positive id"),
        (order(60, "created", 70, "ten", "1"), "price must be a number"),
        (f"{BASE_MS} order_created {{", "expected a JSON message"),
        ("nothing", "expected 'milliseconds event"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, bad: str, rule: str) -> None:
    instrument = bitstamp.open_source([write_lines(tmp_path / "good.log", LOG)]).instrument
    with pytest.raises(DataError, match=rule) as caught:
        joined(
            bitstamp.open_source(
                [write_lines(tmp_path / "bad.log", [*LOG, bad])], instrument=instrument, strict=True
            )
        )
    assert caught.value.row == len(LOG)


def test_damaged_files_are_read_or_refused(tmp_path: Path) -> None:
    data = "".join(f"{row}\n" for row in LOG).encode()
    path = tmp_path / "mutant.log"
    outcomes = set()
    for mutant in mutants(data, count=400, seed=3):
        path.write_bytes(mutant)
        outcomes.add(survives(lambda: bitstamp.open_source([path]), path))
    assert outcomes == {True, False}


@pytest.mark.recording("bitstamp_l3_2015-05-01")
def test_the_recording_is_rebuilt(market_data: Path) -> None:
    check = bitstamp.verify([market_data / "2015-05-01.log.xz"])
    assert (check.matched, check.total) == (5_011, 5_011)


def wrapped(ms: int, event: str, channel: str, **data: object) -> str:
    stamp = {"microtimestamp": str((BASE_MS + ms) * 1_000 + 7)}
    return json.dumps({"event": event, "channel": channel, "data": {**data, **stamp}})


def test_the_websocket_of_today_is_read_market_by_market(tmp_path: Path) -> None:
    def event(ms: int, what: str, price: float, amount: float, market: str = "ethusd") -> str:
        fields = {"id": 1_757, "order_type": 1, "price": price, "amount": amount, "price_str": str(price)}
        return wrapped(ms, f"order_{what}", f"live_orders_{market}", **fields)

    rows = [
        '{"event":"bts:subscription_succeeded","channel":"live_orders_ethusd","data":{}}',
        event(1, "created", 2600.1, 0.5),
        event(2, "created", 0.05, 3, market="ethbtc"),
        event(3, "changed", 2600.1, 0.125),
        wrapped(4, "trade", "live_trades_ethusd", price=2600.1, amount=0.375, type=0, id=9),
        wrapped(5, "data", "order_book_ethusd", bids=[], asks=[["2600.1", "0.12500000"]]),
        wrapped(5, "data", "diff_order_book_ethusd", bids=[], asks=[["2600.1", "0.1"]]),
        event(6, "deleted", 2600.1, 0.125),
    ]
    path = write_lines(tmp_path / "feed.jsonl", rows)
    with pytest.raises(DataError, match="ETHBTC, ETHUSD"):
        bitstamp.open_source([path])
    source = bitstamp.open_source([path], symbol="eth-usd")
    events = joined(source)
    assert source.instrument.symbol == "ETHUSD"
    assert told(events) == [
        (CLEAR, 0, 0, 0, 5), (ADD, -1, 26_001, 500, 1), (REDUCE, -1, 26_001, 375, 1),
        (TRADE, 1, 26_001, 375, 1), (CANCEL, -1, 26_001, 125, 1),
    ]  # fmt: skip
    assert (events["ts_ns"] - BASE_MS * 10**6).tolist() == [
        1_007_000,
        1_007_000,
        3_007_000,
        4_007_000,
        6_007_000,
    ]
    assert (events["recv_ns"] < 0).all()
    check = bitstamp.verify([path])
    assert (check.matched, check.total) == (1, 1)


@pytest.mark.parametrize(
    "damage",
    [("ethusd", "ethuse"), ('"channel"', '"chbnnel"'), ('"event"', '"evenu"'), ("_deleted", "_dfleted")],
)
def test_a_changed_letter_of_the_websocket_leaves_no_order_standing(
    tmp_path: Path, damage: tuple[str, str]
) -> None:
    rows = [
        wrapped(
            at, f"order_{what}", "live_orders_ethusd", id=9 + at // 2, order_type=1, price=2.5, amount=1.0
        )
        for at, what in enumerate(["created", "deleted"] * 150)
    ]
    rows[201] = rows[201].replace(*damage)
    events = joined(bitstamp.open_source([write_lines(tmp_path / "feed.jsonl", rows)]))
    book = OrderBook()
    book.apply(events)
    assert (book.bid_price_ticks, book.ask_price_ticks) == (0, 0)

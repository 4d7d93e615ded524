"""Coinbase dumps: level2 and matches, and tickers that tell the touch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("msgspec")

from feed_files import joined, mutants, survives, told, write_lines

from data.errors import DataError
from data.importers import coinbase
from data.importers.damage import DAMAGED_RULE
from data.importers.event_columns import EventColumns
from data.importers.grid import Grid
from data.instrument import Instrument
from data.quarantine import LeftOut, Quarantine
from data.schema import EventKind

CLEAR, LEVEL, TRADE = EventKind.CLEAR, EventKind.LEVEL, EventKind.TRADE
PRODUCT = "SKL-USD"


def line(ms: int, kind: str, product: str = PRODUCT, **fields: Any) -> str:
    return f"1618677817.{ms:03d}: {json.dumps({'type': kind, 'product_id': product, **fields})}"


def time_of(ms: int) -> str:
    return f"2021-04-17T16:43:37.{ms:03d}123Z"


def ticker(ms: int, bid: str, ask: str) -> str:
    return line(ms, "ticker", best_bid=bid, best_ask=ask, price="1", time=time_of(ms))


DUMP = [
    "wss://ws-feed.pro.coinbase.com <-> 1618677816.8",
    ticker(10, "0.7", "0.8"),
    line(20, "last_match", trade_id=4, side="buy", size="1", price="0.7", time=time_of(15)),
    line(30, "snapshot", bids=[["0.7902", "3.0"]], asks=[["0.7911", "2.5"], ["0.8", "1"]]),
    line(40, "l2update", changes=[["sell", "0.7911", "0.0"], ["buy", "0.7903", "4"]], time=time_of(45)),
    line(41, "match", trade_id=5, side="sell", size="2.5", price="0.7911", time=time_of(44)),
    ticker(42, "0.7903", "0.8"),
    line(43, "l2update", "SKL-GBP", changes=[["buy", "0.5", "4"]], time=time_of(46)),
]


def test_levels_and_matches(tmp_path: Path) -> None:
    source = coinbase.open_source([write_lines(tmp_path / "c.ws", DUMP)], symbol=PRODUCT)
    events = joined(source)
    assert told(events) == [
        (CLEAR, 0, 0, 0, 4),
        (LEVEL, 1, 7902, 30, 4),
        (LEVEL, -1, 7911, 25, 4),
        (LEVEL, -1, 8000, 10, 5),
        (TRADE, 1, 7911, 25, 1),
        (LEVEL, -1, 7911, 0, 0),
        (LEVEL, 1, 7903, 40, 1),
    ]
    assert events["ts_ns"][-1] == 1_618_677_817_045_123_000
    assert source.notes == (
        "1 last_match messages",
        "1 messages of other products or none",
        "2 ticker messages",
    )


def test_tickers_tell_the_touch(tmp_path: Path) -> None:
    check = coinbase.verify([write_lines(tmp_path / "good.ws", DUMP)])
    assert (check.matched, check.total) == (1, 1)
    rows = [*DUMP, ticker(50, "0.7902", "0.8")]
    check = coinbase.verify([write_lines(tmp_path / "bad.ws", rows)])
    assert (check.matched, check.total) == (1, 2)
    assert "bad.ws:row 8: SKL-USD: expected touch (7902, 8000), was (7903, 8000)" in str(check.first_mismatch)


def test_missing_trades_are_counted_or_refused(tmp_path: Path) -> None:
    more = line(60, "match", trade_id=8, side="buy", size="1", price="0.79", time=time_of(60))
    path = write_lines(tmp_path / "gap.ws", [*DUMP, more])
    source = coinbase.open_source([path], symbol=PRODUCT)
    joined(source)
    assert any(note.startswith("1 gaps in trade ids; ") for note in source.notes)
    with pytest.raises(DataError, match="row 8: trade_id must be 6, was 8"):
        joined(coinbase.open_source([path], symbol=PRODUCT, strict=True))


@pytest.mark.parametrize(
    ("fields", "rule"),
    [
        (
            {"kind": "l2update", "changes": [["up", "1", "1"]], "time": time_of(50)},
            "side must be buy or sell",
        ),
        ({"kind": "l2update", "changes": [["buy", "1", "1"]], "time": "2021-13-01T00:00:00Z"}, "a UTC time"),
        ({"kind": "l2update", "changes": [["buy", "1"]], "time": time_of(50)}, "expected a JSON message"),
        ({"kind": "match", "price": "1"}, "expected a match with"),
    ],
)
def test_a_bad_message_is_named(tmp_path: Path, fields: dict[str, Any], rule: str) -> None:
    good = coinbase.open_source([write_lines(tmp_path / "good.ws", DUMP)], symbol=PRODUCT)
    rows = [*DUMP, line(70, **fields)]
    path = write_lines(tmp_path / "bad.ws", rows)
    with pytest.raises(DataError, match=rule) as caught:
        joined(coinbase.open_source([path], symbol=PRODUCT, instrument=good.instrument, strict=True))
    assert caught.value.row == len(DUMP)


def test_damaged_files_are_read_or_refused(tmp_path: Path) -> None:
    data = "".join(f"{row}\n" for row in DUMP).encode()
    path = tmp_path / "mutant.ws"
    outcomes = set()
    for mutant in mutants(data, count=400, seed=4):
        path.write_bytes(mutant)
        outcomes.add(survives(lambda: coinbase.open_source([path], symbol=PRODUCT), path))
    assert outcomes == {True, False}


def advanced(channel: str, tick: int, *events: object) -> str:
    stamp = f"2023-11-14T22:13:20.{tick:03}456789Z"
    return json.dumps({"channel": channel, "client_id": "", "timestamp": stamp, "sequence_num": tick,
                       "events": events})  # fmt: skip


def test_advanced_trade_is_read_as_exchange_is(tmp_path: Path) -> None:
    def level(side: str, price: str, size: str) -> dict[str, str]:
        return {
            "side": side,
            "event_time": "2023-11-14T22:13:20Z",
            "price_level": price,
            "new_quantity": size,
        }

    def trade(number: int, side: str, product: str = "BTC-USD") -> dict[str, str]:
        return {"trade_id": str(number), "product_id": product, "price": "10.1", "size": "2", "side": side,
                "time": f"2023-11-14T22:13:20.{number:03}Z"}  # fmt: skip

    book = [level("bid", "10.0", "1"), level("offer", "10.2", "3")]
    ticker = {"type": "ticker", "product_id": "BTC-USD", "best_bid": "10.1", "best_ask": "10.2"}
    rows = [
        advanced("subscriptions", 0, {"subscriptions": {"level2": ["BTC-USD"]}}),
        advanced("l2_data", 1, {"type": "snapshot", "product_id": "BTC-USD", "updates": book}),
        advanced("market_trades", 2, {"type": "snapshot", "trades": [trade(2, "BUY"), trade(1, "SELL")]}),
        advanced("ticker", 3, {"type": "snapshot", "tickers": [ticker]}),
        advanced(
            "l2_data", 4, {"type": "update", "product_id": "BTC-USD", "updates": [level("bid", "10.1", "2")]}
        ),
        advanced("market_trades", 9, {"type": "update", "trades": [trade(8, "BUY"), trade(7, "SELL")]}),
        advanced("ticker", 10, {"type": "update", "tickers": [ticker]}),
        advanced(
            "l2_data", 11, {"type": "update", "product_id": "ETH-USD", "updates": [level("bid", "9", "1")]}
        ),
    ]
    path = write_lines(tmp_path / "advanced.jsonl", rows)
    events = joined(coinbase.open_source([path], symbol="BTC-USD"))
    assert told(events) == [
        (CLEAR, 0, 0, 0, 4), (LEVEL, 1, 100, 1, 4), (LEVEL, -1, 102, 3, 5), (LEVEL, 1, 101, 2, 1),
        (TRADE, 1, 101, 2, 1), (TRADE, -1, 101, 2, 1),
    ]  # fmt: skip
    assert events["ts_ns"][-1] % 10**9 == 8_000_000
    assert events["ts_ns"][0] % 10**9 == 1_456_789
    check = coinbase.verify([path])
    assert (check.matched, check.total) == (1, 1)


@pytest.mark.recording("crypto_ws_raw_checksums")
def test_every_ticker_of_the_recording_agrees(market_data: Path) -> None:
    check = coinbase.verify([market_data / "COINBASE.ws.28.0.xz"])
    assert (check.matched, check.total) == (97, 97)


def uuid(number: int) -> str:
    return f"{number << 64:032x}"[:8] + "-" + f"{number << 64:032x}"[8:]


def full(ms: int, kind: str, sequence: int, **fields: Any) -> str:
    return json.dumps(
        {"type": kind, "product_id": PRODUCT, "sequence": sequence, "time": time_of(ms), **fields}
    )


FULL = [
    "1618677817.0: " + json.dumps({"sequence": 9, "bids": [["0.79", "5", uuid(2)]], "asks": []}),
    full(1, "open", 9, order_id=uuid(4), price="0.78", remaining_size="1", side="buy"),
    full(2, "received", 10, order_id=uuid(6), price="0.80", size="2.5", side="sell", order_type="limit"),
    full(2, "open", 11, order_id=uuid(6), price="0.80", remaining_size="2.5", side="sell"),
    full(3, "match", 12, trade_id=1, maker_order_id=uuid(6), price="0.80", size="0.5", side="sell"),
    full(4, "change", 13, order_id=uuid(2), new_size="4", old_size="5", price="0.79", side="buy"),
    full(5, "match", 14, trade_id=2, maker_order_id=uuid(8), price="0.79", size="1", side="buy"),
    full(6, "done", 15, order_id=uuid(6), reason="canceled", side="sell", remaining_size="2"),
    full(7, "done", 17, order_id=uuid(10), reason="filled", side="sell"),
]


def test_the_full_channel_is_read_order_by_order(tmp_path: Path) -> None:
    source = coinbase.open_source([write_lines(tmp_path / "full.ws", FULL)])
    source.quarantine = quarantine = Quarantine()
    events = joined(source)
    assert told(events) == [
        (CLEAR, 0, 0, 0, 4),
        (EventKind.ADD, 1, 79, 50, 5),
        (EventKind.ADD, -1, 80, 25, 1),
        (EventKind.EXECUTE, -1, 80, 5, 1),
        (EventKind.REDUCE, 1, 79, 10, 1),
        (TRADE, -1, 79, 10, 1),
        (EventKind.CANCEL, -1, 80, 20, 1),
        (CLEAR, 0, 0, 0, 1),
    ]
    assert events["order_id"].tolist() == [0, 1, 3, 3, 1, 0, 3, 0]
    assert dict(quarantine.counts) == {"a message must be newer than the book before it": 1}
    assert quarantine.sequence_gaps == 1
    assert source.notes[0] == (
        "1 gaps in the sequence of orders, the book cleared at each; full.ws:row 8: expected 16, was 17"
    )
    with pytest.raises(DataError, match=r"full\.ws:row 8: sequence: expected 16, was 17"):
        joined(coinbase.open_source([tmp_path / "full.ws"], strict=True))


@pytest.mark.parametrize(
    ("row", "word"),
    [(3, "remaining_size"), (4, "maker_order_id"), (4, '"size"'), (5, "new_size"), (7, "order_id")],
)
def test_an_order_that_lost_a_word_does_not_stand_for_ever(tmp_path: Path, row: int, word: str) -> None:
    """The line's number has not come then, so the next one tells of a gap."""
    rows = [*FULL]
    rows[row] = rows[row].replace(word, word.replace("e", "x"))
    source = coinbase.open_source([write_lines(tmp_path / "full.ws", rows)])
    source.quarantine = quarantine = Quarantine()
    events = joined(source)
    assert quarantine.counts[DAMAGED_RULE] == 1
    assert (events["kind"] == CLEAR).sum() == 2 + (row < 7)
    assert quarantine.sequence_gaps == 1 + (row < 7)


@pytest.mark.parametrize("others", ["", '"product_id": "ETH-USD", '])
def test_a_line_of_several_products_is_ours_too(others: str) -> None:
    left = LeftOut()
    columns = EventColumns(Grid.of(Instrument(symbol="BTC-USD")), left=left)
    decoder = coinbase.CoinbaseDecoder(
        columns, left, product="BTC-USD", strict=False, others=frozenset(["ETH-USD"])
    )
    decoder.lost(f'{{{others}"product_id": "ETH-USD"'.encode())
    assert not decoder._doubted
    decoder.lost(f'{{{others}"product_id": "BTC-USD"'.encode())
    assert decoder._doubted


def test_numbers_of_a_connection_tell_what_is_missing(tmp_path: Path) -> None:
    def envelope(number: int, kind: str, size: str) -> str:
        update = {"side": "bid", "event_time": time_of(1), "price_level": "1.5", "new_quantity": size}
        events = [{"type": kind, "product_id": "A-B", "updates": [update]}]
        return json.dumps(
            {"channel": "l2_data", "timestamp": time_of(number), "sequence_num": number, "events": events}
        )

    rows = [envelope(0, "snapshot", "1"), envelope(1, "update", "2"), envelope(4, "update", "3")]
    source = coinbase.open_source([write_lines(tmp_path / "a.jsonl", [*rows, *rows])])
    source.quarantine = Quarantine()
    assert len(joined(source)) == 8
    assert source.quarantine.sequence_gaps == 2
    assert source.notes[0].startswith("2 gaps in sequence_num")
    with pytest.raises(DataError, match=r"a\.jsonl:row 2: sequence_num: expected 2, was 4"):
        joined(coinbase.open_source([tmp_path / "a.jsonl"], strict=True))


def test_a_snapshot_without_any_time_is_taken_with_the_update_behind_it(tmp_path: Path) -> None:
    rows = [row.partition(": ")[2] for row in DUMP[3:5]]
    events = joined(coinbase.open_source([write_lines(tmp_path / "c.jsonl", rows)], symbol=PRODUCT))
    assert told(events)[:2] == [(CLEAR, 0, 0, 0, 4), (LEVEL, 1, 7902, 30, 4)]
    assert set(events["ts_ns"].tolist()) == {1_618_677_817_045_123_000}


def test_a_trade_counts_once_and_a_late_one_counts(tmp_path: Path) -> None:
    def trade(number: int) -> str:
        return line(60, "match", trade_id=number, side="buy", size="1", price="0.79", time=time_of(60))

    path = write_lines(tmp_path / "t.ws", [*DUMP, *map(trade, (6, 6, 5, 9, 8, 8, 10))])
    source = coinbase.open_source([path], symbol=PRODUCT)
    source.quarantine = quarantine = Quarantine()
    events = joined(source)
    assert events["seq"][events["kind"] == TRADE].tolist() == [5, 8, 11, 12, 14]
    assert dict(quarantine.counts) == {coinbase.TRADE_ID_RULE: 3}
    assert quarantine.sequence_gaps == 1


@pytest.mark.parametrize(
    "damage", [("l2_data", "l2_dbta"), ("BTC-USD", "BTC-USE"), ('"channel"', '"chbnnel"')]
)
def test_a_changed_letter_of_advanced_trade_doubts_the_book(tmp_path: Path, damage: tuple[str, str]) -> None:
    level = {"side": "bid", "price_level": "10.0", "new_quantity": "1"}
    rows = [
        advanced("l2_data", tick, {"type": kind, "product_id": "BTC-USD", "updates": [level]})
        for tick, kind in enumerate(["snapshot", *["update"] * 299])
    ]
    rows[200] = rows[200].replace(*damage)
    source = coinbase.open_source([write_lines(tmp_path / "advanced.jsonl", rows)])
    kinds = joined(source)["kind"].tolist()
    assert kinds == [CLEAR, *[LEVEL] * 200, CLEAR, *[LEVEL] * 99]

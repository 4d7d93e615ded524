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
    assert "1 gaps in trade ids" in source.notes
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
        joined(coinbase.open_source([path], symbol=PRODUCT, instrument=good.instrument))
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

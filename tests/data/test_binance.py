"""Binance streams: sequence rules, snapshots, order of time, and the recordings' own truth."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("msgspec")

from feed_files import BASE_MS, COMPRESSORS, depth, joined, mutants, stamped, survives, told, write_lines

from data.errors import DataError
from data.importers import binance, feed_source, importer
from data.quarantine import Quarantine
from data.receive_clock import CorrectedReceipts, measure_receive_clock
from data.schema import RECV_NOT_RECORDED, EventKind

CLEAR, LEVEL, TRADE, QUOTE = EventKind.CLEAR, EventKind.LEVEL, EventKind.TRADE, EventKind.QUOTE


def snapshot(last: int, bids: list[tuple[str, str]], asks: list[tuple[str, str]], ms: int = 0) -> str:
    return stamped({"lastUpdateId": last, "bids": bids, "asks": asks}, ms)


def trade(ms: int, price: str, size: str, *, maker: bool, kind: str = "trade", **more: object) -> str:
    data = {
        "e": kind,
        "E": BASE_MS + ms,
        "T": BASE_MS + ms,
        "s": "BTCUSDT",
        "p": price,
        "q": size,
        "m": maker,
    }
    return stamped({"stream": "x@trade", "data": data | more}, ms)


def ticker(update: int, bid: tuple[str, str], ask: tuple[str, str], ms: int) -> str:
    data = {"u": update, "s": "BTCUSDT", "b": bid[0], "B": bid[1], "a": ask[0], "A": ask[1]}
    return stamped({"stream": "x@bookTicker", "data": data}, ms)


SPOT = [
    depth(1, 3, [("100.00", "9")], ms=0),
    depth(4, 7, [("100.10", "2.5")], [("100.20", "1")], ms=100),
    snapshot(5, [("100.00", "1")], [("100.30", "4")], ms=120),
    depth(8, 9, [("100.00", "0.000")], ms=200),
    trade(210, "100.20", "0.5", maker=False),
    ticker(9, ("100.10", "2.5"), ("100.20", "1"), 215),
]


def test_held_updates_follow_the_snapshot_in_its_packet(tmp_path: Path) -> None:
    source = binance.open_source([write_lines(tmp_path / "spot.jsonl", SPOT)])
    events = joined(source)
    assert (source.instrument.price_increment, source.instrument.lot_size) == (0.1, 0.1)
    assert told(events) == [
        (CLEAR, 0, 0, 0, 4),
        (LEVEL, 1, 1000, 10, 4),
        (LEVEL, -1, 1003, 40, 4),
        (LEVEL, 1, 1001, 25, 0),
        (LEVEL, -1, 1002, 10, 1),
        (LEVEL, 1, 1000, 0, 1),
        (TRADE, 1, 1002, 5, 1),
    ]
    assert events["seq"].tolist() == [2, 2, 2, 1, 1, 3, 4]
    assert events["recv_ns"][0] == (BASE_MS + 125) * 1_000_000
    assert source.notes == (
        "1 bookTicker messages, used by verify",
        "1 rows rejected: a depth update must be newer than the snapshot",
    )


def test_the_touch_equals_the_book_ticker_of_the_same_id(tmp_path: Path) -> None:
    good = write_lines(tmp_path / "good.jsonl", SPOT)
    assert (check := binance.verify([good])).matched == check.total == 1
    bad = write_lines(
        tmp_path / "bad.jsonl", [*SPOT[:-1], ticker(9, ("100.10", "2.4"), ("100.20", "1"), 215)]
    )
    check = binance.verify([bad])
    assert (check.matched, check.total) == (0, 1)
    assert check.first_mismatch is not None
    assert "bad.jsonl:row 5: update 9" in check.first_mismatch


def test_a_gap_empties_the_book_until_the_next_snapshot(tmp_path: Path) -> None:
    rows = [
        snapshot(5, [("100.1", "1")], [("100.3", "4")]),
        depth(6, 7, [("100.1", "2")], ms=10),
        depth(9, 9, [("100.1", "3")], ms=20),
        depth(10, 10, [("100.2", "3")], ms=30),
        snapshot(9, [("100.1", "7")], [("100.3", "4")], ms=40),
        depth(11, 11, [("100.1", "8")], ms=50),
    ]
    path = write_lines(tmp_path / "gap.jsonl", rows)
    source = binance.open_source([path])
    kinds = [event[0] for event in told(joined(source))]
    assert kinds == [CLEAR, LEVEL, LEVEL, LEVEL, CLEAR, LEVEL, LEVEL, CLEAR, LEVEL, LEVEL, LEVEL, LEVEL]
    assert "1 gaps in the depth sequence" in source.notes[0]
    assert "gap.jsonl:row 2: depth update must follow id 7, was U 9" in source.notes[0]
    with pytest.raises(DataError, match="row 2: depth update must follow id 7, was U 9"):
        joined(binance.open_source([path], strict=True))


def test_futures_follow_the_id_of_the_update_before(tmp_path: Path) -> None:
    rows = [
        depth(90, 95, [("1.1", "1")], previous=80, ms=0),
        depth(100, 105, [("1.1", "2")], previous=95, ms=1),
        snapshot(97, [("1.0", "7")], [("1.2", "7")], ms=2),
        depth(120, 121, [("1.1", "3")], previous=105, ms=3),
        depth(120, 121, [("1.1", "3")], previous=105, ms=3),
    ]
    source = binance.open_source([write_lines(tmp_path / "f.jsonl", rows)])
    assert [event[:4] for event in told(joined(source))] == [
        (CLEAR, 0, 0, 0), (LEVEL, 1, 10, 7), (LEVEL, -1, 12, 7), (LEVEL, 1, 11, 2), (LEVEL, 1, 11, 3),
    ]  # fmt: skip
    assert "1 rows rejected: a depth update must not end at or before the one before" in source.notes


def test_without_a_snapshot_the_book_grows_from_updates(tmp_path: Path) -> None:
    rows = [depth(1, 1, [("2", "1")], ms=0), depth(2, 2, [("3", "1")], ms=1)]
    source = binance.open_source([write_lines(tmp_path / "n.jsonl", rows)])
    assert [event[0] for event in told(joined(source))] == [CLEAR, LEVEL, LEVEL]
    assert source.notes == ("no depth snapshot: levels that never changed are unknown",)


def test_streams_are_merged_by_venue_time_and_packets_stay_whole(tmp_path: Path) -> None:
    rows = [
        snapshot(1, [("1.0", "1")], [("2.0", "1")]),
        depth(2, 2, [("1.1", "1"), ("1.2", "1")], ms=50),
        trade(20, "1.5", "1", maker=True),
        depth(3, 3, [("1.3", "1")], ms=60),
    ]
    events = joined(binance.open_source([write_lines(tmp_path / "m.jsonl", rows)]))
    assert told(events)[3:] == [
        (TRADE, -1, 15, 1, 1),
        (LEVEL, 1, 11, 1, 0),
        (LEVEL, 1, 12, 1, 1),
        (LEVEL, 1, 13, 1, 1),
    ]


def test_tickers_alone_are_quotes(tmp_path: Path) -> None:
    rows = [ticker(1, ("1.0", "2"), ("1.1", "3"), 0), ticker(2, ("1.1", "2"), ("1.1", "3"), 1)]
    events = joined(binance.open_source([write_lines(tmp_path / "t.jsonl", rows)]))
    assert told(events) == [(QUOTE, 0, 10, 2, 1), (QUOTE, 0, 11, 2, 17)]
    assert [int(ask) & 0xFFFFFFFF for ask in events["order_id"]] == [11, 11]
    assert [int(ask) >> 32 for ask in events["order_id"]] == [3, 3]


def test_sums_of_trades_and_fills_outside_the_book_are_left_out(tmp_path: Path) -> None:
    rows = [
        trade(0, "1.5", "1", maker=True, X="MARKET"),
        trade(1, "1.5", "1", maker=True, kind="aggTrade"),
        trade(2, "1.5", "1", maker=True, X="INSURANCE_FUND"),
    ]
    source = binance.open_source([write_lines(tmp_path / "a.jsonl", rows)])
    assert len(joined(source)) == 1
    assert len(source.notes) == 2


def test_a_trade_counts_once(tmp_path: Path) -> None:
    """A second connection repeats trades, and a broken one leaves a gap; ids tell."""
    rows = [trade(at, "1.5", "1", maker=True, t=number) for at, number in enumerate((7, 8, 8, 7, 11))]
    source = binance.open_source([write_lines(tmp_path / "t.jsonl", rows)])
    source.quarantine = Quarantine()
    assert len(joined(source)) == 3
    assert source.quarantine.counts == {binance.TRADE_ID_RULE: 2}
    assert any(note.startswith("1 gaps in trade ids; ") for note in source.notes)


@pytest.mark.parametrize("wrapped", [False, True])
def test_partial_books_replace_each_other(tmp_path: Path, wrapped: bool) -> None:
    books = [{"lastUpdateId": at, "bids": [[f"1.{at}", "2"]], "asks": [["1.9", "1"]]} for at in (3, 4, 4)]
    messages = [{"stream": "btcusdt@depth5", "data": book} if wrapped else book for book in books]
    rows = [stamped(message, at) for at, message in enumerate(messages)]
    path = write_lines(tmp_path / "partial.jsonl", rows)
    source = binance.open_source([path], symbol=None if wrapped else "BTCUSDT")
    assert source.instrument.symbol == "BTCUSDT"
    assert [event[:4] for event in told(joined(source))] == [
        (CLEAR, 0, 0, 0), (LEVEL, 1, 13, 2), (LEVEL, -1, 19, 1),
        (CLEAR, 0, 0, 0), (LEVEL, 1, 14, 2), (LEVEL, -1, 19, 1),
    ]  # fmt: skip


def test_one_symbol_of_several_must_be_named(tmp_path: Path) -> None:
    rows = [depth(1, 1, [("2", "1")]), depth(1, 1, [("3", "1")], symbol="ETHUSDT")]
    path = write_lines(tmp_path / "two.jsonl", rows)
    with pytest.raises(DataError, match="was BTCUSDT, ETHUSDT"):
        binance.open_source([path])
    source = importer("binance").open_source([path], symbol="ETHUSDT")
    assert source.instrument.symbol == "ETHUSDT"
    assert len(joined(source)) == 2


@pytest.mark.parametrize("suffix", COMPRESSORS)
def test_compression_is_told_by_the_first_bytes(tmp_path: Path, suffix: str) -> None:
    path = write_lines(tmp_path / f"x.jsonl{suffix}.bin", SPOT, COMPRESSORS[suffix])
    assert len(joined(binance.open_source([path]))) == 7
    if suffix:
        path.write_bytes(path.read_bytes()[:-20])
        with pytest.raises(DataError, match="expected an undamaged file"):
            joined(binance.open_source([path]))


def test_without_a_receive_time_receipt_is_not_recorded(tmp_path: Path) -> None:
    rows = [row.partition(" ")[2] for row in SPOT[:5] if "lastUpdateId" not in row]
    events = joined(binance.open_source([write_lines(tmp_path / "r.jsonl", rows)]))
    assert (events["recv_ns"] == RECV_NOT_RECORDED).all()


@pytest.mark.parametrize(
    ("bad", "rule"),
    [
        ('{"e":"depthUpdate"', "expected a JSON message"),
        (
            '{"e":"depthUpdate","s":"BTCUSDT","U":10,"u":10,"b":[["1.x","2"]],"a":[],"E":1700000000000}',
            "number in steps",
        ),
        (
            '{"e":"depthUpdate","s":"BTCUSDT","U":10,"u":10,"b":[["100.15","2"]],"a":[],"E":1700000000000}',
            "steps of 0.1",
        ),
        (
            '{"e":"depthUpdate","s":"BTCUSDT","U":10,"u":10,"b":[["1","-2"]],"a":[],"E":1700000000000}',
            "not be negative",
        ),
        ('{"e":"trade","s":"BTCUSDT","p":"1","q":"1","E":1700000000000}', "with p, q and m"),
        ('{"e":"trade","s":"BTCUSDT","p":"1","q":"1","m":true,"E":-5}', "between 1970 and 2200"),
        ("xyz", "expected a receive time and a JSON object"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, bad: str, rule: str) -> None:
    path = write_lines(tmp_path / "bad.jsonl", [*SPOT, bad])
    instrument = binance.open_source([write_lines(tmp_path / "good.jsonl", SPOT)]).instrument
    with pytest.raises(DataError, match=rule) as caught:
        joined(binance.open_source([path], instrument=instrument, strict=True))
    assert caught.value.row == len(SPOT)
    assert caught.value.path == str(path)


def test_a_line_without_an_end_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("data.importers.text_lines.LINE_BYTES_MAX", 1 << 20)
    path = tmp_path / "bomb.gz"
    path.write_bytes(COMPRESSORS[".gz"](b"1" * (8 << 20)))
    with pytest.raises(DataError, match="lines must be at most 1,048,576 bytes"):
        binance.open_source([path])


def test_damaged_files_are_read_or_refused(tmp_path: Path) -> None:
    data = "".join(f"{row}\n" for row in SPOT).encode()
    path = tmp_path / "mutant.jsonl"
    outcomes = set()
    for mutant in mutants(data, count=600, seed=1):
        path.write_bytes(mutant)
        outcomes.add(survives(lambda: binance.open_source([path]), path))
    assert outcomes == {True, False}


FILES = (
    "spot_btcusdt_20240808.jsonl.xz",
    "usdm_btcusdt_20240808.jsonl.xz",
    "cm_btcusd_perp_20240808.jsonl.xz",
)


@pytest.mark.recording("binance_3venues_btc_2024-08-08")
@pytest.mark.parametrize("name", FILES)
def test_every_touch_of_the_recording_equals_the_ticker(market_data: Path, name: str) -> None:
    check = binance.verify([market_data / name])
    assert check.matched == check.total > 500
    matched, _, total = check.notes[1].partition(" touches")[0].partition(" of ")
    assert matched == total


@pytest.mark.recording("binance_3venues_btc_2024-08-08")
def test_the_clock_behind_the_venue_is_corrected(market_data: Path) -> None:
    source = binance.open_source([market_data / FILES[2]])
    assert (source.instrument.inverse, source.instrument.multiplier) == (True, 100.0)
    corrected = CorrectedReceipts(source, floor_ns=1_000)
    assert corrected.clock.negative == corrected.clock.recorded
    assert corrected.clock.latency_ns_min == pytest.approx(-1.27e9, rel=0.01)
    before, after = joined(source), joined(corrected)
    assert (np.diff(after["recv_ns"]) == np.diff(before["recv_ns"])).all()
    assert measure_receive_clock([after]).latency_ns_min == 1_000


def test_messages_are_what_json_says(tmp_path: Path) -> None:
    recv_ns, message = binance.parse_line(SPOT[4].encode(), path=tmp_path, row=0)
    assert recv_ns == (BASE_MS + 215) * 1_000_000
    assert json.loads(SPOT[4].partition(" ")[2])["data"]["p"] == message.price


def test_spot_and_futures_never_share_a_book(tmp_path: Path) -> None:
    def updates(name: str, *previous: bool) -> Path:
        rows = [
            depth(at, at, [("100.00", "1")], previous=at - 1 if told else None, ms=300 + at)
            for at, told in enumerate(previous, 10)
        ]
        return write_lines(tmp_path / name, rows)

    spot, futures = updates("a.jsonl", *[False] * 6), updates("b.jsonl", *[True] * 4)
    for files, name in (([spot, futures], "b"), ([updates("c.jsonl", *[False, True] * 6)], "c")):
        with pytest.raises(DataError, match=rf"{name}\.jsonl:row \d: expected depth .* of spot .* was both"):
            joined(binance.open_source(files))
    # A damaged word is no other market, even in the first line.
    for previous in ([False, *[True] * 20], [*[True] * 9, False, *[True] * 9, False, True]):
        source = binance.open_source([updates("d.jsonl", *previous)])
        joined(source)
        assert source.damage.damaged <= 2


def test_a_symbol_that_begins_late_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed_source, "HEAD_LINES_MAX", 4)
    late = [
        stamped({"symbol": "LATE", "lastUpdateId": 5, "bids": [("9.50", "1")], "asks": [("9.75", "4")]}, 400),
        depth(6, 7, [("9.25", "1")], ms=500, symbol="LATE"),
    ]
    files = [write_lines(tmp_path / "a.jsonl", SPOT), write_lines(tmp_path / "b.jsonl", [*SPOT, *late])]
    source = binance.open_source(files, symbol="LATE")
    assert source.instrument.price_increment == 0.01
    assert len(joined(source)) > 0
    assert binance.verify(files).notes[0] == "symbols: BTCUSDT, LATE"
    with pytest.raises(DataError, match="expected messages of NONE, was BTCUSDT, LATE"):
        binance.open_source(files, symbol="NONE")

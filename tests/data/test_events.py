"""Any recording as events: formats told apart, fields filled, rules kept."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from lobster_day import Day

from data.errors import ConfigError, DataError
from data.events import EventSource, open_events, sniff_format, whole_packets
from data.instrument import Instrument
from data.schema import EVENT_DTYPE, QUOTE_DTYPE, RECV_NOT_RECORDED, EventFlag, EventKind
from data.store import TickStore

QUOTES = (
    "ts_ms,bid,ask,bid_size,ask_size\n1000,10.01,10.02,1.5,2\n1000,10.01,10.03,0.25,7\n1005,10.05,10.04,1,1\n"
)
TRADES = """timestamp,price,size,side
2024-03-01T09:00:00Z,10.5,3,buy
2024-03-01T09:00:00Z,10.25,1,S
2024-03-01T09:00:01Z,10.5,2,
"""


def events_in(source: EventSource) -> np.ndarray:
    assert isinstance(source, EventSource)
    return np.concatenate(list(source.blocks()))


def write(tmp_path: Path, name: str, text: str) -> Path:
    path = tmp_path / name
    path.write_text(text)
    return path


def test_quotes_become_two_sided_events_with_sizes_in_lots(tmp_path: Path) -> None:
    source = open_events(write(tmp_path, "q.csv", QUOTES))
    assert (source.instrument.price_increment, source.instrument.lot_size) == (0.01, 0.01)
    quotes = events_in(source).view(QUOTE_DTYPE)
    assert quotes["ts_ns"].tolist() == [10**9, 10**9]
    assert (quotes["recv_ns"] == RECV_NOT_RECORDED).all()
    assert quotes["bid_price_ticks"].tolist() == [1_001, 1_001]
    assert quotes["ask_price_ticks"].tolist() == [1_002, 1_003]
    assert quotes["bid_size_lots"].tolist() == [150, 25]
    assert quotes["ask_size_lots"].tolist() == [200, 700]
    assert quotes["seq"].tolist() == [0, 1]
    assert (quotes["kind"] == EventKind.QUOTE).all()
    assert (quotes["flags"] == EventFlag.LAST_IN_PACKET).all()
    assert source.notes == ("1 crossed quotes were left out",)


def test_crossed_quotes_can_be_kept_with_a_flag_or_refused(tmp_path: Path) -> None:
    path = write(tmp_path, "q.csv", QUOTES)
    kept = events_in(open_events(path, keep_crossed=True))
    assert (kept["flags"] & EventFlag.CROSSED != 0).tolist() == [False, False, True]
    with pytest.raises(DataError, match=r"q\.csv:row 2: bid must not exceed ask"):
        events_in(open_events(path, strict=True))


def test_quotes_without_sizes_show_one_lot_and_say_so(tmp_path: Path) -> None:
    source = open_events(write(tmp_path, "q.csv", "ts_ns,bid,ask\n5,1.1,1.2\n"))
    quotes = events_in(source).view(QUOTE_DTYPE)
    assert quotes[["bid_size_lots", "ask_size_lots"]].tolist() == [(1, 1)]
    assert "sizes are not recorded" in source.notes[0]


def test_trades_carry_the_side_of_the_aggressor(tmp_path: Path) -> None:
    source = open_events(write(tmp_path, "t.csv", TRADES))
    trades = events_in(source)
    assert source.instrument.price_increment == 0.01
    assert trades["price_ticks"].tolist() == [1_050, 1_025, 1_050]
    assert trades["size_lots"].tolist() == [3, 1, 2]
    assert trades["side"].tolist() == [1, -1, 0]
    assert (trades["kind"] == EventKind.TRADE).all()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (TRADES.replace("buy", "maybe"), r"t\.csv:row 0: side must be buy, sell"),
        (
            TRADES.replace("09:00:01Z,10.5,2", "08:00:01Z,10.5,2"),
            r"t\.csv:row 2: time must not run backwards",
        ),
        (TRADES.replace(",10.25,1,", ",,1,"), r"t\.csv:row 1: price must be a number, was null"),
    ],
)
def test_bad_trades_are_refused_by_row(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        events_in(open_events(write(tmp_path, "t.csv", text)))


def test_formats_are_told_apart(tmp_path: Path) -> None:
    pq.write_table(pa.table({"ts_ns": [1], "bid": [1.0], "ask": [2.0]}), tmp_path / "q.parquet")
    np.save(tmp_path / "e.npy", np.zeros(1, EVENT_DTYPE))
    (tmp_path / "lob").mkdir()
    (tmp_path / "ticks").mkdir()
    message = Day(seed=1, levels=1, rows=5).write(tmp_path / "lob")
    TickStore(tmp_path / "ticks").write(
        [np.zeros(3, EVENT_DTYPE)], instrument=Instrument(symbol="X"), venue="V"
    )
    expected = {
        write(tmp_path, "q.csv", QUOTES): "quotes",
        tmp_path / "q.parquet": "quotes",
        write(tmp_path, "t.csv", TRADES): "trades",
        message: "lobster",
        message.parent: "lobster",
        Day(seed=1, levels=1, rows=5).write_zip(tmp_path / "z.zip"): "lobster",
        tmp_path / "ticks": "store",
        tmp_path / "e.npy": "events",
    }
    assert {path: sniff_format(path) for path in expected} == expected


def test_what_cannot_be_told_is_refused_with_what_was_expected(tmp_path: Path) -> None:
    both = write(tmp_path, "both.csv", "ts_ns,bid,ask,price,size\n1,2,3,2,1\n")
    with pytest.raises(DataError, match="fit both quotes and trades: say which with format="):
        open_events(both)
    assert len(events_in(open_events(both, format="trades"))) == 1
    for path in (write(tmp_path, "none.csv", "a,b\n1,2\n"), write(tmp_path, "x.bin", "?")):
        with pytest.raises(DataError, match=r"expected quotes \(a time, bid"):
            open_events(path)
    with pytest.raises(DataError, match="existing file or folder"):
        open_events(tmp_path / "gone")
    with pytest.raises(ConfigError, match="format must be one of quotes, trades"):
        open_events(both, format="excel")


def test_stored_arrays_are_checked(tmp_path: Path) -> None:
    events = np.zeros(100, EVENT_DTYPE)
    events["ts_ns"], events["kind"] = np.arange(100), EventKind.TRADE
    path = tmp_path / "e.npy"
    np.save(path, events)
    assert events_in(open_events(path)).tobytes() == events.tobytes()
    events["ts_ns"][60] = 0
    np.save(path, events)
    with pytest.raises(DataError, match=r"e\.npy:row 60: time must not run backwards"):
        events_in(open_events(path))
    events["ts_ns"], events["kind"][7] = 0, 99
    np.save(path, events)
    with pytest.raises(DataError, match=r"e\.npy:row 7: kind must be 1 to 9"):
        events_in(open_events(path))
    for wrong in (np.zeros(3), np.array([object()], object)):
        np.save(path, wrong, allow_pickle=True)
        with pytest.raises(DataError, match=r"e\.npy: expected"):
            open_events(path)
    path.write_bytes(b"\x93NUMPY junk")
    with pytest.raises(DataError, match=r"e\.npy: expected"):
        open_events(path)


def test_a_store_streams_what_was_imported(tmp_path: Path) -> None:
    source = open_events(Day(seed=4, levels=3, rows=500).write_zip(tmp_path / "z.zip"))
    direct = events_in(source)
    TickStore(tmp_path / "ticks").write(source.blocks(), instrument=source.instrument, venue="XNAS")
    stored = open_events(tmp_path / "ticks")
    assert events_in(stored).tobytes() == direct.tobytes()
    assert stored.instrument == source.instrument


def test_packets_are_never_cut() -> None:
    events = np.zeros(40, EVENT_DTYPE)
    events["seq"] = np.arange(40)
    events["flags"][[3, 17, 18, 39]] = EventFlag.LAST_IN_PACKET
    for size in (1, 5, 16, 40):
        blocks = list(whole_packets(iter(np.split(events, range(size, 40, size)))))
        assert np.concatenate(blocks).tobytes() == events.tobytes()
        assert all(block["flags"][-1] & EventFlag.LAST_IN_PACKET for block in blocks)

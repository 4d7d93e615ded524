"""Dukascopy's hours and CSV exports: the path's hour, exact points, rows that make no sense."""

from __future__ import annotations

import lzma
from pathlib import Path

import numpy as np
import pytest
from feed_files import joined, mutants, survives, write_lines

from data.errors import AnytickError, ConfigError, DataError
from data.importers import dukascopy
from data.importers.dukascopy_files import ROW_DTYPE, hour_file
from data.instrument import Instrument
from data.quarantine import Quarantine
from data.schema import QUOTE_DTYPE, EventFlag
from data.session_clock import Calendar, SessionClock

FIRST_OF_MAY_13H = np.datetime64("2014-05-01T13", "ns").astype(int)
ROWS = [
    (0, 138_651, 138_645, 1.5, 2.25),
    (417, 138_650, 138_650, 0.75, 1.0),
    (3_599_999, 138_655, 138_651, 3.0, 0.0),
]
HOUR = np.array(ROWS, ROW_DTYPE).tobytes()
HOUR_NAME = "EURUSD_2014_04_01_13h_ticks.bi5"


def hour(root: Path, rows: list[tuple[float, ...]], name: str = "EURUSD/2014/04/01/13h_ticks.bi5") -> Path:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(lzma.compress(np.array(rows, ROW_DTYPE).tobytes(), lzma.FORMAT_ALONE))
    return path


def test_an_hour_becomes_quotes(tmp_path: Path) -> None:
    source = dukascopy.open_source([hour(tmp_path, ROWS)])
    assert (source.instrument.symbol, source.instrument.price_increment) == ("EURUSD", 0.00001)
    assert source.instrument.lot_size == 0.01
    assert SessionClock(Calendar.of(source.instrument)).inside(
        np.array(["2014-05-02T20:59", "2014-05-02T21:00", "2014-05-04T21:00"], "M8[ns]").astype(np.int64)
    ).tolist() == [True, False, True]
    events = joined(source)
    quotes = events.view(QUOTE_DTYPE)
    assert (quotes["ts_ns"] - FIRST_OF_MAY_13H).tolist() == [row[0] * 10**6 for row in ROWS]
    assert quotes["ask_price_ticks"].tolist() == [row[1] for row in ROWS]
    assert quotes["bid_price_ticks"].tolist() == [row[2] for row in ROWS]
    assert quotes["ask_size_lots"].tolist() == [150, 75, 300]
    assert quotes["bid_size_lots"].tolist() == [225, 100, 0]
    assert (quotes["flags"] & EventFlag.CROSSED != 0).tolist() == [False, True, False]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("EURUSD/2014/00/01/00h_ticks.bi5", "2014-01-01T00"),
        ("EURUSD/2014/11/31/23h_ticks.bi5", "2014-12-31T23"),
        ("x/EURUSD_2014_04_01_13h_ticks.bi5", "2014-05-01T13"),
        ("x/eurusd-2014-04-01-13h_ticks.bi5", "2014-05-01T13"),
        ("x/EURUSD_20140501_13h_ticks.bi5", "2014-05-01T13"),
        ("EURUSD/2014/12/01/13h_ticks.bi5", None),
        ("EURUSD/2014/01/30/13h_ticks.bi5", None),
        ("x/EURUSD_20141301_13h_ticks.bi5", None),
        ("EURUSD/2014/04/01/24h_ticks.bi5", None),
        ("EURUSD/ticks.bi5", None),
    ],
)
def test_the_path_tells_the_hour(tmp_path: Path, name: str, expected: str | None) -> None:
    path = hour(tmp_path, ROWS, name)
    if expected is None:
        with pytest.raises(DataError, match=r"expected a (date|path)"):
            hour_file(path)
        return
    found = hour_file(path)
    assert (found.symbol, found.start_ns) == ("EURUSD", np.datetime64(expected, "ns").astype(int))


def test_a_tree_is_read_in_order_of_time(tmp_path: Path) -> None:
    hour(tmp_path, [(5, 138_660, 138_650, 1, 1)], "EURUSD/2014/04/02/00h_ticks.bi5")
    hour(tmp_path, ROWS)
    (tmp_path / "EURUSD/2014/04/01/14h_ticks.bi5").write_bytes(b"")
    hour(tmp_path, ROWS, "USDJPY/2014/04/01/13h_ticks.bi5")
    with pytest.raises(ConfigError, match="was EURUSD, USDJPY"):
        dukascopy.open_source([tmp_path])
    source = dukascopy.open_source([tmp_path], symbol="EUR/USD")
    assert len(joined(source)) == 4
    assert source.notes == ("1 hours without a tick",)
    assert dukascopy.open_source([tmp_path], symbol="USDJPY").instrument.price_increment == 0.001


def test_rows_that_make_no_sense_are_set_aside(tmp_path: Path) -> None:
    bad = [
        (10, 0, 138_645, 1, 1), (20, 138_640, 138_645, 1, 1), (30, 138_650, 138_645, float("nan"), 1),
        (5, 138_650, 138_645, 1, 1), (3_600_000, 138_650, 138_645, 1, 1), (40, 138_650, 138_645, -1, 1),
    ]  # fmt: skip
    path = hour(tmp_path, [*ROWS[:1], *bad, *ROWS[1:]])
    source = dukascopy.open_source([path])
    with Quarantine(tmp_path / "q.parquet") as quarantine:
        source.quarantine = quarantine
        assert len(joined(source)) == len(ROWS)
    assert sorted(quarantine.counts.values()) == [1, 1, 2, 2]
    with pytest.raises(DataError, match="row"):
        joined(dukascopy.open_source([path], strict=True))
    check = dukascopy.verify([path])
    assert (check.matched, check.total) == (3, 9)


def test_what_has_no_known_point_needs_an_instrument(tmp_path: Path) -> None:
    path = hour(tmp_path, ROWS, "USA500IDXUSD/2014/04/01/13h_ticks.bi5")
    with pytest.raises(ConfigError, match="the point of USA500IDXUSD is not known"):
        dukascopy.open_source([path])
    given = Instrument(symbol="USA500IDXUSD", price_increment=0.001, lot_size=0.01)
    assert len(joined(dukascopy.open_source([path], instrument=given))) == 3


@pytest.mark.parametrize(
    "rows",
    [
        ["Gmt time,Ask,Bid,AskVolume,BidVolume", "01.05.2014 13:00:00.417,1.38651,1.38645,1.5,2.25"],
        [
            "Local time,Ask,Bid,AskVolume,BidVolume",
            "01.05.2014 15:00:00.417 GMT+0200,1.38651,1.38645,1.5,2.25",
        ],
        ["timestamp,askPrice,bidPrice,askVolume,bidVolume", "1398949200417,1.38651,1.38645,1.5,2.25"],
        ["time,ask,bid,ask_volume,bid_volume", "2014-05-01T13:00:00.417,1.38651,1.38645,1.5,2.25"],
    ],
)
def test_csv_exports(tmp_path: Path, rows: list[str]) -> None:
    path = write_lines(tmp_path / "EURUSD_Ticks_01.05.2014.csv", rows)
    quotes = joined(dukascopy.open_source([path])).view(QUOTE_DTYPE)
    assert quotes["ts_ns"].tolist() == [FIRST_OF_MAY_13H + 417 * 10**6]
    assert (quotes["ask_price_ticks"][0], quotes["bid_price_ticks"][0]) == (138_651, 138_645)
    assert (quotes["ask_size_lots"][0], quotes["bid_size_lots"][0]) == (150, 225)


def test_damaged_hours_are_read_or_refused(tmp_path: Path) -> None:
    path = hour(tmp_path, ROWS)
    data = path.read_bytes()
    outcomes = set()
    for mutant in mutants(data, count=300, seed=4):
        path.write_bytes(mutant)
        outcomes.add(survives(lambda: dukascopy.open_source([path]), path))
    assert False in outcomes


def test_a_bomb_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "EURUSD/2014/04/01/13h_ticks.bi5"
    path.parent.mkdir(parents=True)
    path.write_bytes(lzma.compress(bytes(80 << 20), lzma.FORMAT_ALONE))
    with pytest.raises(AnytickError, match="at most 64 MiB"):
        dukascopy.open_source([path])

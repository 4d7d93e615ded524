"""Anybody's table: a proposed mapping reads it, bad rows are set aside by rule, good ones are exact."""

from __future__ import annotations

import json
import re
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import polars as pl
import pytest
from feed_files import mutants, survives
from hypothesis import given
from hypothesis import strategies as st

from data.errors import ConfigError, DataError
from data.mapped_source import MappedSource
from data.mapping import Mapping, TimeMapping, load_mapping
from data.quarantine import Quarantine
from data.schema import QUOTE_DTYPE, EventKind
from data.sniff import sniff_mapping
from data.table_texts import read_times

TRADES = Mapping(
    kind="trades", symbol="X", price_increment=0.01, lot_size=0.001,
    time=TimeMapping(column="t", unit="ms"), columns={"price": "p", "size": "q", "side": "s"},
)  # fmt: skip

TABLES = {
    "trades.csv": (
        "timestamp,price,amount,side\n1600000000123,10.25,0.5,buy\n1600000000124,10.26,1.25,sell\n",
        ("trades", "timestamp", "ms", 0.01, 0.01),
    ),
    "quotes.tsv": (
        "date_time\tBid\tAsk\n2014-05-01 00:00:00.123\t1.38655\t1.38657\n"
        "2014-05-01 00:00:01\t1.3866\t1.3867\n",
        ("quotes", "date_time", "iso", 1e-5, 1.0),
    ),
    "eurusd_noheader.csv": (
        "20120101 170000123,1.29650,1.29670,0\n20120101 170000456,1.29651,1.29671,0\n",
        ("quotes", "0", "%Y%m%d %H%M%S%3f", 1e-5, 1.0),
    ),
    "levels.csv": (
        "ts_event;price;size;side\n1600000000000000001;99.5;3;bid\n1600000000000000002;99.5;0;bid\n",
        ("levels", "ts_event", "ns", 0.1, 1.0),
    ),
    "seconds.csv": (
        "time,price,qty\n1600000000.000000001,7,2\n1600000000.1,8,3\n",
        ("trades", "time", "s", 1.0, 1.0),
    ),
}


@pytest.mark.parametrize("name", TABLES)
def test_a_proposed_mapping_reads_the_table_it_was_made_from(tmp_path: Path, name: str) -> None:
    text, (kind, column, unit, increment, lot_size) = TABLES[name]
    path = tmp_path / name
    path.write_text(text)
    mapping = sniff_mapping(path)
    assert (mapping.kind, mapping.time.column, mapping.time.unit) == (kind, column, unit)
    assert mapping.price_increment == pytest.approx(increment)
    assert mapping.lot_size == pytest.approx(lot_size)
    saved = tmp_path / "mapping.toml"
    saved.write_text(mapping.to_toml())
    assert load_mapping(saved) == mapping
    source = MappedSource([path], mapping, strict=True)
    (events,) = source.blocks()
    assert len(events) == 2
    assert (np.diff(events["ts_ns"]) > 0).all()


def test_fractions_of_seconds_in_text_are_exact(tmp_path: Path) -> None:
    path = tmp_path / "seconds.csv"
    path.write_text(TABLES["seconds.csv"][0])
    (events,) = MappedSource([path], sniff_mapping(path)).blocks()
    assert events["ts_ns"].tolist() == [1_600_000_000_000_000_001, 1_600_000_000_100_000_000]


def test_quotes_become_two_sided_events(tmp_path: Path) -> None:
    path = tmp_path / "quotes.tsv"
    path.write_text(TABLES["quotes.tsv"][0])
    (events,) = MappedSource([path], sniff_mapping(path)).blocks()
    quotes = events.view(QUOTE_DTYPE)
    assert quotes["bid_price_ticks"].tolist() == [138_655, 138_660]
    assert quotes["ask_price_ticks"].tolist() == [138_657, 138_670]
    assert (quotes["kind"] == EventKind.QUOTE).all()


BAD = {
    "x,1.00,1,buy": "time must be readable",
    "-5,1.00,1,buy": "time must be readable",
    "99999999999999999999,1.00,1,buy": "time must be readable",
    "1600000000000,,1,buy": "prices and sizes must be numbers",
    "1600000000000,nan,1,buy": "prices and sizes must be numbers",
    "1600000000000,1.005,1,buy": "multiples of the price increment",
    "1600000000000,1e30,1,buy": "multiples of the price increment",
    "1600000000000,1.00,-1,buy": "sizes must not be negative",
    "1600000000000,1.00,1.0005,buy": "multiples of the lot size",
    "1600000000000,1.00,1e-10,buy": "multiples of the lot size",
    "1600000000000,1.00,1,perhaps": "side must be a word",
}


@pytest.mark.parametrize("row", BAD)
def test_a_bad_row_is_set_aside_with_its_rule(tmp_path: Path, row: str) -> None:
    path = tmp_path / "trades.csv"
    good = "1600000000000,1.00,1,sell\n"
    path.write_text(f"t,p,q,s\n{good}{row}\n{good}")
    source = MappedSource([path], TRADES)
    with Quarantine(tmp_path / "side.parquet") as quarantine:
        source.quarantine = quarantine
        (events,) = source.blocks()
    assert len(events) == 2
    assert source.notes == ("1 rows were set aside",)
    (entry,) = pl.read_parquet(tmp_path / "side.parquet").to_dicts()
    assert entry["row"] == 1
    assert BAD[row] in entry["rule"]
    assert ",".join(json.loads(entry["raw"])[name] for name in "tpqs") == row
    with pytest.raises(DataError, match=r"trades\.csv:row 1: "):
        list(MappedSource([path], TRADES, strict=True).blocks())


def test_a_table_holds_one_symbol(tmp_path: Path) -> None:
    """One that holds A and B is not split into sellers and buyers, nor read as one market."""
    path, row = tmp_path / "t.csv", "1600000000123,{},10.25,1\n"
    head = "timestamp,symbol,price,size\n"
    path.write_text(head + row.format("A") + row.format("B"))
    with pytest.raises(DataError, match="expected one instrument in a table, so a file each, was A, B"):
        sniff_mapping(path)
    path.write_text(head + row.format("A") * 2)
    mapping = sniff_mapping(path)
    assert (mapping.symbol, mapping.columns["symbol"], "side" in mapping.columns) == ("A", "symbol", False)
    path.write_text(head + row.format("A") * 3 + row.format("B") + row.format("A"))
    with pytest.raises(DataError, match=r"row 3: a row must be of the first row's symbol"):
        list(MappedSource([path], mapping, strict=True).blocks(2))
    assert sum(map(len, MappedSource([path], mapping).blocks(2))) == 4


@given(
    ticks=st.lists(st.integers(-(10**6), 10**6), min_size=1, max_size=40),
    lots=st.lists(st.integers(0, 10**6), min_size=40, max_size=40),
)
def test_prices_and_sizes_are_exact(
    tmp_path_factory: pytest.TempPathFactory, ticks: list[int], lots: list[int]
) -> None:
    path = tmp_path_factory.mktemp("exact") / "t.csv"
    rows = [
        f"{1_600_000_000_000 + at},{tick / 100:.2f},{lots[at] / 1000:.3f},s" for at, tick in enumerate(ticks)
    ]
    path.write_text("t,p,q,s\n" + "\n".join(rows) + "\n")
    events = np.concatenate(list(MappedSource([path], TRADES, strict=True).blocks()))
    assert events["price_ticks"].tolist() == ticks
    assert events["size_lots"].tolist() == lots[: len(ticks)]


def test_parquet_tables_are_read_by_their_types(tmp_path: Path) -> None:
    path = tmp_path / "ticks.parquet"
    frame = pl.DataFrame({
        "timestamp": [1_600_000_000_000_000, 1_600_000_000_000_001], "price": [1.5, 1.25], "size": [1, 2],
        "side": ["buy", None], "local_timestamp": [1_600_000_000_000_005, 1_600_000_000_000_009],
    })  # fmt: skip
    frame.write_parquet(path)
    mapping = sniff_mapping(path)
    assert mapping.receive == TimeMapping(column="local_timestamp", unit="us")
    (events,) = MappedSource([path], mapping, strict=True).blocks()
    assert (events["recv_ns"] - events["ts_ns"]).tolist() == [5_000, 8_000]
    assert events["side"].tolist() == [1, 0]


def arrow_trades(count: int) -> pl.DataFrame:
    times = np.arange(count) + 1_600_000_000 * 10**9
    sides = pl.Series(["buy"] * count, dtype=pl.Categorical)
    return pl.DataFrame({"ts_ns": times, "price": [1.25] * count, "qty": [2] * count, "side": sides})


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("compression", ["uncompressed", "lz4", "zstd"])
def test_arrow_tables_are_read_by_their_types(tmp_path: Path, stream: bool, compression: str) -> None:
    path = tmp_path / "ticks.arrow"
    frame = arrow_trades(9)
    (frame.write_ipc_stream if stream else frame.write_ipc)(path, compression=compression)
    mapping = sniff_mapping(path)
    assert (mapping.kind, mapping.price_increment) == ("trades", 0.01)
    events = np.concatenate(list(MappedSource([path], mapping).blocks(4)))
    assert events["ts_ns"].tolist() == frame["ts_ns"].to_list()
    assert (events["side"] == 1).all()
    assert (events["price_ticks"] == 125).all()


def test_a_damaged_arrow_file_is_read_or_refused(tmp_path: Path) -> None:
    path = tmp_path / "ticks.arrow"
    arrow_trades(99).write_ipc(path, compression="uncompressed")
    mapping, data = sniff_mapping(path), path.read_bytes()
    outcomes = set()
    for mutant in mutants(data, count=300, seed=8):
        path.write_bytes(mutant)
        outcomes.add(survives(lambda: MappedSource([path], mapping), path))
    assert outcomes == {True, False}


@pytest.mark.parametrize(
    "text",
    [
        "", "a\n1\n", "a,b\nx,y\n", "a,b,c\n1,2,3\n", "time;price;size\n2024-01-01T00:00:00Z;1,5,5;2\n",
        "time,open,high,low,close\n2024-01-01T00:00:00Z,1.5,1.6,1.4,1.5\n",
        "time,bid,spread\n2024-01-01T00:00:00Z,1.5,0.1\n", "PK\x03\x04,\0\0\n",
    ],
)  # fmt: skip
def test_what_holds_no_market_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "odd.csv"
    path.write_text(text)
    with pytest.raises(DataError, match=r"odd\.csv"):
        sniff_mapping(path)


@pytest.mark.parametrize(
    "change",
    ['kind = "bars"', "colour = 1", '[time]\ncolumn = "t"\nunit = "days"', '[columns]\nprice = "p"', "= 1"],
)
def test_a_mapping_that_nobody_understands_is_refused(tmp_path: Path, change: str) -> None:
    path = tmp_path / "mapping.toml"
    lines = TRADES.to_toml().splitlines()
    if change.startswith("["):
        lines = [line for line in lines if not line.startswith(change.splitlines()[0])]
        path.write_text("\n".join([*lines[:6], change]))
    else:
        path.write_text(
            "\n".join([change, *(line for line in lines if line.split()[:1] != change.split()[:1])])
        )
    with pytest.raises(ConfigError):
        load_mapping(path)


WRITTEN = {
    "a byte order mark, quotes and thousands": (
        b'\xef\xbb\xbf"Timestamp","Price","Size"\r\n"2023-11-14T22:13:20.5Z","1,234.50","1,000"\r\n'
    ),
    "decimal commas": b"Zeit;Preis;Menge\n14.11.2023 22:13:20,500;1234,50;1000\n",
    "decimal commas and points between thousands": (
        b"timestamp;price;size\n1700000000500;1.234,50;1.000\n1700000000501;1,25;1\n"
    ),
    "a date beside a clock": b"Date,Time,Price,Volume\n2023.11.14,22:13:20.500,1234.5,1000\n",
    "brackets and tabs": (
        b"<DATE>\t<TIME>\t<LAST>\t<PRICE>\t<SIZE>\n2023.11.14\t22:13:20.500\t\t1234.50\t1000\n"
    ),
    "noon by letters": b"date,price,size\n11/14/2023 10:13:20 PM,1234.50,1000\n",
    "a zone of its own": b"ts,price,qty\n2023-11-15 07:13:20.500+0900,1234.50,1000\n",
    "ids in front": b"26129,1234.50,1000,7,8,1700000000500,true\n26130,1234.75,3,9,9,1700000000501,true\n",
}


@pytest.mark.parametrize("written", WRITTEN)
def test_the_same_trade_is_read_however_it_is_written(tmp_path: Path, written: str) -> None:
    path = tmp_path / "odd.csv"
    path.write_bytes(WRITTEN[written])
    mapping = sniff_mapping(path)
    (tmp_path / "odd.toml").write_text(mapping.to_toml())
    assert load_mapping(tmp_path / "odd.toml") == mapping
    first = next(MappedSource([path], mapping).blocks())[0]
    instant = np.datetime64("2023-11-14T22:13:20.5", "ns").astype(np.int64)
    whole = written == "noon by letters"
    assert first["ts_ns"] == instant - whole * 500_000_000
    assert first["price_ticks"] * mapping.price_increment == pytest.approx(1234.5, rel=1e-12)
    assert first["size_lots"] * mapping.lot_size == 1000
    assert first["side"] == 0


def test_a_buyer_who_was_the_maker_was_sold_to(tmp_path: Path) -> None:
    path = tmp_path / "trades.csv"
    path.write_text("time,price,qty,is_buyer_maker\n1700000000123,1.5,2,true\n1700000000124,1.6,2,false\n")
    events = next(MappedSource([path], sniff_mapping(path)).blocks())
    assert events["side"].tolist() == [-1, 1]


def test_marks_in_numbers_must_stand_where_they_belong(tmp_path: Path) -> None:
    path = tmp_path / "trades.csv"
    path.write_text('ts,price,qty\n1700000000,"1,234.50",2\n1700000001,"1,23,4.50",2\n1700000002,12.5,2\n')
    source = MappedSource([path], sniff_mapping(path))
    assert next(source.blocks())["price_ticks"].tolist() == [12_345, 125]
    assert source.notes == ("1 rows were set aside",)


ISO_TEXTS = (
    "2023-11-14T22:13:20.123456789Z", "2023-11-14 22:13", "2023-11-14", "2023-11-14 22:13:20,5+09:00",
    "2023-03-12 02:30:00-0530", "2023-11-14 22:13:20.12345 UTC", "", "22:13:20", "2023-13-14 00:00:00",
    "2023-11-14T22:13:2+", "14.11.2023 22:13:20",
)  # fmt: skip


@pytest.mark.parametrize("zone", ["UTC", "America/New_York"])
def test_iso_texts_are_read_by_their_parts(zone: str) -> None:
    """As Python reads them, with the digits that it drops; and nothing else is taken for one."""
    found = read_times(pl.Series(ISO_TEXTS), "iso", time_zone=zone).dt.timestamp("ns").to_list()
    for text, ns in zip(ISO_TEXTS, found, strict=True):
        try:
            moment = datetime.fromisoformat(text.replace(" UTC", "Z"))
        except ValueError:
            assert ns is None
            continue
        moment = moment if moment.tzinfo else moment.replace(tzinfo=ZoneInfo(zone))
        digits = re.search(r"[.,](\d+)", text)
        fraction = int(digits[1].ljust(9, "0")) if digits else 0
        assert ns == int(moment.replace(microsecond=0).timestamp()) * 10**9 + fraction, text

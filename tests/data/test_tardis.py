"""Tardis CSV: messages, snapshots, exact numbers, several kinds merged."""

from __future__ import annotations

from pathlib import Path

import pytest
from feed_files import COMPRESSORS, joined, mutants, survives, told, write_lines

from data.errors import DataError
from data.importers import tardis
from data.quarantine import Quarantine
from data.schema import EventKind

CLEAR, LEVEL, TRADE, QUOTE = EventKind.CLEAR, EventKind.LEVEL, EventKind.TRADE, EventKind.QUOTE
T = 1_700_000_000_000_000
BOOK = [
    "exchange,symbol,timestamp,local_timestamp,is_snapshot,side,price,amount",
    f"deribit,BTC-PERPETUAL,{T},{T + 5},true,bid,7000.5,1000",
    f"deribit,BTC-PERPETUAL,{T},{T + 5},true,ask,7001,20",
    f"deribit,BTC-PERPETUAL,{T + 9},{T + 14},false,bid,7000.5,0",
    f"deribit,BTC-PERPETUAL,{T + 9},{T + 14},false,bid,7000,30",
    f"deribit,BTC-PERPETUAL,{T + 20},{T + 25},true,bid,6999,1",
]
TRADES = [
    "exchange,symbol,timestamp,local_timestamp,id,side,price,amount",
    f"deribit,BTC-PERPETUAL,{T + 9},{T + 12},1,buy,7001,10",
    f"deribit,BTC-PERPETUAL,{T + 19},{T + 22},2,unknown,7000,10",
]
QUOTES = [
    "exchange,symbol,timestamp,local_timestamp,ask_amount,ask_price,bid_price,bid_amount",
    f"deribit,BTC-PERPETUAL,{T},{T + 5},20,7001,7000.5,1000",
    f"deribit,BTC-PERPETUAL,{T + 1},{T + 6},,,7000.5,1000",
]


def test_a_book_file(tmp_path: Path) -> None:
    source = tardis.open_source([write_lines(tmp_path / "book.csv", BOOK)])
    assert source.instrument.price_increment == 0.1
    events = joined(source)
    assert told(events) == [
        (CLEAR, 0, 0, 0, 4),
        (LEVEL, 1, 70_005, 1000, 4),
        (LEVEL, -1, 70_010, 20, 5),
        (LEVEL, 1, 70_005, 0, 0),
        (LEVEL, 1, 70_000, 30, 1),
        (CLEAR, 0, 0, 0, 4),
        (LEVEL, 1, 69_990, 1, 5),
    ]
    assert (events["recv_ns"] - events["ts_ns"]).tolist() == [5_000] * 7
    check = tardis.verify([tmp_path / "book.csv"])
    assert (check.matched, check.total) == (3, 3)


@pytest.mark.parametrize("batch_rows", [1, 2, 3])
def test_a_snapshot_may_span_batches_and_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, batch_rows: int
) -> None:
    """Only the step from updates to a snapshot empties the book; a day's file begins with a snapshot."""
    whole = told(joined(tardis.open_source([write_lines(tmp_path / "book.csv", BOOK)])))
    monkeypatch.setattr(tardis, "_BATCH_ROWS", batch_rows)
    assert told(joined(tardis.open_source([tmp_path / "book.csv"]))) == whole
    late = f"deribit,BTC-PERPETUAL,{T + 40},{T + 45},true,bid,6998,2"
    later = f"deribit,BTC-PERPETUAL,{T + 50},{T + 55},false,bid,6998,0"
    paths = [
        write_lines(tmp_path / "day1.csv", [*BOOK, BOOK[3].replace(str(T + 9), str(T + 30))]),
        write_lines(tmp_path / "day2.csv", [BOOK[0], late, late.replace("6998,2", "6997,1"), later]),
    ]
    assert [event[:4] for event in told(joined(tardis.open_source(paths)))][-4:] == [
        (CLEAR, 0, 0, 0), (LEVEL, 1, 69_980, 2), (LEVEL, 1, 69_970, 1), (LEVEL, 1, 69_980, 0),
    ]  # fmt: skip


def test_kinds_are_merged_by_venue_time(tmp_path: Path) -> None:
    book = write_lines(tmp_path / "book.csv.gz", BOOK, COMPRESSORS[".gz"])
    trades = write_lines(tmp_path / "trades.csv.gz", TRADES, COMPRESSORS[".gz"])
    events = joined(tardis.open_source([trades, book]))
    kinds = [event[:3] for event in told(events)]
    assert kinds[3:7] == [(LEVEL, 1, 70_005), (LEVEL, 1, 70_000), (TRADE, 1, 70_010), (TRADE, 0, 70_000)]


def test_quotes_may_lack_a_side(tmp_path: Path) -> None:
    events = joined(tardis.open_source([write_lines(tmp_path / "quotes.csv", QUOTES)]))
    assert told(events) == [(QUOTE, 0, 70_005, 1000, 1), (QUOTE, 0, 70_005, 1000, 1)]
    assert events["order_id"].tolist() == [70_010 | 20 << 32, 0]


def test_one_symbol_of_several_must_be_named(tmp_path: Path) -> None:
    path = write_lines(
        tmp_path / "two.csv", [*TRADES, TRADES[1].replace("BTC", "ETH").replace("7001", "7001.05")]
    )
    with pytest.raises(DataError, match="was BTC-PERPETUAL, ETH-PERPETUAL"):
        tardis.open_source([path])
    source = tardis.open_source([path], symbol="BTC-PERPETUAL")
    assert len(joined(source)) == 2
    assert source.notes == ("1 rows of other symbols",)


def test_time_that_runs_backwards_is_raised_or_refused(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "late.csv", [TRADES[0], TRADES[2], TRADES[1]])
    source = tardis.open_source([path])
    assert (joined(source)["ts_ns"] == (T + 19) * 1_000).all()
    assert source.notes == ("1 trades times that ran backwards, raised to the time before",)
    with pytest.raises(DataError, match="row 1: time must not run backwards"):
        joined(tardis.open_source([path], strict=True))


@pytest.mark.parametrize(
    ("row", "rule"),
    [
        (
            f"deribit,BTC-PERPETUAL,{T + 30},{T + 30},false,bid,7000.05,1",
            "prices must be multiples",
        ),
        (f"deribit,BTC-PERPETUAL,{T + 30},{T + 30},false,up,7000,1", "side must be bid, ask"),
        (f"deribit,BTC-PERPETUAL,{T + 30},{T + 30},false,bid,,1", "prices must be multiples"),
        (
            f"deribit,BTC-PERPETUAL,{T + 30},{T + 30},false,bid,7000,-1",
            "sizes must be multiples of the lot size, from 0 up",
        ),
        (f"deribit,BTC-PERPETUAL,-1,{T + 30},false,bid,7000,1", "times must lie between 1970 and 2200"),
    ],
)
def test_a_bad_row_is_named(tmp_path: Path, row: str, rule: str) -> None:
    good = tardis.open_source([write_lines(tmp_path / "good.csv", BOOK)]).instrument
    path = write_lines(tmp_path / "bad.csv", [*BOOK, row])
    with pytest.raises(DataError, match=rule) as caught:
        joined(tardis.open_source([path], instrument=good, strict=True))
    assert caught.value.row == len(BOOK) - 1
    source = tardis.open_source([path], instrument=good)
    source.quarantine = Quarantine()
    assert len(joined(source)) == len(BOOK) + 1
    ((told_rule, count),) = source.quarantine.counts.items()
    assert told_rule.startswith(rule)
    assert count == 1


def test_other_tables_are_refused(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "other.csv", ["a,b", "1,2"])
    with pytest.raises(DataError, match="expected the columns of incremental_book_L2"):
        tardis.open_source([path])


def test_damaged_files_are_read_or_refused(tmp_path: Path) -> None:
    data = "".join(f"{row}\n" for row in BOOK).encode()
    path = tmp_path / "mutant.csv"
    outcomes = set()
    for mutant in mutants(data, count=300, seed=9):
        path.write_bytes(mutant)
        outcomes.add(survives(lambda: tardis.open_source([path]), path))
    assert outcomes == {True, False}

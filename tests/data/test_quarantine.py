"""Rows that importers reject: in the side file with file, row, rule and raw text, and in the report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

pytest.importorskip("msgspec")

from feed_files import BASE_MS, depth, stamped, write_lines

from data.import_job import ImportOptions, import_events
from data.importers import importer
from data.quarantine import LeftOut, Quarantine
from data.store import TickStore

SNAPSHOT = {"lastUpdateId": 10, "bids": [["1.0", "2"]], "asks": [["1.2", "2"]]}


def order(ms: int, what: str, number: int, amount: str, price: str = "10.20") -> str:
    record = {"price": price, "amount": amount, "datetime": "1", "id": number, "order_type": 0}
    return f"{BASE_MS + ms} order_{what} {json.dumps(record)}"


def trade(ms: int, **changed: Any) -> str:
    message = {
        "e": "trade",
        "E": BASE_MS + ms,
        "T": BASE_MS + ms,
        "s": "BTCUSDT",
        "p": "1.1",
        "q": "1",
        "m": True,
    }
    return stamped(message | changed, ms)


def coinbase(ms: int, **message: Any) -> str:
    told = {"product_id": "BTC-USD", "time": "2023-11-14T22:13:20.000001Z", **message}
    return f"{(BASE_MS + ms) / 1000}: {json.dumps(told)}"


def kraken(ms: int, payload: Any, pair: str = "XBT/USD") -> str:
    return f"{(BASE_MS + ms) / 1000}: {json.dumps([1, payload, 'book-10', pair])}"


def level(price: str, ms: int) -> list[str]:
    return [price, "1.000", f"{(BASE_MS + ms) / 1000:.6f}"]


T = BASE_MS * 1_000
TARDIS = "deribit,BTC-PERP,{0},{0},{1}"

# Format, lines, and the rejected rows with the beginning of their rules.
CASES: list[tuple[str, list[str], list[tuple[int, str]]]] = [
    (
        "binance",
        [
            depth(5, 9, [("1.0", "3")], ms=1),
            stamped(SNAPSHOT, 2),
            depth(11, 12, [("1.0", "3")], ms=3),
            depth(11, 12, [("1.0", "3")], ms=4),
            trade(5),
            trade(6, X="INSURANCE_FUND"),
        ],
        [
            (0, "a depth update must be newer"),
            (3, "a depth update must not end"),
            (5, "a trade must be of type"),
        ],
    ),
    (
        "bitstamp",
        [
            order(0, "created", 50, "2.0"),
            order(1, "created", 50, "2.0"),
            order(2, "changed", 50, "3.0"),
            order(3, "changed", 70, "1.0"),
        ],
        [
            (1, "an order must be created once"),
            (2, "a change must lower"),
            (3, "an order that changes or ends"),
        ],
    ),
    (
        "kraken",
        [
            kraken(0, {"a": [level("11.0", 0)]}),
            kraken(1, {"as": [level("11.0", 1)], "bs": [level("10.0", 1)]}),
            kraken(2, {"a": [level("9999999999.0", 2)]}),
        ],
        [(0, "an update must come after"), (2, "price must be at most")],
    ),
    (
        "coinbase",
        [
            coinbase(0, type="l2update", changes=[["buy", "10.0", "1"]]),
            coinbase(1, type="snapshot", bids=[["10.0", "1"]], asks=[["11.0", "1"]]),
            coinbase(2, type="l2update", changes=[["buy", "10.0", "0"]]),
        ],
        [(0, "an update must come after")],
    ),
    (
        "tardis",
        [
            "exchange,symbol,timestamp,local_timestamp,is_snapshot,side,price,amount",
            TARDIS.format(T, "true,bid,7000.5,1000"),
            TARDIS.format(T + 1, "maybe,bid,7000.5,1000"),
            TARDIS.format(T + 2, "false,bid,seven,1000"),
            TARDIS.format(T + 3, "false,bid,7000.5,"),
            TARDIS.format(T + 4, "false,bid,7000.5,0"),
        ],
        [(1, "is_snapshot must be"), (2, "prices must be multiples"), (3, "sizes must be multiples")],
    ),
]


@pytest.mark.parametrize(("name", "rows", "rejected"), CASES, ids=[case[0] for case in CASES])
def test_rejected_rows_go_to_the_side_file_and_are_counted(
    tmp_path: Path, name: str, rows: list[str], rejected: list[tuple[int, str]]
) -> None:
    suffix = ".csv" if name == "tardis" else ".txt"
    path = write_lines(tmp_path / f"feed{suffix}", rows)
    source = importer(name).open_source([path])
    result = import_events(
        TickStore(tmp_path / "store"), source, paths=[path], options=ImportOptions(venue="V")
    )
    assert result.quarantine is not None
    side_file = pl.read_parquet(result.quarantine)
    assert side_file["file"].unique().to_list() == [str(path)]
    for (row, rule, raw), (wanted_row, wanted_rule) in zip(
        side_file.sort("row").select("row", "rule", "raw").iter_rows(), rejected, strict=True
    ):
        assert row == wanted_row
        assert rule.startswith(wanted_rule)
        assert json.loads(raw)
    assert result.report is not None
    assert result.report.count("quarantined") == len(rejected)
    assert sum(result.report.quarantined.values()) == len(rejected)


def test_raw_lines_are_kept_whole(tmp_path: Path) -> None:
    with Quarantine(tmp_path / "q.parquet") as quarantine:
        left = LeftOut(quarantine)
        left.at("feed.txt", 7, b"caf\xe9 " + b"x" * 100_000)
        left.reject("a rule")
        left.pass_over("messages of others", 3)
        left.pass_over("nothing", 0)
    (row,) = pl.read_parquet(tmp_path / "q.parquet").iter_rows(named=True)
    assert row == {"file": "feed.txt", "row": 7, "rule": "a rule", "raw": row["raw"]}
    assert json.loads(row["raw"]) == {"line": "caf\\xe9 " + "x" * 100_000}
    assert left.notes() == ("3 messages of others", "1 rows rejected: a rule")
    assert left.first == "feed.txt:row 7: a rule"

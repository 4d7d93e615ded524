"""One damaged row of a CSV costs itself, whatever became of it; the rows behind it keep their numbers."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from feed_files import joined
from test_tardis import BOOK, T

from data.columns import PRICE_TICKS_MAX
from data.errors import DataError
from data.importers import tardis
from data.importers.grid import without_wild
from data.importers.text_lines import lines
from data.mapped_source import MappedSource
from data.quarantine import Quarantine
from data.sniff import sniff_mapping
from data.text_stream import TextStream, is_quoted

ROWS = 400
DAMAGE: dict[str, Callable[[bytes, random.Random], bytes]] = {
    "cut": lambda row, draw: row[: draw.randrange(1, row.rindex(b","))],
    "run together": lambda row, draw: row + row,
    "zeros": lambda row, draw: bytes(len(row)),
    "a quotation mark": lambda row, draw: row.replace(b",", b',"', 1),
    "no UTF-8": lambda row, draw: row.replace(b",", b",\xff\xfe", 1),
    "no UTF-8, cut": lambda row, draw: b"\xff" + row[:9],
    "a huge number": lambda row, draw: row[: row.rindex(b",") + 1] + b"9" * 400,
}


def book() -> list[bytes]:
    """Rows whose second cell no row must have otherwise, and whose last is a number."""
    rows = [
        f"deribit,{T + at},{T + at + 5},BTC,false,{'bid' if at % 2 else 'ask'},{7_000 + at % 9},{at % 7}"
        for at in range(ROWS)
    ]
    names = BOOK[0].split(",")
    header = ",".join([names[0], *names[2:4], names[1], *names[4:]])
    return [line.encode() for line in (header, *rows)]


def trades() -> list[bytes]:
    rows = [f"{at},{1_700_000_000_000 + at},{100 + at % 9},{1 + at % 7}" for at in range(ROWS)]
    return [line.encode() for line in ("id,timestamp_ms,price,size", *rows)]


TABLES: dict[str, tuple[Callable[[], list[bytes]], Callable[..., Any]]] = {
    "tardis": (book, lambda path, strict: tardis.open_source([path], strict=strict)),
    "mapped": (trades, lambda path, strict: MappedSource([path], sniff_mapping(path), strict=strict)),
}


def written(path: Path, rows: list[bytes]) -> Path:
    path.write_bytes(b"\n".join(rows) + b"\n")
    return path


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_row_costs_itself(tmp_path: Path, table: str, damage: str) -> None:
    make, open_table = TABLES[table]
    whole = joined(open_table(written(tmp_path / "whole.csv", make()), False))
    for seed in range(3):
        draw, rows = random.Random(seed), make()
        # The last row too: a recorder that was killed leaves one so.
        at = draw.randrange(ROWS) if seed else ROWS - 1
        rows[1 + at] = DAMAGE[damage](rows[1 + at], draw)
        path = written(tmp_path / "damaged.csv", rows)
        source = open_table(path, False)
        with Quarantine(tmp_path / "side.parquet") as source.quarantine:
            events = joined(source)
        names = [name for name in events.dtype.names or () if name != "seq" or table == "tardis"]
        assert (events[names] == np.delete(whole, at)[names]).all()
        side = pl.read_parquet(tmp_path / "side.parquet")
        assert side.select("file", "row").rows() == [(str(path), at)]
        with pytest.raises(DataError, match=f"damaged.csv:row {at}: "):
            joined(open_table(path, True))


@pytest.mark.parametrize("table", TABLES)
def test_more_than_a_hundredth_refuses_the_file(tmp_path: Path, table: str) -> None:
    make, open_table = TABLES[table]
    rows = make()
    rows[50:60] = [row[:9] for row in rows[50:60]]
    with pytest.raises(DataError, match=r"damaged.csv:row 49: at most 0.01 of the lines may be damaged, was"):
        joined(open_table(written(tmp_path / "damaged.csv", rows), False))


@pytest.mark.parametrize("table", TABLES)
def test_rows_that_are_all_damaged_are_refused_in_bounded_memory(tmp_path: Path, table: str) -> None:
    make, open_table = TABLES[table]
    rows = [*make()[:3], *[b"x" * 5_000] * 4_000]
    with pytest.raises(DataError, match=r"damaged.csv(:row \d+)?: "):
        joined(open_table(written(tmp_path / "damaged.csv", rows), False))


def test_a_table_that_quotes_its_cells_is_read_so(tmp_path: Path) -> None:
    quoted = [b'"id","timestamp_ms","price","size"']
    quoted += [b",".join(b'"%s"' % cell for cell in row.split(b",")) for row in trades()[1:]]
    path = written(tmp_path / "quoted.csv", quoted)
    assert is_quoted(path)
    plain = written(tmp_path / "plain.csv", trades())
    assert (
        joined(TABLES["mapped"][1](path, True)).tobytes()
        == joined(TABLES["mapped"][1](plain, True)).tobytes()
    )


def test_any_bytes_come_as_utf_8_and_no_more_than_asked_for(tmp_path: Path) -> None:
    data = "prix à 5 €\n".encode() * 3 + b"\xff\xfe\x80 tail \xe2\x82"
    path = tmp_path / "x.txt"
    path.write_bytes(data)
    expected = data.decode("utf-8", "backslashreplace").encode()
    for size in (1, 2, 3, 7, 1_000):
        with TextStream(path) as stream:
            pieces = list(iter(lambda stream=stream, size=size: stream.read(size), b""))
        assert b"".join(pieces) == expected
        assert max(map(len, pieces)) <= size
    with TextStream(path) as stream:
        assert stream.read() + stream.read() == expected


def test_a_byte_order_mark_is_no_part_of_a_line(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_bytes(b"\xef\xbb\xbf{}\n\xef\xbb\xbf1\n")
    assert list(lines(path)) == [(0, b"{}"), (1, b"\xef\xbb\xbf1")]


@pytest.mark.parametrize("wild", ["9" * 400, "618002.123456789012", "1" + "0" * 17, "0." + "1" * 30])
def test_a_damaged_number_does_not_choose_the_grid(wild: str) -> None:
    usual = [f"{61_800 + at % 50}.{at % 90:02}" for at in range(1_000)]
    assert without_wild([*usual, wild], most=PRICE_TICKS_MAX // 2) == usual
    # Too many for damage, and what fits: as they are.
    assert without_wild([*usual, *[wild] * 11], most=PRICE_TICKS_MAX // 2)[-1] == wild
    assert without_wild([*usual, "61800.123"], most=PRICE_TICKS_MAX // 2)[-1] == "61800.123"
    assert without_wild([wild], most=PRICE_TICKS_MAX) == [wild]
    assert without_wild([], most=1) == []

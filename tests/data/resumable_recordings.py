"""A recording of several files of every format that an import can enter again, in blocks of a few rows."""

from __future__ import annotations

import importlib.util
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from feed_files import write_lines
from itch_day import ItchDay, framed
from sse_day import SseDay
from test_dukascopy import hour
from test_hftbacktest import BOTH, save
from test_lean import ask, bid, zipped
from test_tardis import BOOK

from data.events import EventSource
from data.importers import databento, dbn_records, dukascopy, hftbacktest, hftbacktest_rows, importer, lean
from data.importers import tardis as tardis_module
from data.importers.hftbacktest_rows import (
    ADD_ORDER,
    BUY,
    CANCEL_ORDER,
    DEPTH,
    DEPTH_BBO,
    DEPTH_CLEAR,
    MODIFY_ORDER,
    ROW_DTYPE,
    SELL,
)  # fmt: skip
from data.instrument import Instrument
from data.mapped_source import MappedSource
from data.sniff import sniff_mapping

Opener = Callable[[], Any]


@dataclass(frozen=True, kw_only=True)
class Recording:
    """How a recording is made and opened.

    Parameters
    ----------
    write : callable
        Makes the files in a folder and returns what opens them.
    constants : tuple of (module, name, int)
        Sizes to make small, so that a few rows are several blocks.
    """

    write: Callable[[Path], Opener]
    constants: tuple[tuple[Any, str, int], ...] = ()

    def opened_small(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch, *, block_events: int = 40
    ) -> Opener:
        """Write the files and return what opens them as a source of blocks of a few events."""
        for module, name, value in self.constants:
            monkeypatch.setattr(module, name, value)
        folder.mkdir(exist_ok=True)
        open_source = self.write(folder)

        def small() -> EventSource:
            source = open_source()
            kind = type(source)

            def marked_blocks(self: Any, place: dict[str, Any] | None = None) -> Any:
                self.entered = place
                return kind.marked_blocks(self, place, block_events=block_events)

            source.__class__ = type(kind.__name__, (kind,), {"marked_blocks": marked_blocks, "entered": None})
            return source  # type: ignore[no-any-return]

        return small


def _itch(folder: Path) -> Opener:
    for number in range(4):
        data = framed(ItchDay(seed=number, symbols=3, messages=260).messages)
        (folder / f"0{number + 1}012019.NASDAQ_ITCH50").write_bytes(data)
    return lambda: importer("itch").open_source(sorted(folder.iterdir()), symbol="T0001")


def _sse(folder: Path) -> Opener:
    for number in range(4):
        write_lines(folder / f"600000_2023020{number + 6}.log", SseDay(seed=number, orders=60).lines())
    return lambda: importer("sse").open_source(sorted(folder.iterdir()))


def _lean(folder: Path) -> Opener:
    for day in (7, 8, 9, 10):
        quotes = [bid(ms, 20_000 + ms % 7) if ms % 3 else ask(ms, 20_010 + ms % 5) for ms in range(1, 150)]
        trades = [f"{ms},20005,100,P,0,0" for ms in range(1, 90)]
        for kind, rows in (("quote", quotes), ("trade", trades)):
            name = f"201310{day:02}_ibm_tick_{kind}.csv"
            zipped(folder, f"201310{day:02}_{kind}.zip", rows, name)
    return lambda: lean.open_source(sorted(folder.iterdir()))


def _dukascopy(folder: Path) -> Opener:
    for number in range(9):
        rows = [(at * 1_000, 138_651 + at % 9, 138_645 + at % 4, 1.5, 2.25) for at in range(number * 7)]
        if rows:
            hour(folder, rows, f"EURUSD/2014/04/0{number // 3 + 1}/{10 + number}h_ticks.bi5")
        else:
            path = hour(folder, [(0, 2, 1, 1.0, 1.0)], "EURUSD/2014/04/01/09h_ticks.bi5")
            path.write_bytes(b"")
    return lambda: dukascopy.open_source([folder])


def _hftbacktest(folder: Path) -> Opener:
    draw = random.Random(5)
    at, orders = 10**15, list(range(1, 40))
    kinds = [DEPTH, DEPTH, DEPTH_BBO, ADD_ORDER, CANCEL_ORDER, MODIFY_ORDER, DEPTH_CLEAR]
    for number in range(2):
        rows = np.zeros(900, ROW_DTYPE)
        for place in range(len(rows)):
            at += draw.randrange(-1, 4) * 10**10
            kind, side = draw.choice(kinds), draw.choice((BUY, SELL))
            price = 100.0 + draw.randrange(90) / 10
            rows[place] = (BOTH | side | kind, at, at + 5, price, draw.randrange(9) / 1_000,
                           draw.choice(orders), 0, 0.0)  # fmt: skip
        save(folder / f"btc-{number}.npz", rows)
    instrument = Instrument(symbol="BTC", price_increment=0.1, lot_size=0.001)
    return lambda: hftbacktest.open_source(sorted(folder.iterdir()), instrument=instrument)


def _tardis(folder: Path) -> Opener:
    draw, at = random.Random(3), 1_700_000_000_000_000
    for number in range(2):
        rows = [BOOK[0]]
        for _ in range(400):
            at += draw.randrange(-1, 9)
            is_snapshot, side = str(draw.random() < 0.2).lower(), draw.choice(("bid", "ask"))
            symbol = "ETH" if draw.random() < 0.1 else "BTC"
            rows.append(f"deribit,{symbol},{at},{at + 5 - at % 3},{is_snapshot},{side},"
                        f"{7_000 + draw.randrange(50) / 2},{draw.randrange(99)}")  # fmt: skip
        write_lines(folder / f"book-{number}.csv", rows[:200] + [rows[200][:30]] * number + rows[200:])
    return lambda: tardis_module.open_source(sorted(folder.iterdir()), symbol="BTC")


def _mapped(folder: Path, suffix: str) -> Opener:
    at = 1_700_000_000 * 10**9
    for number in range(2):
        rows = [
            "ts_ns,symbol,price,size",
            *(f"{at + 10**11 * row},X,{1 + row % 5},{1 + row % 9}" for row in range(500)),
        ]
        at += 10**11 * 500
        cut = ["17,X"] * (number and suffix == "csv")
        path = write_lines(folder / f"trades-{number}.csv", [*rows[:7], "", *rows[7:250], *cut, *rows[250:]])
        if suffix == "parquet":
            import polars as pl

            pl.read_csv(path).drop_nulls().write_parquet(path.with_suffix(".parquet"), row_group_size=70)
            path.unlink()
    paths = sorted(folder.iterdir())
    return lambda: MappedSource(paths, sniff_mapping(paths[0]))


def _dbn(folder: Path, schema: str) -> Opener:
    import databento_dbn
    from test_databento import LAST, START, TICK, mbo, metadata, priced

    draw, at, row = random.Random(schema), START, 0
    kind: Any = {"mbo": databento_dbn.Schema.MBO, "mbp-10": databento_dbn.Schema.MBP_10}.get(schema)
    for number in range(3):
        parts = []
        for _ in range(14):
            count = draw.randrange(1, 40)
            if schema == "mbp-10" or (schema == "mixed" and draw.random() < 0.5):
                records = priced(dbn_records.MBP10_DTYPE, 0x0A, *[("A", "B", 400, 1)] * count)
                for record in records:
                    record["action"] = draw.choice("AACRT")
                    depth = draw.randrange(3)
                    record["levels"]["bid_px"][:depth] = [(400 - level) * TICK for level in range(depth)]
                    record["levels"]["bid_sz"][:depth] = draw.randrange(1, 5)
            else:
                rows = [
                    (
                        draw.choice("AAAACCMMTFN"),
                        draw.choice("BA"),
                        *map(draw.randrange, (1, 390, 1), (30, 410, 9)),
                        0,
                    )
                    for _ in range(count)
                ]
                if draw.random() < 0.5:
                    rows[draw.randrange(count)] = ("R", "N", 0, 0, 0, 0)
                records = mbo(*rows)
            records["ts_event"] = at + 10**11 * np.arange(count) - draw.randrange(2) * 10**12
            records["ts_recv"] = records["ts_event"] + 500
            records["instrument_id"] = np.array([draw.choice((7, 7, 7, 8)) for _ in range(count)])
            records["flags"] = [LAST * (draw.random() < 0.6) for _ in range(count)]
            at, row = at + 10**11 * count, row + count
            parts.append(records.tobytes())
        data = metadata(kind) + b"".join(parts)
        (folder / f"day-{number}.dbn").write_bytes(data)
    return lambda: databento.open_source(sorted(folder.iterdir()), symbol="7")


RECORDINGS: dict[str, Recording] = {
    "itch": Recording(write=_itch),
    "sse": Recording(write=_sse),
    "lean": Recording(write=_lean),
    "dukascopy": Recording(write=_dukascopy),
    "hftbacktest": Recording(write=_hftbacktest, constants=((hftbacktest_rows, "_ROWS", 32),)),
    "tardis": Recording(write=_tardis, constants=((tardis_module, "_BATCH_ROWS", 32),)),
    "csv": Recording(write=lambda folder: _mapped(folder, "csv")),
    "parquet": Recording(write=lambda folder: _mapped(folder, "parquet")),
}
if importlib.util.find_spec("databento_dbn") is not None:
    _SMALL = ((dbn_records, "_READ_BYTES", 2_000), (databento, "_CLEARS_APART", 8))
    RECORDINGS |= {
        f"dbn-{schema}": Recording(write=lambda folder, schema=schema: _dbn(folder, schema), constants=_SMALL)  # type: ignore[misc]
        for schema in ("mbo", "mbp-10", "mixed")
    }

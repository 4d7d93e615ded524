"""One small valid recording of every format that is read, made up here, and how it is read.

A recording is `parts` (plain contents by name) and a way to pack them into the files that a user has.
A mutator may damage either: a flipped byte in a gzip is caught by the gzip, in its contents by us.
"""

from __future__ import annotations

import bz2
import gzip
import importlib.util
import io
import lzma
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from itch_day import ItchDay, framed, mold_packet, pcap
from lobster_day import Day
from sse_day import SseDay

from data.errors import CheckFailed
from data.events import EventSource, open_events
from data.importers import importer
from data.instrument import Instrument
from data.lobster_verify import verify_lobster
from data.mapped_source import MappedSource
from data.schema import EVENT_DTYPE
from data.sniff import sniff_mapping
from data.store import TickStore

Files = dict[str, bytes]


def _as_they_are(parts: Files) -> Files:
    return parts


@dataclass(frozen=True, kw_only=True)
class Sample:
    """A valid recording of one format.

    Parameters
    ----------
    parts : callable
        Returns plain contents by name.
    pack : callable
        Contents by name to files by name.
    open : callable
        Opens the files' paths, in order of name, as an event source.
    verify : callable, optional
        Compares the files with the truth they carry.
    needs : str
        An optional library.
    """

    name: str
    parts: Callable[[], Files]
    open: Callable[[Sequence[Path]], EventSource]
    pack: Callable[[Files], Files] = _as_they_are
    verify: Callable[[Sequence[Path]], Any] | None = None
    needs: str = "numpy"

    @property
    def readable(self) -> bool:
        return importlib.util.find_spec(self.needs) is not None


SAMPLES: dict[str, Sample] = {}


def _add(name: str, *, parts: Callable[[], Files], **fields: Any) -> None:
    SAMPLES[name] = Sample(name=name, parts=cache(parts), **fields)


def _zip(name: str) -> Callable[[Files], Files]:
    def pack(parts: Files) -> Files:
        target = io.BytesIO()
        with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
            for member, content in parts.items():
                archive.writestr(member, content)
        return {name: target.getvalue()}

    return pack


def _each(suffix: str, compress: Callable[[bytes], bytes]) -> Callable[[Files], Files]:
    return lambda parts: {name + suffix: compress(content) for name, content in parts.items()}


def zstd(data: bytes) -> bytes:
    return bytes(pa.compress(data, "zstd", asbytes=True))


def _imported(format: str, **options: Any) -> dict[str, Any]:
    return {
        "open": lambda paths: importer(format).open_source(paths, **options),
        "verify": lambda paths: importer(format).verify(paths),
    }


def _text(rows: Sequence[str]) -> bytes:
    return "".join(f"{row}\n" for row in rows).encode()


# Order logs and messages.

_ITCH_NAME = "01302019.NASDAQ_ITCH50"


def _itch_messages() -> list[bytes]:
    return ItchDay(seed=1, symbols=4, messages=400).messages


def _itch_capture() -> Files:
    messages = _itch_messages()
    packets = [
        (1_548_835_200_000_000_000 + at, mold_packet(b"000010059B", 1 + at, messages[at : at + 7]))
        for at in range(0, len(messages), 7)
    ]
    return {_ITCH_NAME + ".pcap": pcap(packets)}


_ITCH = _imported("itch", symbol="T0001")
_add("itch", parts=lambda: {_ITCH_NAME: framed(_itch_messages())}, **_ITCH)
_add(
    "itch-gz", parts=lambda: {_ITCH_NAME: framed(_itch_messages())}, pack=_each(".gz", gzip.compress), **_ITCH
)
_add("itch-zip", parts=lambda: {"day.bin": framed(_itch_messages())}, pack=_zip(_ITCH_NAME + ".zip"), **_ITCH)
_add("itch-pcap", parts=_itch_capture, **_ITCH)
_add("sse-xz", parts=lambda: {"600000_20230207.log": _text(SseDay(seed=1, orders=80).lines())},
     pack=_each(".xz", lzma.compress), **_imported("sse"))  # fmt: skip


def _lobster() -> Files:
    day = Day(seed=1, levels=3, rows=150)
    message, book = day.names()
    return {message: _text(day.messages), book: _text(day.books)}


_LOBSTER = {"open": lambda paths: open_events(paths[0], format="lobster"),
            "verify": lambda paths: verify_lobster(paths[0])}  # fmt: skip
_add("lobster", parts=_lobster, **_LOBSTER)
_add("lobster-zip", parts=_lobster, pack=_zip("TEST_2012-06-21_3.zip"), **_LOBSTER)


def _dbn() -> Files:
    import databento_dbn as dbn
    from test_databento import ORDERS, metadata

    return {"x.dbn": metadata(dbn.Schema.MBO) + ORDERS.tobytes()}


_DBN = {**_imported("databento"), "needs": "databento_dbn"}
_add("databento", parts=_dbn, **_DBN)
_add("databento-zst", parts=_dbn, pack=_each(".zst", zstd), **_DBN)


# Websocket dumps and logs of lines.


def _rows_of(module: str, rows: str) -> Callable[[], list[str]]:
    def made() -> list[str]:
        # The rows that the importer's own tests begin with.
        found = getattr(__import__(module), rows)
        return list(found() if callable(found) else found)

    return made


def _add_lines(name: str, file: str, rows: Callable[[], list[str]], **fields: Any) -> None:
    _add(name, parts=lambda: {file: _text(rows())}, **fields)


_MSGSPEC = {"needs": "msgspec"}
_add_lines("binance", "spot.jsonl", _rows_of("test_binance", "SPOT"), **_imported("binance"), **_MSGSPEC)
_add_lines("binance-xz", "spot.jsonl", _rows_of("test_binance", "SPOT"), pack=_each(".xz", lzma.compress),
           **_imported("binance"), **_MSGSPEC)  # fmt: skip
_add_lines("bitstamp", "day.log", _rows_of("test_bitstamp", "LOG"), **_imported("bitstamp"), **_MSGSPEC)
_add_lines("coinbase", "feed.ws", _rows_of("test_coinbase", "DUMP"),
           **_imported("coinbase", symbol="SKL-USD"), **_MSGSPEC)  # fmt: skip
_add_lines("coinbase-full", "full.ws", _rows_of("test_coinbase", "FULL"), **_imported("coinbase"), **_MSGSPEC)
_add_lines("kraken-bz2", "feed.ws", _rows_of("test_kraken", "recording"), pack=_each(".bz2", bz2.compress),
           **_imported("kraken"), **_MSGSPEC)  # fmt: skip
_add_lines("tardis", "book.csv", _rows_of("test_tardis", "BOOK"), **_imported("tardis"))
_add_lines("tardis-zst", "trades.csv", _rows_of("test_tardis", "TRADES"), pack=_each(".zst", zstd),
           **_imported("tardis"))  # fmt: skip


_add_lines(
    "json_streams", "feed.jsonl", _rows_of("test_json_streams", "FEED"), **_imported("jsonl"), **_MSGSPEC
)


# Tables.


def _hour() -> Files:
    from test_dukascopy import HOUR, HOUR_NAME

    return {HOUR_NAME: HOUR}


_add("dukascopy", parts=_hour, **_imported("dukascopy"),
     pack=_each("", lambda data: lzma.compress(data, lzma.FORMAT_ALONE)))  # fmt: skip


def _lean() -> Files:
    rows = [f"{ms},{20_000 + ms % 7},100,{20_010 + ms % 5},300,N,1,0\r\n" for ms in range(1, 60)]
    return {"20131007_ibm_tick_quote.csv": "".join(rows).encode()}


_add("lean", parts=_lean, pack=_zip("ibm_quote.zip"), **_imported("lean"))


def _lean_bars() -> Files:
    side = "{0}.1,{0}.2,{0}.0,{0}.15,{1}"
    rows = [f"{ms * 1_000},{side.format(100 + ms % 5, ms)},{side.format(106, 3)}\n" for ms in range(1, 60)]
    return {"20131007_es_minute_quote_201312.csv": "".join(rows).encode()}


_add("lean-bars", parts=_lean_bars, pack=_zip("es_quote.zip"), **_imported("lean"))


def _npz() -> Files:
    from test_hftbacktest import ROWS

    target = io.BytesIO()
    np.save(target, ROWS)
    return {"data.npy": target.getvalue()}


_add("hftbacktest", parts=_npz, pack=_zip("btc.npz"),
     **_imported("hftbacktest",
                 instrument=Instrument(symbol="BTC", price_increment=0.1, lot_size=0.001)))  # fmt: skip


def _quotes() -> list[str]:
    return ["ts_ns,bid,ask", *(f"{10**15 + 10**6 * at},{1 + at % 5},{7 + at % 3}" for at in range(60))]


def _trades() -> list[str]:
    return ["ts_ns,price,size", *(f"{10**15 + 10**6 * at},{1 + at % 5},{1 + at % 9}" for at in range(60))]


def _parquet() -> Files:
    steps = np.arange(3_000)
    table = pa.table({"ts_ns": 10**15 + steps, "bid": 1.0 + steps % 5, "ask": 7.0 + steps % 3})
    target = io.BytesIO()
    pq.write_table(table, target, row_group_size=1_000)
    return {"quotes.parquet": target.getvalue()}


def _array() -> Files:
    events = np.zeros(300, EVENT_DTYPE)
    events["ts_ns"], events["kind"], events["side"] = 10**15 + np.arange(300), 5, 1
    target = io.BytesIO()
    np.save(target, events)
    return {"events.npy": target.getvalue()}


_EVENTS = {"open": lambda paths: open_events(paths[0])}
_add_lines("quotes", "quotes.csv", _quotes, **_EVENTS)
_add_lines("quotes-gz", "quotes.csv", _quotes, pack=_each(".gz", gzip.compress), **_EVENTS)
_add("quotes-parquet", parts=_parquet, **_EVENTS)
_add_lines("trades", "trades.csv", _trades, **_EVENTS)
_add("events", parts=_array, **_EVENTS)


def _arrow() -> Files:
    from test_mapping import arrow_trades

    target = io.BytesIO()
    arrow_trades(300).write_ipc(target, compression="zstd")
    return {"trades.arrow": target.getvalue()}


_MAPPED = {"open": lambda paths: MappedSource(paths, sniff_mapping(paths[0]))}
_add_lines("table", "anything.csv", _trades, **_MAPPED)
_add("table-arrow", parts=_arrow, **_MAPPED)


def _written() -> list[str]:
    rows = (f"14.11.2023;22:13:{at:02},5;1.23{at % 10},{at:02};0,{at + 1}" for at in range(60))
    return ["Datum;Zeit;Preis;Menge", *rows]


_add_lines("table-comma", "preise.csv", _written, **_MAPPED)


# Our own.


def _store() -> Files:
    """A store of two instruments with its cache, file by file."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        store = TickStore(folder)
        for symbol in ("A", "B"):
            events = np.zeros(2_000, EVENT_DTYPE)
            events["ts_ns"], events["kind"] = 10**15 + 10**9 * np.arange(2_000), 5
            events["order_id"] = np.random.default_rng(1).integers(0, 2**63, 2_000)
            store.write([events], instrument=Instrument(symbol=symbol), venue="V")
        store.build_cache()
        paths = [path for path in sorted(Path(folder).rglob("*")) if path.is_file() and path.stat().st_size]
        return {f"ticks/{path.relative_to(folder)}": path.read_bytes() for path in paths}


def _opened_store(paths: Sequence[Path]) -> EventSource:
    # Named, so that both of its instruments are there to be damaged.
    root = next(parent for parent in paths[0].parents if parent.name == "ticks")
    return open_events(root, format="store", instrument=TickStore(root).instrument("A"))


def _verified_store(paths: Sequence[Path]) -> None:
    report = TickStore(next(parent for parent in paths[0].parents if parent.name == "ticks")).check()
    if report.damage:
        raise CheckFailed("; ".join(report.damage))


_add("store", parts=_store, open=_opened_store, verify=_verified_store)

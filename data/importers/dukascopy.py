"""Dukascopy's hourly tick files (``.bi5``), raw or as a tree of folders, and its CSV exports, as quotes.

``docs/importers/DUKASCOPY.md`` has clocks, units and the path conventions; `dukascopy_files` reads one hour.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from decimal import Decimal
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ..columns import LOT_RULE, PRICE_TICKS_MAX, SINGLE_LOTS_MAX, SIZE_RULE, JudgedLots, infer_lot_size
from ..errors import ConfigError, DataError
from ..events import EventSource
from ..instrument import Instrument
from ..mapped_source import MappedSource
from ..quarantine import LeftOut, Quarantine
from ..resumable import Marked, PiecewiseSource, Place
from ..schema import EVENT_DTYPE, QUOTE_DTYPE, RECV_NOT_RECORDED, EventFlag, EventKind
from ..sniff import sniff_mapping
from ..table_file import CSV_SUFFIXES, files_sha256
from . import Verification
from .dukascopy_files import HourFile, hour_file
from .event_columns import SEQ_MASK
from .grid import CURRENCY_HOURS, OffGrid, on_a_fitting_grid

CLOCK_RULE: Final = "times must lie within the hour and not run backwards"
PRICE_RULE: Final = f"prices must be 1 to {PRICE_TICKS_MAX} points"
CROSSED_RULE: Final = "bid must not exceed ask"

_HOUR_MS: Final = 3_600_000
_SAMPLED_HOURS: Final = 24
_CURRENCIES: Final = (
    "AUD", "CAD", "CHF", "CNH", "CZK", "DKK", "EUR", "GBP", "HKD", "HUF", "ILS", "JPY", "MXN", "NOK", "NZD",
    "PLN", "RON", "RUB", "SEK", "SGD", "THB", "TRY", "USD", "ZAR",
)  # fmt: skip
_COARSE_QUOTES: Final = frozenset(("CZK", "HUF", "JPY", "RUB", "THB"))
_METALS: Final = ("XAU", "XAG", "XPD", "XPT")


def point_of(symbol: str) -> float | None:
    """Return the price of one point; None where no convention tells it.

    Pairs count in 0.00001, those quoted in yen, forint, koruna, rouble or baht and metals in 0.001. Indices,
    shares and crypto differ by instrument.

    >>> point_of("EURUSD"), point_of("USDJPY"), point_of("XAGUSD"), point_of("USA500IDXUSD")
    (1e-05, 0.001, 0.001, None)
    """
    base, quote = symbol[:3], symbol[3:]
    if base in _METALS and quote in _CURRENCIES:
        return 0.001
    if base in _CURRENCIES and quote in _CURRENCIES:
        return 0.001 if quote in _COARSE_QUOTES else 0.00001
    return None


def open_source(
    paths: Sequence[Path],
    *,
    symbol: str | None = None,
    instrument: Instrument | None = None,
    strict: bool = False,
) -> EventSource:
    """Open hours of one instrument, or its CSV exports.

    Parameters
    ----------
    paths : sequence of Path
        ``.bi5`` files, folders that hold them at any depth, or CSV files in order of time.
    symbol : str, optional
        Instead of what the path tells; leaves out the hours of others.
    instrument : Instrument, optional
        Needed for what is no currency pair and no metal: its price increment is one point.
    strict : bool
        Make a bad row an error instead of setting it aside.
    """
    if not paths:
        raise ConfigError("paths must name at least one recording, was none")
    if all(path.name.lower().endswith(CSV_SUFFIXES) for path in paths):
        mapping = sniff_mapping(paths[0])
        if mapping.kind != "quotes":
            raise DataError(f"expected columns of quotes, was of {mapping.kind}", path=paths[0])
        mapping = replace(mapping, symbol=symbol or mapping.symbol)
        point = point_of(mapping.symbol)
        if point is not None:
            mapping = replace(mapping, price_increment=min(point, mapping.price_increment))
        if point is not None and instrument is None:
            instrument = replace(MappedSource(paths, mapping).instrument, **CURRENCY_HOURS)
        return MappedSource(paths, mapping, instrument=instrument, strict=strict)
    files = sorted((hour_file(path) for path in _expanded(paths)), key=lambda file: file.start_ns)
    wanted = (symbol or (instrument.symbol if instrument else "")).upper().replace("/", "")
    if wanted:
        # A folder of any other name is no instrument: the caller knows better.
        files = [file for file in files if file.symbol == wanted or point_of(file.symbol) is None]
    names = sorted({file.symbol for file in files})
    if wanted in names:
        files, names = [file for file in files if file.symbol == wanted], [wanted]
    if len(names) != 1:
        raise ConfigError(f"paths must hold one instrument, was {', '.join(filter(None, names)) or 'none'}")
    for early, late in pairwise(files):
        if early.start_ns == late.start_ns:
            raise DataError(f"expected each hour once, was {early.path} too", path=late.path)
    name = wanted or names[0]
    return DukascopyEvents(
        files, instrument=instrument or _instrument(name, files, point=point_of(name)), strict=strict
    )


def _expanded(paths: Sequence[Path]) -> list[Path]:
    files = [file for path in paths for file in (path.rglob("*h_ticks.bi5") if path.is_dir() else [path])]
    if not files:
        raise DataError("expected .bi5 files in the folder, was none", path=paths[0])
    return files


def _instrument(symbol: str, files: Sequence[HourFile], *, point: float | None) -> Instrument:
    if point is None:
        raise ConfigError(
            f"the point of {symbol or 'an instrument without a name'} is not known: state it with "
            "--symbol and --price-increment (in Python as instrument=)"
        )
    sizes: list[Any] = []
    for file in files[:_SAMPLED_HOURS]:
        rows = file.rows()
        sizes += [rows["ask_size"], rows["bid_size"]]
    joined = np.concatenate(sizes)
    return Instrument(
        symbol=symbol or "UNKNOWN",
        currency=symbol[3:] or "USD",
        price_increment=point,
        lot_size=infer_lot_size(joined[np.isfinite(joined) & (joined >= 0)]),
        **CURRENCY_HOURS,
    )


class DukascopyEvents(PiecewiseSource):
    """The quotes of one instrument's hours."""

    def __init__(self, files: Sequence[HourFile], *, instrument: Instrument, strict: bool) -> None:
        self.files, self.instrument, self._strict = tuple(files), instrument, strict
        self.notes: tuple[str, ...] = ()
        self.quarantine: Quarantine | None = None

    @property
    def source(self) -> str:
        first, last = (
            str(np.datetime64(file.start_ns, "ns"))[:13] for file in (self.files[0], self.files[-1])
        )
        return f"Dukascopy {self.instrument.symbol}, {len(self.files)} hours, {first} to {last} (recorded)"

    @cached_property
    def data_hash(self) -> str:
        return files_sha256(tuple(file.path for file in self.files))

    def _pieces(self, place: Place | None, block_events: int) -> Iterator[Marked]:
        """Yield one QUOTE event a row."""
        left = LeftOut(self.quarantine)
        if place is not None:
            left.go_on(place["left"])
        for number in range(place["file"] if place is not None else 0, len(self.files)):
            file = self.files[number]
            rows = file.rows()
            left.pass_over("hours without a tick", int(len(rows) == 0))
            events = self._events(file, rows, left)
            yield events, {"file": number + 1, "left": left.state()}
        self.notes = left.notes()

    def _events(self, file: HourFile, rows: NDArray[np.void], left: LeftOut) -> NDArray[np.void]:
        clock_ms = rows["ms"].astype(np.int64)
        reached = np.maximum.accumulate(np.where(clock_ms < _HOUR_MS, clock_ms, 0))
        sizes = np.stack((rows["bid_size"], rows["ask_size"])).astype(np.float32)
        with np.errstate(invalid="ignore", over="ignore"):
            lots = JudgedLots(sizes, self.instrument.lot_size, most=SINGLE_LOTS_MAX)
        good = np.ones(len(rows), bool)
        for rule, holds in (
            (CLOCK_RULE, (clock_ms < _HOUR_MS) & (clock_ms >= reached)),
            (PRICE_RULE, _within(rows["bid"]) & _within(rows["ask"])),
            (SIZE_RULE, lots.within.all(axis=0)),
            (CROSSED_RULE, rows["bid"] <= rows["ask"]),
            (LOT_RULE, lots.good.all(axis=0)),
        ):
            bad = np.flatnonzero(good & ~holds)
            if len(bad) and rule == LOT_RULE:
                self._refine(sizes, lots, int(bad[0]), file)
            if len(bad) and self._strict:
                raise DataError(f"{rule}, was {rows[bad[0]]}", path=file.path, row=int(bad[0]))
            left.reject_all(rule, file=file.path, rows=bad, records=rows[bad])
            good &= holds
        quotes = np.zeros(int(good.sum()), QUOTE_DTYPE)
        quotes["ts_ns"], quotes["recv_ns"] = file.start_ns + clock_ms[good] * 10**6, RECV_NOT_RECORDED
        quotes["bid_price_ticks"], quotes["ask_price_ticks"] = rows["bid"][good], rows["ask"][good]
        quotes["bid_size_lots"], quotes["ask_size_lots"] = lots.lots[:, good]
        quotes["seq"], quotes["instrument_id"] = (
            np.flatnonzero(good) & SEQ_MASK,
            self.instrument.instrument_id,
        )
        quotes["kind"], quotes["flags"] = EventKind.QUOTE, EventFlag.LAST_IN_PACKET
        locked = (quotes["bid_price_ticks"] == quotes["ask_price_ticks"]) & (lots.lots[:, good] > 0).all(
            axis=0
        )
        quotes["flags"][locked] = EventFlag.LAST_IN_PACKET | EventFlag.CROSSED
        return quotes.view(EVENT_DTYPE)

    def _refine(self, sizes: NDArray[np.float32], lots: JudgedLots, at: int, file: HourFile) -> None:
        """Ask for the lot that a size needs, where the sizes of the hour still fit on it."""
        side = int(np.argmin(lots.good[:, at]))
        text = format(Decimal(str(sizes[side, at])), "f")
        error = OffGrid(f"{LOT_RULE}, was {text}", name="size", text=text, path=file.path, row=at)
        finer = error.finer(self.instrument)
        largest = float(sizes[lots.within].max())
        if finer != self.instrument and largest / finer.lot_size <= SINGLE_LOTS_MAX:
            raise error


def _within(points: NDArray[np.uint32]) -> NDArray[np.bool_]:
    return np.asarray((points >= 1) & (points <= PRICE_TICKS_MAX))


def verify(paths: Sequence[Path]) -> Verification:
    """Count the rows that keep the rules, of every instrument; the files carry no other truth."""
    if all(path.name.lower().endswith(CSV_SUFFIXES) for path in paths):
        found = [_count(open_source(paths))]
    else:
        hours: dict[str, list[HourFile]] = {}
        for file in sorted((hour_file(path) for path in _expanded(paths)), key=lambda hour: hour.start_ns):
            hours.setdefault(file.symbol, []).append(file)
        # What a point is worth changes no rule.
        found = [
            on_a_fitting_grid(
                lambda instrument, symbol=symbol, files=files: DukascopyEvents(  # type: ignore[misc]
                    files,
                    instrument=instrument or _instrument(symbol, files, point=point_of(symbol) or 1.0),
                    strict=False,
                ),
                _count,
            )[1]
            for symbol, files in hours.items()
        ]
    return Verification(
        matched=sum(entry.matched for entry in found),
        total=sum(entry.total for entry in found),
        what="quotes that keep the rules",
        first_mismatch=next((entry.first_mismatch for entry in found if entry.first_mismatch), None),
        notes=tuple(note for entry in found for note in entry.notes),
    )


def _count(source: EventSource) -> Verification:
    source.quarantine = quarantine = Quarantine()  # type: ignore[attr-defined]  # both kinds of source reject rows
    kept = sum(map(len, source.blocks()))
    return Verification(
        matched=kept,
        total=kept + quarantine.total,
        what="quotes",
        first_mismatch=next(iter(quarantine.counts), None),
        notes=source.notes,
    )

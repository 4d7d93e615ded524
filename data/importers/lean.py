"""LEAN quote and trade zips as events: ticks and bars of equities, currencies, crypto and futures.

A quote zip of equities tells one side a row, and every update as a bid row followed by an ask row of the
same instant: such a pair is one QUOTE event, any other row one of its own, with the side it does not
tell as it was. Trades and quotes of one day are merged by time; within a millisecond trades come first,
since the quote of that instant is more often their consequence. Clocks, units and what is left out stand
in docs/importers/LEAN.md.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import date
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ..errors import ConfigError, DataError
from ..event_merge import merge_feeds
from ..instrument import Instrument, Session
from ..quarantine import LeftOut, Quarantine
from ..resumable import Marked, PiecewiseSource, Place
from ..schema import EVENT_DTYPE, QUOTE_DTYPE, RECV_NOT_RECORDED, EventFlag, EventKind
from ..table_file import files_sha256
from . import Verification
from .grid import ALWAYS, CURRENCY_HOURS
from .lean_files import EQUITY_INCREMENT, RULES, LeanFile, QuoteRows, TradeRows, lean_files

INSIDE_NS: Final = 10 * 10**6
"""How far a print's stamp and the quote it met may be apart."""

CROSSED_RULE: Final = "bid must not exceed ask"

_OPENS_NS, _CLOSES_NS = 34_200 * 10**9, 57_600 * 10**9
_SEQ_MASK: Final = (1 << 32) - 1


def open_source(
    paths: Sequence[Path],
    *,
    symbol: str | None = None,
    instrument: Instrument | None = None,
    strict: bool = False,
) -> LeanEvents:
    """Open zips of one symbol and market, quotes and trades together, in any order.

    Parameters
    ----------
    paths : sequence of Path
    symbol : str, optional
        Leaves out the zips of others.
    instrument : Instrument, optional
        Its price increment counts for currencies, if finer than the files need.
    strict : bool
        Make a crossed or suspicious row an error instead of leaving it out and counting it.
    """
    files = [file for path in paths for file in lean_files(Path(path), symbol=symbol)]
    if len(resolutions := {file.resolution for file in files}) > 1:
        raise ConfigError(f"paths must hold one resolution, was {', '.join(sorted(resolutions))}")
    found = sorted({f"{file.symbol} {file.market}".strip() for file in files})
    if len(found) != 1:
        raise ConfigError(f"paths must hold one symbol of one market, was {', '.join(found) or 'none'}")
    files.sort(key=lambda file: (file.day, file.is_quote))
    days = Counter((file.day, file.is_quote) for file in files)
    twice = [day for day, count in days.items() if count > 1]
    if twice:
        raise ConfigError(f"paths must hold each day once, was {twice[0][0]} twice")
    return LeanEvents(files, instrument=instrument, strict=strict)


class LeanEvents(PiecewiseSource):
    """The events of one symbol on one market."""

    def __init__(self, files: Sequence[LeanFile], *, instrument: Instrument | None, strict: bool) -> None:
        self.files, self.strict = tuple(files), strict
        first = files[0]
        self.instrument = instrument or Instrument(
            symbol=first.symbol,
            currency=_currency_of(first),
            price_increment=min(file.increment for file in files),
            lot_size=min(file.lot_size for file in files),
            tick_size_ticks=100 if first.is_scaled else 1,
            **_hours_of(first),
        )
        if first.is_scaled and self.instrument.price_increment != EQUITY_INCREMENT:
            raise ConfigError(
                f"LEAN counts equities in {EQUITY_INCREMENT}, was an instrument of "
                f"{self.instrument.price_increment}"
            )
        self.left = LeftOut()
        self.quarantine: Quarantine | None = None

    @property
    def source(self) -> str:
        days = sorted({str(file.day) for file in self.files})
        market = self.files[0].market or "a venue unknown"
        return f"LEAN {self.instrument.symbol}, {market}, {', '.join(days)} (recorded)"

    @cached_property
    def data_hash(self) -> str:
        """SHA-256 of the zips as they are."""
        return files_sha256(tuple(file.path for file in self.files))

    @property
    def notes(self) -> tuple[str, ...]:
        found = [*self.left.notes()]
        if self.files[0].layout.is_bar:
            what = self.files[0].resolution
            found.append(f"bars ({what}): one event at the end of each, at its closing prices")
        if not self.files[0].is_scaled:
            if self.files[0].is_quote and not (self.files[0].has_sizes and self.files[0].layout.sizes):
                found.append("sizes are not recorded: every quote shows one lot on either side")
            if not self.files[0].market and self.files[0].security not in ("crypto", "cryptofuture"):
                found.append("no venue known by the path: times are taken for UTC")
        return tuple(found)

    def _pieces(self, place: Place | None, block_events: int) -> Iterator[Marked]:
        """Yield the events day by day, trades and quotes merged."""
        self.left = LeftOut(self.quarantine)
        last_ns: int | None = None
        if place is not None:
            last_ns = place["last_ns"]
            self.left.go_on(place["left"])
        days = sorted({file.day for file in self.files})
        for number in range(place["day"] if place is not None else 0, len(days)):
            day = days[number]
            feeds = [self._events(file, block_events) for file in self.files if file.day == day]
            for events in merge_feeds(feeds):
                if not len(events):
                    continue
                if last_ns is not None and events["ts_ns"][0] < last_ns:
                    raise DataError("expected days that do not overlap, was one", path=self.files[0].path)
                last_ns = int(events["ts_ns"][-1])
                yield events, None
            yield (
                np.empty(0, EVENT_DTYPE),
                {"day": number + 1, "last_ns": last_ns, "left": self.left.state()},
            )

    @property
    def _grid(self) -> tuple[float, float]:
        return self.instrument.price_increment, self.instrument.lot_size

    def _events(self, file: LeanFile, block_rows: int) -> Iterator[NDArray[np.void]]:
        return self._quotes(file, block_rows) if file.is_quote else self._trades(file, block_rows)

    def _trades(self, file: LeanFile, block_rows: int) -> Iterator[NDArray[np.void]]:
        for rows in file.trades(*self._grid, block_rows=block_rows):
            kept = self._kept(file, rows)
            events = np.zeros(len(rows.ts_ns), EVENT_DTYPE)
            events["ts_ns"], events["recv_ns"] = rows.ts_ns, RECV_NOT_RECORDED
            events["price_ticks"], events["size_lots"] = rows.ticks, rows.size
            events["kind"], events["instrument_id"] = EventKind.TRADE, self.instrument.instrument_id
            events["seq"] = (rows.row + np.arange(len(events))) & _SEQ_MASK
            events["flags"] = EventFlag.LAST_IN_PACKET
            events["flags"][rows.off_exchange] = EventFlag.LAST_IN_PACKET | EventFlag.HIDDEN
            yield events[kept]

    def _quotes(self, file: LeanFile, block_rows: int) -> Iterator[NDArray[np.void]]:
        standing = Standing()
        for rows in whole_pairs(file.quotes(*self._grid, block_rows=block_rows)):
            told = self._kept(file, rows)
            silent = told & (rows.bid_size == 0) & (rows.ask_size == 0)
            self.left.pass_over("rows that tell neither side", int(np.count_nonzero(silent)))
            quotes, row = standing.after(rows, told)
            both = (quotes["bid_size_lots"] > 0) & (quotes["ask_size_lots"] > 0)
            over = quotes["bid_price_ticks"].astype(np.int64) - quotes["ask_price_ticks"]
            kept = ~(both & (over > 0))
            for at in np.flatnonzero(~kept).tolist():
                self._reject(CROSSED_RULE, file, int(row[at]), _raw(quotes, at))
            quotes["instrument_id"] = self.instrument.instrument_id
            quotes["flags"][both & (over >= 0)] |= np.uint8(EventFlag.CROSSED)
            yield quotes[kept].view(EVENT_DTYPE)

    def _kept(self, file: LeanFile, rows: QuoteRows | TradeRows) -> NDArray[np.bool_]:
        """Reject the rows that break a rule and return which do not."""
        for at in np.flatnonzero(rows.broken).tolist():
            columns: list[Any] = list(rows[1:-1])
            raw = {name: values[at] for name, values in zip(rows._fields[1:-1], columns, strict=True)}
            self._reject(RULES[rows.broken[at]], file, rows.row + at, raw)
        return np.asarray(rows.broken == 0)

    def _reject(self, rule: str, file: LeanFile, row: int, raw: dict[str, Any]) -> None:
        if self.strict:
            raise DataError(f"{rule}, was {raw}", path=file.path, row=row)
        self.left.reject(rule, file=file.path, row=row, raw=raw)


def _currency_of(file: LeanFile) -> str:
    if file.is_scaled or file.security in ("future", "index"):
        return "INR" if file.market == "india" else "USD"
    return file.symbol[3:] or "USD"


def _hours_of(file: LeanFile) -> dict[str, Any]:
    """Return time zone and session."""
    if file.is_scaled:
        return {"time_zone": file.time_zone, "session": Session()}
    if file.security:
        crypto, currency = ("crypto", "cryptofuture"), ("forex", "cfd")
        never_closes, is_currency = file.security in crypto, file.security in currency
    else:
        never_closes = bool(file.layout.sizes) and not file.market
        is_currency = file.is_quote and file.market != "india" and not never_closes
    if is_currency:
        return CURRENCY_HOURS
    return {"time_zone": "UTC", "session": ALWAYS if never_closes else Session()}


def _raw(quotes: NDArray[np.void], at: int) -> dict[str, Any]:
    return {name: quotes[name][at] for name in quotes.dtype.names or () if name != "_reserved"}


def whole_pairs(blocks: Iterator[QuoteRows]) -> Iterator[QuoteRows]:
    """Cut blocks so that none ends in a bid row whose ask row may come next."""
    held: QuoteRows | None = None
    for block in blocks:
        rows = block if held is None else _joined(held, block)
        cut = len(rows.ts_ns) - int(rows.bid_size[-1] > 0 and rows.ask_size[-1] == 0)
        held = rows.part(cut, len(rows.ts_ns)) if cut < len(rows.ts_ns) else None
        if cut:
            yield rows.part(0, cut)
    if held is not None:
        yield held


def _joined(first: QuoteRows, second: QuoteRows) -> QuoteRows:
    pairs: Any = zip(first[1:], second[1:], strict=True)
    columns: list[Any] = [np.concatenate(pair) for pair in pairs]
    return QuoteRows(first.row, *columns)


class Standing:
    """Both sides of the quote as rows tell them one by one."""

    def __init__(self) -> None:
        self._sides = np.zeros((2, 2), np.int64)  # bid and ask: ticks, size

    def after(self, rows: QuoteRows, told: NDArray[np.bool_]) -> tuple[NDArray[np.void], NDArray[np.int64]]:
        """Return the quotes after the told rows, a bid row and its ask row as one, and the row of each."""
        count = len(rows.ts_ns)
        place = np.arange(count)
        quotes = np.zeros(count, QUOTE_DTYPE)
        has = []
        for side, (name, ticks, size) in enumerate(
            (("bid", rows.bid_ticks, rows.bid_size), ("ask", rows.ask_ticks, rows.ask_size))
        ):
            has.append((size > 0) & told)
            # Index of the last row that told this side; -1 before the first, which the carried one serves.
            last = np.maximum.accumulate(np.where(has[side], place, -1))
            for column, field in ((0, "price_ticks"), (1, "size_lots")):
                values = (ticks, size)[column]
                known = np.where(last >= 0, values[np.maximum(last, 0)], self._sides[side, column])
                quotes[f"{name}_{field}"] = known
                if count:
                    self._sides[side, column] = known[-1]
        paired = np.zeros(count, bool)
        paired[:-1] = has[0][:-1] & ~has[1][:-1] & has[1][1:] & ~has[0][1:]
        paired[:-1] &= rows.ts_ns[:-1] == rows.ts_ns[1:]
        kept = (has[0] | has[1]) & ~paired
        quotes["ts_ns"], quotes["recv_ns"] = rows.ts_ns, RECV_NOT_RECORDED
        quotes["seq"] = (rows.row + place) & _SEQ_MASK
        quotes["kind"], quotes["flags"] = EventKind.QUOTE, EventFlag.LAST_IN_PACKET
        return quotes[kept], rows.row + place[kept]


def verify(paths: Sequence[Path]) -> Verification:
    """Count the rows that can be imported, and the prints inside the best bid and offer.

    A zip carries no truth about a book, so a row matches when it breaks no rule. Where a day has both
    quotes and trades, the share of prints between 09:30 and 16:00 that lie inside a quote at most 10 ms
    away is told in the notes.
    """
    files = [file for path in paths for file in lean_files(Path(path))]
    markets = sorted({(file.symbol, file.market) for file in files})
    matched, total, first, notes = 0, 0, None, []
    for symbol, market in markets:
        own = [file for file in files if (file.symbol, file.market) == (symbol, market)]
        source = open_source(list(dict.fromkeys(file.path for file in own)), symbol=symbol)
        kept = inside = printed = 0
        for day in sorted({file.day for file in own}):
            day_files = [file for file in own if file.day == day]
            found = _day(source, day_files, day)
            kept, inside, printed = kept + found[0], inside + found[1], printed + found[2]
        broken = source.left.rejected.total()
        matched, total = matched + kept, total + kept + broken
        first = first or source.left.first
        name = f"{symbol} {market}".strip()
        notes += [f"{name}: {note}" for note in source.notes]
        if printed:
            notes.append(f"{name}: {inside:,} of {printed:,} prints ({inside / printed:.2%}) inside the best "
                         "bid and offer of the 10 ms around them, 09:30 to 16:00")  # fmt: skip
    return Verification(
        matched=matched, total=total, what="quotes and prints", first_mismatch=first, notes=tuple(notes)
    )


def _day(source: LeanEvents, files: Sequence[LeanFile], day: date) -> tuple[int, int, int]:
    """Return events of a day, its prints inside the quotes, and the prints compared."""
    by_kind = {file.is_quote: file for file in files if file.day == day}
    if len(by_kind) < 2 or files[0].layout.is_bar:
        # Nothing to compare, so nothing to hold.
        return sum(len(part) for file in by_kind.values() for part in source._events(file, 65_536)), 0, 0
    blocks = {
        is_quote: np.concatenate(list(source._events(file, 65_536))) for is_quote, file in by_kind.items()
    }
    kept = sum(map(len, blocks.values()))
    quotes, trades = blocks[True].view(QUOTE_DTYPE), blocks[False]
    clock_ns = trades["ts_ns"] - files[0].midnight_ns
    trades = trades[(clock_ns >= _OPENS_NS) & (clock_ns < _CLOSES_NS)]
    quotes = quotes[(quotes["bid_size_lots"] > 0) & (quotes["ask_size_lots"] > 0)]
    if not len(quotes) or not len(trades):
        return kept, 0, 0
    # The quote standing when the window opens counts too.
    start = np.searchsorted(quotes["ts_ns"], trades["ts_ns"] - INSIDE_NS, side="right") - 1
    stop = np.searchsorted(quotes["ts_ns"], trades["ts_ns"] + INSIDE_NS, side="right")
    trades, start, stop = trades[stop > 0], np.maximum(start[stop > 0], 0), stop[stop > 0]
    edges = np.column_stack((start, stop)).ravel()
    # reduceat needs indices inside the array, so one more quote than any window reaches is put behind.
    lowest = np.minimum.reduceat(np.append(quotes["bid_price_ticks"], 0), edges)[::2]
    highest = np.maximum.reduceat(np.append(quotes["ask_price_ticks"], 0), edges)[::2]
    inside = (trades["price_ticks"] >= lowest) & (trades["price_ticks"] <= highest)
    return kept, int(np.count_nonzero(inside)), len(trades)

"""NASDAQ TotalView-ITCH 5.0 recordings: events of one stock, and the proof of a file.

The table of messages and events stands in `ext.itch50.Itch50Decoder`; clocks, units, sequence rules and
what is left out in docs/importers/ITCH.md.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ext.book_table import BookTable

from ..errors import ConfigError, DataError
from ..instrument import Instrument
from ..lobster import EXCHANGE_TIME_ZONE
from ..quarantine import Quarantine
from ..resumable import Marked, PiecewiseSource, Place
from ..schema import EVENT_DTYPE, EventFlag, EventKind
from ..table_file import files_sha256
from . import Verification
from .grid import stored_symbol
from .itch_files import ItchFile

PRICE_INCREMENT: Final = 0.0001
TRADING: Final = 1
"""Code of the STATUS event that says a stock trades."""

SUFFIXES: Final = {
    "+": "WS", "=": "U", "^": "RT", "#": "WI", "$": "WD", "*": "CL", "!": "EC", "@": "PP", "%": "CV",
    "~": "TEST",
}  # fmt: skip
"""Nasdaq's marks of warrants, units, rights and so on, and the letters others write (its CMS suffixes)."""

_DIRECTORY_BLOCKS: Final = 4
_SYMBOLS_SHOWN: Final = 12


def open_source(
    paths: Sequence[Path],
    *,
    symbol: str | None = None,
    instrument: Instrument | None = None,
    strict: bool = False,
) -> ItchEvents:
    """Open days of ITCH 5.0, in the order given.

    Parameters
    ----------
    paths : sequence of Path
        Framed files or captures, each packed or not.
    symbol : str, optional
        Needed where the recording tells of more than one.
    instrument : Instrument, optional
    strict : bool
        Refuse a gap in the packets' sequence, and an order that was never announced, instead of counting
        them.
    """
    if not paths:
        raise ConfigError("paths must name at least one recording, was none")
    name = symbol or (instrument.symbol if instrument is not None else None) or _only_symbol(paths[0])
    try:
        encoded = name.encode("ascii")
    except UnicodeEncodeError:
        encoded = b""
    if not 1 <= len(encoded) <= 8:
        raise ConfigError(f"symbol must be 1 to 8 ASCII characters, was {name!r}")
    return ItchEvents(paths, symbol=name, instrument=instrument, strict=strict)


def instrument_name(symbol: str) -> str:
    """Return a symbol as a store can call it: a mark becomes an underscore and letters.

    No symbol of Nasdaq has an underscore, so two symbols never become one name.

    >>> instrument_name("BRK.B"), instrument_name("ABC+"), instrument_name("ABC+A"), instrument_name("ABC=")
    ('BRK.B', 'ABC_WS', 'ABC_WSA', 'ABC_U')
    """
    return stored_symbol("".join(f"_{SUFFIXES[mark]}" if mark in SUFFIXES else mark for mark in symbol))


def _only_symbol(path: Path) -> str:
    file = ItchFile(path)
    for count, _ in enumerate(file.blocks(65_536)):
        if count == _DIRECTORY_BLOCKS:
            break
    names = sorted(set(file.decoder.symbols().values()))
    if len(names) != 1:
        listed = ", ".join(names[:_SYMBOLS_SHOWN]) + (", ..." if len(names) > _SYMBOLS_SHOWN else "")
        raise ConfigError(f"{path} tells of {len(names)} symbols, name one: {listed or 'none'}")
    return names[0]


class ItchEvents(PiecewiseSource):
    """The events of one stock; every order event carries the order's side and price."""

    def __init__(
        self, paths: Sequence[Path], *, symbol: str, instrument: Instrument | None, strict: bool
    ) -> None:
        self.paths, self.symbol, self.strict = tuple(paths), symbol, strict
        self.instrument = instrument or Instrument(
            symbol=instrument_name(symbol),
            price_increment=PRICE_INCREMENT,
            tick_size_ticks=100,
            time_zone=EXCHANGE_TIME_ZONE,
        )
        if self.instrument.price_increment != PRICE_INCREMENT or self.instrument.lot_size != 1.0:
            raise ConfigError(
                f"ITCH counts in {PRICE_INCREMENT} USD and single shares, was an instrument of "
                f"{self.instrument.price_increment} and {self.instrument.lot_size}"
            )
        self.notes: tuple[str, ...] = ()
        self.quarantine: Quarantine | None = None

    @property
    def source(self) -> str:
        return f"ITCH 5.0 {self.symbol}, {', '.join(path.name for path in self.paths)} (recorded)"

    @cached_property
    def data_hash(self) -> str:
        """SHA-256 of the files as they are."""
        return files_sha256(self.paths)

    def _pieces(self, place: Place | None, block_events: int) -> Iterator[Marked]:
        """Yield the events, each day after a CLEAR; every event but a replace's CANCEL ends a packet."""
        begin = place or {"path": 0, "last_ns": None, "notes": [], "gaps": 0}
        notes: list[str] = list(begin["notes"])
        last_ns: int | None = begin["last_ns"]
        gaps = begin["gaps"]
        if self.quarantine is not None:
            self.quarantine.sequence_gaps += gaps
        for number in range(begin["path"], len(self.paths)):
            path = self.paths[number]
            file = ItchFile(
                path,
                symbol=self.symbol.encode("ascii"),
                instrument_id=self.instrument.instrument_id,
                strict=self.strict,
            )
            table, opening = BookTable(65_536, 4_096), True
            for events in file.blocks(max(block_events, 2)):
                unknown = table.complete(events)
                if unknown and self.strict:
                    raise DataError(f"expected orders that were announced, was {unknown} others", path=path)
                first_ns = int(events["ts_ns"][0])
                if opening and last_ns is not None and first_ns < last_ns:
                    raise DataError("expected recordings in order of time, was an earlier day", path=path)
                last_ns = int(events["ts_ns"][-1])
                yield np.concatenate((self._clear(events), events)) if opening else events, None
                opening = False
            if file.decoder.locate is None:
                raise DataError(f"expected messages of {self.symbol}, was none", path=path)
            notes += _notes(file, table)
            gaps += file.gaps
            if self.quarantine is not None:
                self.quarantine.sequence_gaps += file.gaps
            behind = {"path": number + 1, "last_ns": last_ns, "notes": list(notes), "gaps": gaps}
            yield np.empty(0, EVENT_DTYPE), behind
        self.notes = tuple(notes)

    def _clear(self, events: NDArray[np.void]) -> NDArray[np.void]:
        clear = np.zeros(1, EVENT_DTYPE)
        for name in ("ts_ns", "recv_ns", "instrument_id"):
            clear[name] = events[name][0]
        clear["kind"], clear["flags"] = EventKind.CLEAR, EventFlag.LAST_IN_PACKET
        return clear


def _notes(file: ItchFile, table: BookTable) -> list[str]:
    counts = [
        (file.gaps, f"{file.gaps} gaps in the sequence, {file.lost} messages lost"),
        (file.duplicates, f"{file.duplicates} messages received more than once, used once"),
        (file.foreign, f"{file.foreign} packets of another session or protocol left out"),
        (file.strays, f"{file.strays} packets numbered far ahead of the feed left out"),
        (table.unknown_orders, f"{table.unknown_orders} events of orders never announced"),
        (table.overdrawn, f"{table.overdrawn} events took more than their order had left"),
        (table.duplicate_orders, f"{table.duplicate_orders} orders announced twice, used once"),
        (file.day is None, "no day in the name: times count from 1970-01-01 in New York"),
        (file.decoder.zero_lengths, "length bytes are 0: lengths follow from types"),
    ]
    return [f"{file.path.name}: {text}" for count, text in counts if count]


def verify(paths: Sequence[Path]) -> Verification:
    """Replay every stock of the recordings and count the messages that obey every rule.

    ITCH carries no snapshot of a book to compare with. What a file can prove is that it is whole: lengths
    by type, order of time, one symbol a locate, sequence numbers of packets, orders known when they trade,
    leave or change and never for more than they have, and no crossed book while its stock trades.
    """
    total, broken, first, notes = 0, 0, None, []
    for path in paths:
        file, table = ItchFile(path), BookTable()
        crossed = _Crossings(table)
        for events in file.blocks(65_536):
            # A coarser grid above one dollar keeps order and touch, and the books of a day in memory.
            dear = events["price_ticks"] > 10_000
            events["price_ticks"][dear] = 10_000 + (events["price_ticks"][dear] - 10_000) // 100
            crossed.apply(events)
        if table.first_fault is not None and first is None:
            first = (
                f"{path}:message {table.first_fault}: expected an order announced and large enough, was none"
            )
        if file.lost and first is None:
            first = f"{path}: expected consecutive sequence numbers, was {file.gaps} gaps, {file.lost} lost"
        if crossed.count and first is None:
            first = f"{path}: expected no crossed book while its stock trades, was {crossed.count}"
        broken += table.unknown_orders + table.overdrawn + table.duplicate_orders + crossed.count + file.lost
        total += file.decoder.messages + file.lost
        counts = " ".join(f"{kind} {count:,}" for kind, count in file.decoder.counts().items())
        notes += [f"{path.name}: {counts}", *_notes(file, table)]
    notes.append("ITCH carries no book to compare with: matched messages obey every rule a file can prove")
    return Verification(
        matched=max(total - broken, 0),
        total=total,
        what="messages that obey the rules",
        first_mismatch=first,
        notes=tuple(notes),
    )


class _Crossings:
    """Events after which a book is crossed while its stock trades."""

    def __init__(self, table: BookTable) -> None:
        self._table = table
        self._halted: dict[int, int] = {}  # instrument -> its book's crossed events when it stopped
        self._excused = 0

    def apply(self, events: NDArray[np.void]) -> None:
        """Complete and apply events, noting which were between a halt and the next start of trading."""
        codes = np.abs(events["size_lots"]) <= 1
        start = 0
        for row in np.flatnonzero((events["kind"] == EventKind.STATUS) & codes):
            self._table.complete(events[start : row + 1])
            start = int(row) + 1
            instrument = int(events["instrument_id"][row])
            book = self._table.book(instrument)
            if events["size_lots"][row] == TRADING:
                if instrument in self._halted:
                    self._excused += book.crossed - self._halted.pop(instrument)
            else:
                self._halted.setdefault(instrument, book.crossed)
        self._table.complete(events[start:])

    @property
    def count(self) -> int:
        still = sum(
            self._table.book(instrument).crossed - count for instrument, count in self._halted.items()
        )
        return self._table.crossed - self._excused - still

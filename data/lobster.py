"""LOBSTER recordings as events.

The files show a window of L levels. Orders placed outside it are never announced, and levels enter and
leave the window as the touch moves, so messages alone do not rebuild the book. After each message the
importer therefore states, as LEVEL events, whatever the message does not explain: it forgets a level that
falls below level L and learns one that enters at the bottom. A book that applies them, taking level
totals as given, equals row i after the events of row i; `data.lobster_verify` proves it.

======  ===================  =====================================================================
type    event                notes
======  ===================  =====================================================================
1       ADD
2       REDUCE
3       CANCEL
4       EXECUTE              side is the resting order's, as in the file
5       TRADE, HIDDEN        side is the aggressor's, the opposite of the file's
6       TRADE, AUCTION       side 0
7       STATUS               size_lots is the file's price: -1 halt, 0 quoting resumes, 1 trading resumes
======  ===================  =====================================================================

``seq`` is the row. The last event of a row carries LAST_IN_PACKET. A day begins with CLEAR and a
SNAPSHOT of its first row. ``recv_ns`` is not recorded. Prices are ticks of 0.0001 USD, of which a
resting order's price is a multiple of 100; sizes are shares.
"""

from __future__ import annotations

import hashlib
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from datetime import date
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ext.lobster_events import events_most, fill_events

from .errors import DataError
from .event_blocks import join_events
from .instrument import Instrument
from .lobster_files import find_pairs
from .lobster_rows import PRICE_INCREMENT, LobsterPair, LobsterRows, RowMark
from .read_ahead import read_ahead
from .schema import EVENT_DTYPE

EXCHANGE_TIME_ZONE: Final = "America/New_York"


def open_lobster(path: Path | str, *, instrument: Instrument | None = None) -> LobsterEvents:
    """Open a LOBSTER zip, either file of a pair, or a folder of pairs (days of one ticker)."""
    return LobsterEvents(find_pairs(Path(path)), root=Path(path), instrument=instrument)


class LobsterEvents:
    """The events of one ticker's LOBSTER days.

    Parameters
    ----------
    pairs : sequence of LobsterPair
        In order of date.
    root : Path
        What the user named.
    """

    def __init__(
        self, pairs: Sequence[LobsterPair], *, root: Path, instrument: Instrument | None = None
    ) -> None:
        self.pairs, self.root = tuple(pairs), root
        self.levels = pairs[0].levels
        self.instrument = instrument or Instrument(
            symbol=pairs[0].ticker,
            price_increment=PRICE_INCREMENT,
            tick_size_ticks=100,
            time_zone=EXCHANGE_TIME_ZONE,
        )
        if self.instrument.price_increment != PRICE_INCREMENT or self.instrument.lot_size != 1.0:
            raise DataError(
                f"LOBSTER counts in {PRICE_INCREMENT} USD and single shares, was an instrument of "
                f"{self.instrument.price_increment} and {self.instrument.lot_size}",
                path=root,
            )
        self.notes: tuple[str, ...] = (
            f"depth outside the best {self.levels} levels is unknown; orders placed there are not announced",
        )

    @property
    def source(self) -> str:
        days = ", ".join(str(pair.day) for pair in self.pairs)
        return f"LOBSTER {self.instrument.symbol}, {self.levels} levels, {days} (recorded)"

    @cached_property
    def data_hash(self) -> str:
        """SHA-256 over the files' bytes as decompressed: message then orderbook, day by day."""
        digest = hashlib.sha256()
        for pair in self.pairs:
            for opener in (pair.open_message, pair.open_orderbook):
                with opener() as stream:
                    while chunk := stream.read(1 << 20):
                        digest.update(chunk)
        return digest.hexdigest()

    def blocks(self, block_events: int = 65_536) -> Iterator[NDArray[np.void]]:
        """Yield events in order; a block ends where a row ends and may be a few events longer."""
        with closing(self.marked_blocks(block_events=block_events)) as blocks:
            for block, _ in blocks:
                yield block

    def marked_blocks(
        self, place: dict[str, Any] | None = None, *, block_events: int = 65_536
    ) -> Generator[tuple[NDArray[np.void], dict[str, Any]]]:
        """Yield events from a place on, each block with the place behind it: pair, row and its two bytes."""
        with closing(read_ahead(self._marked(place, block_events))) as blocks:
            yield from blocks

    def _marked(
        self, place: dict[str, Any] | None, block_events: int
    ) -> Iterator[tuple[NDArray[np.void], dict[str, Any]]]:
        # A deep book's rows are wide, so rows per block shrink with depth.
        block_rows = max(256, min(block_events // 2, (1 << 20) // self.levels))
        entered = None if place is None else RowMark(**place["row"])
        for number, pair in enumerate(self.pairs):
            if place is not None and number < place["pair"]:
                continue
            before = None if entered is None else np.array(entered.book, np.int64)
            midnight_ns = exchange_midnight_ns(pair.day)
            for rows in pair.rows(block_rows=block_rows, mark=entered):
                events = events_of(rows, before, midnight_ns=midnight_ns, instrument=self.instrument)
                before = rows.books[-1]
                yield events, {"pair": number, "row": rows.mark._asdict()}
            entered = None


def exchange_midnight_ns(day: date) -> int:
    """Return midnight in New York, ns since the Unix epoch."""
    # polars carries its own time zone tables; zoneinfo's may be missing from a bare machine.
    local = pl.Series([day]).cast(pl.Datetime("ns")).dt.replace_time_zone(EXCHANGE_TIME_ZONE)
    return int(local.dt.timestamp("ns")[0])


def events_of(
    rows: LobsterRows, before: NDArray[np.int64] | None, *, midnight_ns: int, instrument: Instrument
) -> NDArray[np.void]:
    """Return the events of a block of rows.

    Parameters
    ----------
    rows : LobsterRows
    before : array of int64, shape (4 * levels,), or None
        The book before the first row; None at the start of a day.
    midnight_ns : int
        Added to the rows' clock.
    instrument : Instrument

    Returns
    -------
    array of EVENT_DTYPE, shape (n_events,)
    """
    most = events_most(rows.books.shape[1] // 4)
    parts, row = [], 0
    while row < len(rows):
        # Two events a row are usual, `most` are rare.
        out = np.empty(2 * (len(rows) - row) + most, EVENT_DTYPE)
        row, count = fill_events(
            rows.messages, rows.books, before, row, rows.row, midnight_ns, instrument.instrument_id, out
        )
        parts.append(out[:count])
    return parts[0] if len(parts) == 1 else join_events(parts)

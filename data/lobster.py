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
from collections.abc import Iterator, Sequence
from datetime import date
from functools import cached_property
from pathlib import Path
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from .errors import DataError
from .instrument import Instrument
from .lobster_files import find_pairs
from .lobster_rows import PRICE_INCREMENT, LobsterPair, LobsterRows
from .schema import EVENT_DTYPE, RECV_NOT_RECORDED, EventFlag, EventKind

EXCHANGE_TIME_ZONE: Final = "America/New_York"

_KIND: Final = np.array(
    [0, EventKind.ADD, EventKind.REDUCE, EventKind.CANCEL, EventKind.EXECUTE, EventKind.TRADE,
     EventKind.TRADE, EventKind.STATUS], np.uint8,
)  # fmt: skip
_FLAG: Final = np.array([0, 0, 0, 0, 0, EventFlag.HIDDEN, EventFlag.AUCTION, 0], np.uint8)
# Sign of the file's direction in the event's side.
_SIDE: Final = np.array([0, 1, 1, 1, 1, -1, 0, 0], np.int8)
# Sign of a message's size in its level's total.
_EFFECT: Final = np.array([0, 1, -1, -1, -1, 0, 0, 0], np.int64)

# Rows times levels squared of one comparison, which bounds its memory.
_COMPARED_MAX: Final = 1 << 21


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
        # A deep book's rows are wide, so rows per block shrink with depth.
        block_rows = max(256, min(block_events // 2, (1 << 20) // self.levels))
        for pair in self.pairs:
            previous: LobsterRows | None = None
            midnight_ns = exchange_midnight_ns(pair.day)
            for rows in pair.rows(block_rows=block_rows):
                yield events_of(rows, previous, midnight_ns=midnight_ns, instrument=self.instrument)
                previous = rows


def exchange_midnight_ns(day: date) -> int:
    """Return midnight in New York, ns since the Unix epoch."""
    # polars carries its own time zone tables; zoneinfo's may be missing from a bare machine.
    local = pl.Series([day]).cast(pl.Datetime("ns")).dt.replace_time_zone(EXCHANGE_TIME_ZONE)
    return int(local.dt.timestamp("ns")[0])


def events_of(
    rows: LobsterRows, previous: LobsterRows | None, *, midnight_ns: int, instrument: Instrument
) -> NDArray[np.void]:
    """Return the events of a block of rows.

    Parameters
    ----------
    rows : LobsterRows
    previous : LobsterRows or None
        The block before, of which the last row counts; None at the start of a day.
    midnight_ns : int
        Added to the rows' clock.
    instrument : Instrument

    Returns
    -------
    array of EVENT_DTYPE, shape (n_events,)
    """
    fix_row, fix_side, fix_price, fix_size = _corrections(rows, previous)
    row_count = len(rows.kind)
    opening = previous is None
    fix_count = np.bincount(fix_row, minlength=row_count)
    # Each row is its message, then its corrections; the day's first row has a CLEAR in front.
    after = np.cumsum(fix_count + 1) + opening
    message_at = after - fix_count - 1
    events = np.zeros(int(after[-1]), EVENT_DTYPE)
    row_of = np.repeat(np.arange(row_count), fix_count + 1)
    row_of = np.concatenate(([0] * opening, row_of)).astype(np.intp)
    events["ts_ns"] = rows.clock_ns[row_of] + midnight_ns
    events["recv_ns"] = RECV_NOT_RECORDED
    events["seq"] = rows.row + row_of
    events["instrument_id"] = instrument.instrument_id

    # Every slot that is not a message is a correction, in order of row.
    events["kind"] = EventKind.LEVEL
    events["flags"] = EventFlag.SNAPSHOT
    is_fix = np.ones(len(events), bool)
    is_fix[message_at] = False
    if opening:
        events["kind"][0] = EventKind.CLEAR
        is_fix[0] = False
    events["side"][is_fix], events["price_ticks"][is_fix] = fix_side, fix_price
    events["size_lots"][is_fix] = fix_size

    status = rows.kind == 7
    # A cross carries order id -1.
    events["order_id"][message_at] = np.where(status, 0, np.maximum(rows.order_id, 0)).astype(np.uint64)
    events["price_ticks"][message_at] = np.where(status, 0, rows.price)
    events["size_lots"][message_at] = np.where(status, rows.price, rows.size)
    events["kind"][message_at] = _KIND[rows.kind]
    events["flags"][message_at] = _FLAG[rows.kind]
    events["side"][message_at] = _SIDE[rows.kind] * rows.side
    events["flags"][after - 1] |= np.uint8(EventFlag.LAST_IN_PACKET)
    return events


def _corrections(
    rows: LobsterRows, previous: LobsterRows | None
) -> tuple[NDArray[np.intp], NDArray[np.int8], NDArray[np.int64], NDArray[np.int64]]:
    """Return (row in block, side, price, total) of every level that the messages leave wrong.

    Ordered by row; within a row asks before bids, and on a side removals before the rest.
    """
    parts = []
    for side, price, size, old in (
        (-1, rows.ask_price, rows.ask_size, previous and (previous.ask_price, previous.ask_size)),
        (1, rows.bid_price, rows.bid_size, previous and (previous.bid_price, previous.bid_size)),
    ):
        old_price, old_size = (part[-1:] for part in old) if old else (np.zeros_like(price[:1]),) * 2
        delta = np.where(rows.side == side, _EFFECT[rows.kind] * rows.size, 0)
        found = _side_corrections(
            rows.price,
            delta,
            np.concatenate((old_price, price[:-1])),
            np.concatenate((old_size, size[:-1])),
            price,
            size,
        )
        parts.append((found[0], np.full(len(found[0]), side, np.int8), *found[1:]))
    joined = [np.concatenate(column) for column in zip(*parts, strict=True)]
    order = np.argsort(joined[0], kind="stable")
    return joined[0][order], joined[1][order], joined[2][order], joined[3][order]


def _side_corrections(
    message_price: NDArray[np.int64],
    delta: NDArray[np.int64],
    old_price: NDArray[np.int64],
    old_size: NDArray[np.int64],
    new_price: NDArray[np.int64],
    new_size: NDArray[np.int64],
) -> tuple[NDArray[np.intp], NDArray[np.int64], NDArray[np.int64]]:
    """Compare one side before and after each message; shapes (n,) and (n, levels)."""
    # In most rows no level enters or leaves, and a message explains its one level's change.
    expected = np.maximum(old_size + np.where(old_price == message_price[:, None], delta[:, None], 0), 0)
    explained = ((old_price == new_price) & (expected == new_size)).all(axis=1)
    # An addition at a price that stands in no level is visible only as an absence.
    explained &= (delta <= 0) | (old_price == message_price[:, None]).any(axis=1)
    open_rows = np.flatnonzero(~explained)
    step = max(1, _COMPARED_MAX // new_price.shape[1] ** 2)
    pieces = [
        _compared(rows, message_price[rows], delta[rows], old_price[rows], old_size[rows], new_price[rows],
                  new_size[rows])
        for rows in (open_rows[first : first + step] for first in range(0, len(open_rows), step))
    ]  # fmt: skip
    if not pieces:
        return np.empty(0, np.intp), np.empty(0, np.int64), np.empty(0, np.int64)
    row, price, size = (np.concatenate(column) for column in zip(*pieces, strict=True))
    return row, price, size


def _compared(
    rows: NDArray[np.intp],
    message_price: NDArray[np.int64],
    delta: NDArray[np.int64],
    old_price: NDArray[np.int64],
    old_size: NDArray[np.int64],
    new_price: NDArray[np.int64],
    new_size: NDArray[np.int64],
) -> tuple[NDArray[np.intp], NDArray[np.int64], NDArray[np.int64]]:
    """Match every old level with every new one and return the differences, removals first."""
    # What the book holds after the message: the old levels, and one more that the message may have made.
    made = np.where((old_price == message_price[:, None]).any(axis=1), 0, np.maximum(delta, 0))
    held_price = np.concatenate((message_price[:, None], old_price), axis=1)
    held_size = np.maximum(old_size + np.where(old_price == message_price[:, None], delta[:, None], 0), 0)
    held_size = np.concatenate((made[:, None], held_size), axis=1)
    same = (held_price[:, :, None] == new_price[:, None, :]) & (held_size[:, :, None] > 0)
    same &= new_size[:, None, :] > 0
    gone = (held_size > 0) & ~same.any(axis=2)
    matched = np.where(same, held_size[:, :, None], 0).max(axis=1)
    wrong = (new_size > 0) & (matched != new_size)
    gone_row, gone_level = np.nonzero(gone)
    wrong_row, wrong_level = np.nonzero(wrong)
    row = rows[np.concatenate((gone_row, wrong_row))]
    price = np.concatenate((held_price[gone_row, gone_level], new_price[wrong_row, wrong_level]))
    size = np.concatenate((np.zeros(len(gone_row), np.int64), new_size[wrong_row, wrong_level]))
    order = np.argsort(row, kind="stable")
    return row[order], price[order], size[order]

"""The proof of the LOBSTER importer: the compiled book against every recorded row."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from .lobster import events_of, exchange_midnight_ns, open_lobster
from .lobster_rows import LobsterRows
from .schema import EventFlag


class LevelBook(Protocol):
    """What the check needs of a book."""

    def apply(self, events: Any) -> Any: ...
    def depth_array(self, side: int, count: int) -> Any:
        """Return price and size of the best levels of side +1 or -1, shape (<= count, 2)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LobsterCheck:
    """How many rows of a recording the book reproduced.

    Parameters
    ----------
    matched, total : int
        Rows.
    first_mismatch : str or None
        File, row, and what was expected and found.
    """

    matched: int
    total: int
    first_mismatch: str | None


def verify_lobster(path: Path | str, *, book: LevelBook | None = None) -> LobsterCheck:
    """Replay a recording through the book and compare every level of every row.

    Parameters
    ----------
    path : path
        As for `open_lobster`.
    book : LevelBook, optional
        Instead of the engine's own.
    """
    recording = open_lobster(path)
    if book is None:
        from ext.order_book import OrderBook

        book = OrderBook()
    matched, total, first = 0, 0, None
    for pair in recording.pairs:
        previous: LobsterRows | None = None
        midnight_ns = exchange_midnight_ns(pair.day)
        for rows in pair.rows():
            before = None if previous is None else previous.books[-1]
            events = events_of(rows, before, midnight_ns=midnight_ns, instrument=recording.instrument)
            previous = rows
            bad = _mismatches(book, events, rows)
            if first is None and bad:
                first = f"{pair.orderbook_path}:row {rows.row + bad[0]}: {_describe(rows, bad[0])}"
            matched += len(rows) - len(bad)
            total += len(rows)
    return LobsterCheck(matched=matched, total=total, first_mismatch=first)


def _mismatches(book: LevelBook, events: NDArray[np.void], rows: LobsterRows) -> list[int]:
    """Apply a block packet by packet and return the rows after which the book differs."""
    ends = (np.flatnonzero(events["flags"] & EventFlag.LAST_IN_PACKET) + 1).tolist()
    levels = rows.books.shape[1] // 4
    # One row as the file has it: absent levels become (0, 0) on both sides of the comparison.
    recorded = rows.books.reshape(-1, levels, 4).transpose(0, 2, 1).copy()
    recorded[:, 0][recorded[:, 1] == 0] = 0
    recorded[:, 2][recorded[:, 3] == 0] = 0
    rebuilt = np.zeros_like(recorded)
    overfull = np.zeros(len(ends), bool)
    start = 0
    for row, end in enumerate(ends):
        book.apply(events[start:end])
        start = end
        for place, side in ((0, -1), (2, 1)):
            # One level more than recorded: the book must not hold what the window does not show.
            depth = book.depth_array(side, levels + 1)
            depth = depth[depth[:, 1] > 0]
            overfull[row] |= len(depth) > levels
            depth = depth[:levels]
            rebuilt[row, place : place + 2, : len(depth)] = depth.T
    wrong = (rebuilt != recorded).any(axis=(1, 2)) | overfull
    return [int(row) for row in np.flatnonzero(wrong)]


def _describe(rows: LobsterRows, row: int) -> str:
    _, kind, order_id, size, price, _ = rows.messages[row].tolist()
    asks, ask_sizes, bids, bid_sizes = rows.books[row].reshape(-1, 4).T.tolist()
    return (
        f"after type {kind}, order {order_id}, {size} at {price}: "
        f"expected asks {asks} x {ask_sizes}, bids {bids} x {bid_sizes}"
    )

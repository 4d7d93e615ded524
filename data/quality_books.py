"""Which packets leave a book crossed that should not be.

Orders collected for an auction (flag AUCTION) and those of a halt (STATUS 0 or -1, until 1) may cross:
nothing matches them yet. Everything else is judged between packets by the compiled book.
"""

from __future__ import annotations

import itertools
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ext.order_book import OrderBook

from .event_blocks import take_events
from .schema import EventFlag, EventKind

_BOOK_KINDS: Final = np.isin(
    np.arange(256),
    [EventKind.ADD, EventKind.CANCEL, EventKind.REDUCE, EventKind.EXECUTE, EventKind.LEVEL, EventKind.CLEAR],
)


class BookWatch:
    """Replays the events that change a book."""

    def __init__(self) -> None:
        self._book = OrderBook()
        self._halted = False

    def crossed(self, events: NDArray[np.void], kinds: NDArray[np.int64], flags: int) -> tuple[int, int]:
        """Return how many packets left the book crossed, and the time of the part where the first did.

        Parameters
        ----------
        kinds : array of int64, shape (256,)
            How many events there are by kind.
        flags : int
            Those that any event has.
        """
        may_cross = self._halted or kinds[EventKind.STATUS] or flags & EventFlag.AUCTION
        excused = self._excused(events) if may_cross else np.zeros(1, bool)
        if kinds[_BOOK_KINDS].sum() < len(events):
            in_book = _BOOK_KINDS[events["kind"]]
            events, excused = take_events(events, in_book), excused[in_book] if may_cross else excused
        count, first_ns = 0, 0
        edges = [0, *(np.flatnonzero(np.diff(excused)) + 1).tolist(), len(events)]
        for start, stop in itertools.pairwise(edges):
            if start == stop:
                continue
            before = self._book.crossed
            self._book.apply(np.ascontiguousarray(events[start:stop]))
            found = 0 if excused[start] else self._book.crossed - before
            first_ns = int(events["ts_ns"][start]) if found and not count else first_ns
            count += found
        return count, first_ns

    def _excused(self, events: NDArray[np.void]) -> NDArray[np.bool_]:
        excused: NDArray[np.bool_] = events["flags"] & EventFlag.AUCTION != 0
        told = np.flatnonzero((events["kind"] == EventKind.STATUS) & (np.abs(events["size_lots"]) <= 1))
        if len(told) or self._halted:
            halts = np.concatenate(([self._halted], events["size_lots"][told] <= 0))
            excused |= np.repeat(halts, np.diff(told, prepend=0, append=len(events)))
            self._halted = bool(halts[-1])
        return excused

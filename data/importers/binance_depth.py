"""Binance's rules for keeping a book from depth updates.

Each update covers ids U to u. Futures name the update before (pu); on spot U is one more than its u. A REST
snapshot states the best levels as of its lastUpdateId L. So:

1. Updates that arrive before the first snapshot are held, and applied after it where u > L (spot) or u ≥ L
   (futures); the first of them must reach back to L (U ≤ L + 1, or pu ≤ L).
2. From then on each must follow the one before. One that ends at or before it is a repetition and left out.
3. After a gap the book is cleared and grows from updates alone until the next snapshot: a level that changed
   unseen would otherwise stand for ever. With `strict` a gap is an error.
4. A snapshot while the book is complete is left out.
   But where there are no updates at all (the streams of partial books) each replaces the one before.
   Updates old by their ids and newer by the venue's clock tell that a damaged id was believed: a gap.
5. Without any snapshot among the first `HELD_MAX` updates the book grows from updates alone.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ..errors import DataError
from ..quarantine import LeftOut
from ..schema import EventFlag, EventKind
from .damage import WildNumber
from .event_columns import EventColumns

HELD_MAX: Final = 10_000
REPEATED_RULE: Final = "a depth update must not end at or before the one before"
OVERTAKEN_RULE: Final = "a depth update must be newer than the snapshot"


@dataclass(frozen=True, kw_only=True, slots=True)
class Depth:
    """One depth update; `previous_id` is None on spot."""

    first_id: int
    last_id: int
    previous_id: int | None
    bids: list[tuple[str, str]]
    asks: list[tuple[str, str]]
    ts_ns: int
    recv_ns: int
    path: Path
    row: int

    def raw(self) -> dict[str, object]:
        """Return what the update says, by the venue's names."""
        return {
            "U": self.first_id, "u": self.last_id, "pu": self.previous_id, "b": self.bids, "a": self.asks
        }  # fmt: skip

    def follows(self, last_id: int) -> bool:
        """Whether nothing is missing between `last_id` and this."""
        return self.previous_id == last_id if self.previous_id is not None else self.first_id == last_id + 1

    def reaches_back_to(self, snapshot_id: int) -> bool:
        """Whether nothing is missing between a snapshot and this, which may overlap it."""
        if self.previous_id is not None:
            return self.previous_id <= snapshot_id
        return self.first_id <= snapshot_id + 1

    def is_in(self, snapshot_id: int) -> bool:
        """Whether a snapshot holds all of it."""
        return self.last_id < snapshot_id if self.previous_id is not None else self.last_id <= snapshot_id


class DepthSync:
    """Turns updates and snapshots into LEVEL events.

    Parameters
    ----------
    columns : EventColumns
    left : LeftOut
    strict : bool
        Make a gap an error.
    replacing : bool
        There are snapshots alone: each is the book.

    Attributes
    ----------
    applied_id : int or None
        Last id that the book shows after the latest line, None where that line changed nothing.
    complete : bool
        Every level within the snapshot's reach is known.
    """

    def __init__(
        self, columns: EventColumns, left: LeftOut, *, strict: bool, replacing: bool = False
    ) -> None:
        self._columns, self._left, self._strict = columns, left, strict
        self._replacing = replacing
        self._held: deque[Depth] = deque(maxlen=HELD_MAX)
        self._last_id: int | None = None
        self._snapshot_id: int | None = None
        self._wild = WildNumber()
        self.applied_id: int | None = None
        self.complete = False
        self._grown = False

    def update(self, depth: Depth) -> None:
        """Take an update."""
        if not self.complete:
            if self._last_id is None and len(self._held) == HELD_MAX:
                self._grow()
            self._held.append(depth)
            if self._last_id is None:
                return
        self._apply(depth, ts_ns=depth.ts_ns, recv_ns=depth.recv_ns)

    def _apply(self, depth: Depth, *, ts_ns: int, recv_ns: int, same_packet: bool = False) -> None:
        last_id, old = self._last_id, self._what_makes_it_old(depth)
        if old is not None and not self._wild.refused(ts_ns):
            self._reject(old, depth)
            return
        self._wild.taken(ts_ns)
        if not same_packet:
            self._columns.packet()
        fits = last_id is None or (
            depth.follows(last_id) if self._snapshot_id is None else depth.reaches_back_to(self._snapshot_id)
        )
        if not fits or old is not None:
            self._gap(depth, ts_ns=ts_ns, recv_ns=recv_ns)
        self._last_id, self._snapshot_id = depth.last_id, None
        self._levels(depth.bids, depth.asks, ts_ns=ts_ns, recv_ns=recv_ns, row=depth.row)
        self.applied_id = depth.last_id

    def _what_makes_it_old(self, depth: Depth) -> str | None:
        if self._last_id is None:
            return None
        if depth.last_id < self._last_id or (depth.last_id == self._last_id and self._snapshot_id is None):
            return REPEATED_RULE
        return OVERTAKEN_RULE if self._snapshot_id is not None and depth.is_in(self._snapshot_id) else None

    def _gap(self, depth: Depth, *, ts_ns: int, recv_ns: int) -> None:
        found = f"U {depth.first_id}" if depth.previous_id is None else f"pu {depth.previous_id}"
        rule = f"depth update must follow id {self._last_id}, was {found}"
        if self._strict:
            raise DataError(rule, path=depth.path, row=depth.row)
        self._left.miss("the depth sequence, the book cleared at each", rule)
        self.complete = False
        self._held.clear()
        self._held.append(depth)
        self._columns.mark(ts_ns=ts_ns, recv_ns=recv_ns, row=depth.row, kind=EventKind.CLEAR)

    def snapshot(
        self,
        snapshot_id: int,
        bids: list[tuple[str, str]],
        asks: list[tuple[str, str]],
        *,
        ts_ns: int,
        recv_ns: int,
        path: Path,
        row: int,
    ) -> None:
        """Take a snapshot: the book as of `snapshot_id`."""
        if self.complete and (not self._replacing or snapshot_id == self._last_id):
            self._left.pass_over("snapshots of a complete book")
            return
        held = [depth for depth in self._held if not depth.is_in(snapshot_id)]
        if self._last_id is None:
            # Held until now and never applied; after a gap they were applied as they came.
            for depth in self._held:
                if depth.is_in(snapshot_id):
                    self._reject(OVERTAKEN_RULE, depth)
        self._held.clear()
        self._columns.packet()
        self._columns.mark(
            ts_ns=ts_ns, recv_ns=recv_ns, row=row, kind=EventKind.CLEAR, flags=EventFlag.SNAPSHOT
        )
        self._levels(bids, asks, ts_ns=ts_ns, recv_ns=recv_ns, row=row, flags=EventFlag.SNAPSHOT)
        self._last_id = self._snapshot_id = snapshot_id
        self._wild.taken(ts_ns)
        self.applied_id, self.complete = snapshot_id, True
        for depth in held:
            # Known only now, so one packet with the snapshot, at its time.
            self._apply(depth, ts_ns=ts_ns, recv_ns=recv_ns, same_packet=True)

    def _reject(self, rule: str, depth: Depth) -> None:
        self._left.reject(rule, file=depth.path, row=depth.row, raw=depth.raw())

    def _grow(self) -> None:
        """Give up waiting for a snapshot."""
        held = list(self._held)
        self._held.clear()
        self._grown = bool(held)
        if held:
            first = held[0]
            self._columns.packet()
            self._columns.mark(ts_ns=first.ts_ns, recv_ns=first.recv_ns, row=first.row, kind=EventKind.CLEAR)
        for depth in held:
            self._apply(depth, ts_ns=depth.ts_ns, recv_ns=depth.recv_ns)

    def _levels(
        self,
        bids: list[tuple[str, str]],
        asks: list[tuple[str, str]],
        *,
        ts_ns: int,
        recv_ns: int,
        row: int,
        flags: int = 0,
    ) -> None:
        for side, levels in ((1, bids), (-1, asks)):
            self._columns.levels(side, levels, ts_ns=ts_ns, recv_ns=recv_ns, row=row, flags=flags)

    def finish(self) -> None:
        """Apply what is still held at the end of the recording."""
        if self._last_id is None:
            self._grow()

    def notes(self) -> tuple[str, ...]:
        """Say where the sequence broke."""
        found = []
        if self._grown:
            found.append("no depth snapshot: levels that never changed are unknown")
        return tuple(found)

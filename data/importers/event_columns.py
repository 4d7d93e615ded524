"""From messages to arrays of EVENT_DTYPE, a block at a time.

A message is one or more groups: levels of one side, or a single order or trade. Groups are gathered as Python
lists and their prices and sizes as text, checked as they come; a whole block is converted at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ext.decimal_text import first_bad_pair

from ..columns import PRICE_TICKS_MAX
from ..errors import DataError
from ..quarantine import LeftOut
from ..schema import EVENT_DTYPE, QUOTE_DTYPE, EventFlag, EventKind
from .grid import SIZE_LOTS_MAX, Grid, OffGrid

_RESTING: Final = (
    EventKind.ADD, EventKind.CANCEL, EventKind.REDUCE, EventKind.EXECUTE, EventKind.LEVEL,
)  # fmt: skip
SEQ_MASK: Final = (1 << 32) - 1
QUOTE_SIZE_LOTS_MAX: Final = (1 << 32) - 1
_USUAL_EVENTS: Final = 1_024
_UNITS_MAX: Final = (1 << 63) - 1
BEYOND_RULE: Final = f"price must be at most {PRICE_TICKS_MAX} ticks"
REORDER_NS: Final = 2 * 10**9
"""How far apart in venue time two streams of one recording may arrive and still be merged in order."""


class EventColumns:
    """Gathers groups of events until `take` turns them into an array.

    Parameters
    ----------
    grid : Grid
    instrument_id : int
    left : LeftOut, optional
        Takes resting orders and levels whose price no event can hold.
    """

    def __init__(self, grid: Grid, *, instrument_id: int = 0, left: LeftOut | None = None) -> None:
        self._grid, self._instrument_id, self._left = grid, instrument_id, left or LeftOut()
        self._groups: list[tuple[int, int, int, int, int, int, int, int, int]] = []
        self._texts: list[str] = []
        self._packet = 0
        self._usual_ticks: int | None = None
        self.path = Path()

    def __len__(self) -> int:
        return len(self._texts) // 2

    def place(self) -> tuple[int, int]:
        """Return where the columns end, for `back_to`."""
        return len(self._groups), len(self._texts)

    def back_to(self, place: tuple[int, int]) -> None:
        """Forget what was added behind a place."""
        del self._groups[place[0] :]
        del self._texts[place[1] :]

    def packet(self) -> None:
        """Begin a packet: the last event of the one before carries LAST_IN_PACKET."""
        self._packet += 1

    def require(self, pairs: Sequence[Sequence[str]], *, row: int, kind: int = EventKind.LEVEL) -> None:
        """Refuse prices and sizes that no event of a kind can hold.

        Raises
        ------
        OffGrid
            A number falls between two ticks or lots.
        DataError
            It is none, or too large; or it needs a grid so fine that the prices before would not fit it.
        """
        price, size = self._grid.price, self._grid.size
        price_max = _UNITS_MAX if kind in _RESTING else PRICE_TICKS_MAX
        size_max = QUOTE_SIZE_LOTS_MAX if kind == EventKind.QUOTE else SIZE_LOTS_MAX
        if price.step == size.step == 1:
            at = first_bad_pair(pairs, price.decimals, price_max, size.decimals, size_max)
            if at < 0:
                return
            pairs = pairs[at : at + 1]
        for pair in pairs:
            self._require_one(pair[0], pair[1], price_max, size_max, row)

    def _require_one(self, price: str, size: str, price_max: int, size_max: int, row: int) -> None:
        try:
            ticks, lots = self._grid.level((price, size), path=self.path, row=row)
        except OffGrid as error:
            if error.name == "price" and abs(self._usual()) > PRICE_TICKS_MAX // error.finer_by(
                self._grid.price
            ):
                raise DataError(error.rule, path=self.path, row=row) from error
            raise
        if abs(ticks) > price_max:
            raise DataError(
                f"price must be at most {price_max} ticks of {self._grid.price}, was {price[:40]!r}",
                path=self.path,
                row=row,
            )
        if lots > size_max:
            raise DataError(
                f"size must be at most {size_max} lots of {self._grid.size}, was {size[:40]!r}",
                path=self.path,
                row=row,
            )

    def _usual(self) -> int:
        """Return the median of the prices before, in ticks; 0 at the beginning."""
        if self._usual_ticks is None and self._texts:
            rows = np.zeros(len(self._texts) // 2, np.int64)
            self._usual_ticks = int(np.median(self._grid.ticks(self._texts[0::2], path=self.path, rows=rows)))
        return self._usual_ticks or 0

    def add(
        self,
        pairs: Sequence[tuple[str, str]],
        *,
        ts_ns: int,
        recv_ns: int,
        row: int,
        kind: int,
        side: int = 0,
        flags: int = 0,
        order_id: int = 0,
        is_checked: bool = False,
    ) -> None:
        """Add one event for each (price, size); refuses all of them as `require` does, unless it has."""
        if not is_checked:
            self.require(pairs, row=row, kind=kind)
        before = len(self._texts)
        self._texts.extend(chain.from_iterable(pairs))
        self._groups.append(
            (ts_ns, recv_ns, row, kind, side, flags, order_id, self._packet, (len(self._texts) - before) // 2)
        )

    def levels(
        self,
        side: int,
        pairs: Sequence[tuple[str, str]],
        *,
        ts_ns: int,
        recv_ns: int,
        row: int,
        flags: int = 0,
    ) -> None:
        """Add the levels of a side that a book's message told, if any; the importer has checked them."""
        if pairs:
            self.add(
                pairs, ts_ns=ts_ns, recv_ns=recv_ns, row=row, kind=EventKind.LEVEL, side=side, flags=flags,
                is_checked=True,
            )  # fmt: skip

    def quote(
        self, bid: tuple[str, str], ask: tuple[str, str], *, ts_ns: int, recv_ns: int, row: int
    ) -> None:
        """Add a two-sided quote: a bid and an ask in order, joined by `take`."""
        self.add((bid, ask), ts_ns=ts_ns, recv_ns=recv_ns, row=row, kind=EventKind.QUOTE)

    def mark(self, *, ts_ns: int, recv_ns: int, row: int, kind: int, flags: int = 0, size: str = "0") -> None:
        """Add an event without a price: CLEAR or STATUS."""
        self.add(
            (("0", size),), ts_ns=ts_ns, recv_ns=recv_ns, row=row, kind=kind, flags=flags, is_checked=True
        )

    def take(self) -> NDArray[np.void]:
        """Return what was gathered and forget it; call where a packet ends."""
        if not self._groups:
            return np.empty(0, EVENT_DTYPE)
        ts_ns, recv_ns, row, kind, side, flags, order_id, packets, counts = zip(*self._groups, strict=True)
        group = np.repeat(np.arange(len(counts)), counts)
        rows = np.array(row, np.int64)[group]
        packet = np.array(packets, np.int64)[group]
        events = np.zeros(len(group), EVENT_DTYPE)
        for name, values in (
            ("ts_ns", ts_ns), ("recv_ns", recv_ns), ("kind", kind), ("side", side), ("flags", flags),
            ("order_id", order_id),
        ):  # fmt: skip
            events[name] = np.array(values, EVENT_DTYPE[name])[group]
        events["seq"] = rows & SEQ_MASK
        events["instrument_id"] = self._instrument_id
        events["size_lots"] = self._grid.lots(self._texts[1::2], path=self.path, rows=rows)
        ticks = self._grid.ticks(self._texts[0::2], path=self.path, rows=rows)
        if self._usual_ticks is None or len(ticks) >= _USUAL_EVENTS:
            self._usual_ticks = int(np.median(ticks))
        within = np.abs(ticks) <= PRICE_TICKS_MAX
        events["price_ticks"] = np.where(within, ticks, 0)
        if not within.all():
            self._reject_beyond(events, within, rows)
            events, rows, packet = events[within], rows[within], packet[within]
        last = np.append(packet[1:] != packet[:-1], True)[: len(events)]
        events["flags"][last] |= np.uint8(EventFlag.LAST_IN_PACKET)
        self._groups, self._texts = [], []
        return self._join_quotes(events)

    def _reject_beyond(
        self, events: NDArray[np.void], within: NDArray[np.bool_], rows: NDArray[np.int64]
    ) -> None:
        """Reject what rests beyond 30 bits of ticks (asks at 9,999,999,997)."""
        for at in np.flatnonzero(~within).tolist():
            price, size = self._texts[2 * at : 2 * at + 2]
            if events["size_lots"][at] == 0 and events["flags"][at] & EventFlag.SNAPSHOT:
                continue  # the importer's own: it forgets a level that was rejected when it came
            self._left.reject(
                BEYOND_RULE, file=self.path, row=int(rows[at]),
                raw={"price": price, "size": size, "side": events["side"][at]},
            )  # fmt: skip

    def _join_quotes(self, events: NDArray[np.void]) -> NDArray[np.void]:
        """Make one event of each quote's bid and ask."""
        parts = np.flatnonzero(events["kind"] == EventKind.QUOTE)
        if len(parts) == 0:
            return events
        bids, asks = parts[0::2], parts[1::2]
        quotes = events.view(QUOTE_DTYPE)
        quotes["ask_price_ticks"][bids] = events["price_ticks"][asks]
        quotes["ask_size_lots"][bids] = events["size_lots"][asks]
        touching = (events["price_ticks"][bids] >= events["price_ticks"][asks]) & (
            (events["size_lots"][bids] > 0) & (events["size_lots"][asks] > 0)
        )
        events["flags"][bids] = events["flags"][asks]
        events["flags"][bids[touching]] |= np.uint8(EventFlag.CROSSED)
        kept = np.ones(len(events), bool)
        kept[asks] = False
        return events[kept]


class TimeOrder:
    """Puts events of several streams of one feed in order of venue time.

    Streams of one connection (depth, trades) arrive a little out of step. Events are held until venue time
    has moved on by `horizon_ns`; what still arrives later than that is given the time already reached, and
    counted. Within one stream, time never runs backwards here: the importers see to that before.
    """

    def __init__(self, horizon_ns: int = REORDER_NS) -> None:
        self._horizon_ns = horizon_ns
        self._held = np.empty(0, EVENT_DTYPE)
        self._reached_ns = np.iinfo(np.int64).min
        self.late = 0

    def push(self, events: NDArray[np.void]) -> NDArray[np.void]:
        """Take events in order of arrival and return those that nothing can precede any more."""
        joined = np.concatenate((self._held, events))
        if len(joined) == 0:
            return joined
        return self._release(joined, int(joined["ts_ns"].max()) - self._horizon_ns)

    def flush(self) -> NDArray[np.void]:
        """Return what is left."""
        return self._release(self._held, np.iinfo(np.int64).max)

    def _release(self, joined: NDArray[np.void], until_ns: int) -> NDArray[np.void]:
        late = joined["ts_ns"] < self._reached_ns
        self.late += int(late.sum())
        joined["ts_ns"][late] = self._reached_ns
        # Stable: the events of a packet share one time and stay together.
        joined = joined[np.argsort(joined["ts_ns"], kind="stable")]
        cut = int(np.searchsorted(joined["ts_ns"], until_ns))
        self._held = joined[cut:].copy()
        if cut:
            self._reached_ns = int(joined["ts_ns"][cut - 1])
        return joined[:cut]


def in_blocks(pieces: Iterable[NDArray[np.void]], block_events: int) -> Iterator[NDArray[np.void]]:
    """Join small arrays until they reach about `block_events`."""
    held: list[NDArray[np.void]] = []
    count = 0
    for piece in pieces:
        if len(piece):
            held.append(piece)
            count += len(piece)
        if count >= block_events:
            yield np.concatenate(held)
            held, count = [], 0
    if held:
        yield np.concatenate(held)

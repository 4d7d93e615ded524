"""DBN records as events; the rules stand in ``docs/importers/DATABENTO.md``."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ext.book_table import BookTable

from ..columns import PRICE_TICKS_MAX, TS_NS_MAX
from ..errors import DataError
from ..instrument import Instrument
from ..quarantine import LeftOut
from ..schema import EVENT_DTYPE, QUOTE_DTYPE, RECV_NOT_RECORDED, EventFlag, EventKind
from .dbn_records import MBO_DTYPE, MBP10_DTYPE, PRICE_UNDEFINED, SAMPLED_QUOTES, TIME_UNDEFINED, TRADE_DTYPE
from .event_columns import SEQ_MASK
from .grid import OffGrid, Scale

_LAST: Final = 128
_SNAPSHOT: Final = 32
_SIDES: Final = {b"B": 1, b"A": -1, b"N": 0, b"": 0}
_ID_MAX: Final = (1 << 63) - 1
FILLS: Final = "fills: the cancellation or modification behind each changes the book"

_ACTIONS: Final = np.frombuffer(b"ACMRTFN", np.uint8)
_MODIFY, _CLEAR, _TRADE, _FILL = b"MRTF"
_KIND_OF: Final = np.zeros(256, np.uint8)
_KIND_OF[np.frombuffer(b"ACMRT", np.uint8)] = (
    EventKind.ADD, EventKind.REDUCE, EventKind.CANCEL, EventKind.CLEAR, EventKind.TRADE,
)  # fmt: skip
_EVENTS_OF: Final = np.zeros(256, np.intp)
_EVENTS_OF[np.frombuffer(b"ACMRT", np.uint8)] = (1, 1, 2, 1, 1)

_STATE_EVENTS_MAX: Final = 4_096

_Depth = tuple[NDArray[np.int64], NDArray[np.int64]]
_NO_DEPTH: Final = (np.zeros(10, np.int64), np.zeros(10, np.int64))


class DbnEvents:
    """Turns runs of records into events, keeping what one run must know of those before.

    Parameters
    ----------
    instrument : Instrument
    left : LeftOut
        Takes what becomes no event.
    strict : bool
        Make time that runs backwards an error.
    """

    def __init__(self, instrument: Instrument, *, left: LeftOut, strict: bool) -> None:
        scale = Scale.of(instrument.price_increment, name="price_increment")
        self._nano_per_tick = scale.step * 10 ** (9 - scale.decimals)
        self._instrument, self._left, self._strict = instrument, left, strict
        self._book = BookTable(65_536, 4_096)
        self._depth: list[_Depth] = [_NO_DEPTH, _NO_DEPTH]
        self._reached_ns = 0
        self._held = np.empty(0, EVENT_DTYPE)
        self.path = Path()

    def of(self, records: NDArray[np.void], rows: NDArray[np.intp], *, quoted: bool) -> NDArray[np.void]:
        """Return the events of records of one type, up to the last end of a packet.

        Parameters
        ----------
        records : array of one of the layouts of `dbn_records`
        rows : array of int
            Position of each in the file.
        quoted : bool
            A trade carries the quote before it (TBBO).
        """
        if len(records) == 0:
            return np.empty(0, EVENT_DTYPE)
        rtype = int(records["rtype"][0])
        times = self._times(records, rows, sampled=rtype in SAMPLED_QUOTES)
        if records.dtype == MBO_DTYPE:
            picked = self._orders_of(records, rows)
        elif records.dtype == TRADE_DTYPE:
            picked = self._trades_of(records, rows, np.ones(len(records), bool))
        elif records.dtype == MBP10_DTYPE:
            picked = self._levels_of(records, rows)
        else:
            picked = self._quotes_of(records, rows, quoted=quoted, sampled=rtype in SAMPLED_QUOTES)
        place, events = picked
        for name, values in zip(("ts_ns", "recv_ns"), times, strict=True):
            events[name] = values[place]
        events["seq"] = rows[place] & SEQ_MASK
        events["instrument_id"] = self._instrument.instrument_id
        snapshot = records["flags"][place] & _SNAPSHOT != 0
        events["flags"][snapshot] |= np.uint8(EventFlag.SNAPSHOT)
        return self._packets(events, place, records["flags"] & _LAST != 0)

    def state(self) -> dict[str, Any] | None:
        """Return what runs to come must know of those before, as JSON, but for the book of all orders.

        None where so much is held back that it is too long to write down.
        """
        if len(self._held) > _STATE_EVENTS_MAX:
            return None
        return {
            "reached_ns": self._reached_ns,
            "held": self._held.tolist(),
            "depth": [[part.tolist() for part in side] for side in self._depth],
        }

    def go_on(self, state: Mapping[str, Any]) -> None:
        """Stand where another reading was."""
        self._reached_ns = state["reached_ns"]
        self._held = np.array([tuple(event) for event in state["held"]], EVENT_DTYPE)
        bids, asks = ([np.array(part, np.int64) for part in side] for side in state["depth"])
        self._depth = [(bids[0], bids[1]), (asks[0], asks[1])]

    def restart(self, records: NDArray[np.void], rows: NDArray[np.intp]) -> NDArray[np.void]:
        """Forget the book, since the records that follow are of another instrument id; return a CLEAR."""
        self._book, self._depth = BookTable(65_536, 4_096), [_NO_DEPTH, _NO_DEPTH]
        clear = np.zeros(1, EVENT_DTYPE)
        sampled = int(records["rtype"][0]) in SAMPLED_QUOTES
        clear["ts_ns"], clear["recv_ns"] = self._times(records[:1], rows[:1], sampled=sampled)
        clear["seq"], clear["instrument_id"] = rows[0] & SEQ_MASK, self._instrument.instrument_id
        clear["kind"], clear["flags"] = EventKind.CLEAR, EventFlag.LAST_IN_PACKET
        return clear

    def finish(self) -> NDArray[np.void]:
        """Return what was held back because its packet had not ended."""
        held, self._held = self._held, np.empty(0, EVENT_DTYPE)
        held["flags"][-1:] |= np.uint8(EventFlag.LAST_IN_PACKET)
        return held

    def _packets(
        self, events: NDArray[np.void], place: NDArray[np.intp], ends: NDArray[np.bool_]
    ) -> NDArray[np.void]:
        """Mark the last event of every packet, even if its last record gave none; hold back the open one."""
        packet = np.concatenate(([0], np.cumsum(ends)[:-1]))[place]
        closed = int(ends.sum())
        last = np.append(packet[1:] != packet[:-1], True)[: len(events)] & (packet < closed)
        events["flags"][last] |= np.uint8(EventFlag.LAST_IN_PACKET)
        if closed and len(self._held) and not (packet == 0).any():
            self._held["flags"][-1] |= np.uint8(EventFlag.LAST_IN_PACKET)
        joined = np.concatenate((self._held, events))
        marks = np.flatnonzero(joined["flags"] & EventFlag.LAST_IN_PACKET)
        cut = int(marks[-1]) + 1 if len(marks) else 0
        self._held = joined[cut:].copy()
        return joined[:cut]

    def _times(
        self, records: NDArray[np.void], rows: NDArray[np.intp], *, sampled: bool
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return (ts_ns, recv_ns)."""
        received = records["ts_recv"]
        known = received != TIME_UNDEFINED
        # An order in a snapshot tells when it was placed, a sampled quote when it last changed.
        restated = (records["flags"] & _SNAPSHOT != 0) | sampled
        stamps = np.where(restated & known, received, records["ts_event"])
        bad = (stamps > TS_NS_MAX) | (known & (received > TS_NS_MAX))
        if bad.any():
            at = int(np.argmax(bad))
            raise DataError(
                f"time must lie between 1970 and 2200, was {stamps[at]} ns", path=self.path, row=int(rows[at])
            )
        ts_ns = stamps.astype(np.int64)
        reached = np.maximum.accumulate(np.concatenate(([self._reached_ns], ts_ns)))
        late = ts_ns < reached[:-1]
        if late.any():
            at = int(np.argmax(late))
            if self._strict:
                raise DataError(
                    f"time must not run backwards: expected at least {reached[at]} ns, was {ts_ns[at]}",
                    path=self.path,
                    row=int(rows[at]),
                )
            self._left.pass_over("times that ran backwards, raised to the time before", int(late.sum()))
        self._reached_ns = int(reached[-1])
        return reached[1:], np.where(known, received, 0).astype(np.int64) + np.where(
            known, 0, RECV_NOT_RECORDED
        )

    def _ticks(self, prices: NDArray[np.int64], rows: NDArray[np.intp]) -> NDArray[np.int64]:
        """Return prices in ticks; 0 where undefined."""
        defined = prices != PRICE_UNDEFINED
        ticks, rest = np.divmod(np.where(defined, prices, 0), self._nano_per_tick)
        bad = (rest != 0) | (np.abs(ticks) > PRICE_TICKS_MAX)
        if bad.any():
            at = int(np.argmax(bad))
            rule = (
                f"price must be a multiple of {self._instrument.price_increment:g} within 30 bits of it, "
                f"was {prices[at]} units of 1e-9"
            )
            if rest[at]:
                text = format(Decimal(int(prices[at])).scaleb(-9), "f")
                raise OffGrid(rule, name="price", text=text, path=self.path, row=int(rows[at]))
            raise DataError(rule, path=self.path, row=int(rows[at]))
        return ticks

    def _sides(self, records: NDArray[np.void], rows: NDArray[np.intp]) -> NDArray[np.int8]:
        bids, asks = records["side"] == b"B", records["side"] == b"A"
        side: NDArray[np.int8] = bids.astype(np.int8) - asks.astype(np.int8)
        known = np.isin(records["side"], list(_SIDES))
        if not known.all():
            at = int(np.argmin(known))
            raise DataError(
                f"side must be B, A or N, was {records['side'][at]!r}", path=self.path, row=int(rows[at])
            )
        return side

    def _trades_of(
        self, records: NDArray[np.void], rows: NDArray[np.intp], chosen: NDArray[np.bool_]
    ) -> tuple[NDArray[np.intp], NDArray[np.void]]:
        place = np.flatnonzero(chosen)
        events = np.zeros(len(place), EVENT_DTYPE)
        events["kind"] = EventKind.TRADE
        # The aggressor's side, as the venue told it.
        events["side"] = self._sides(records[place], rows[place])
        events["price_ticks"] = self._ticks(records["price"][place], rows[place])
        events["size_lots"] = records["size"][place]
        return place, events

    def _quotes_of(
        self, records: NDArray[np.void], rows: NDArray[np.intp], *, quoted: bool, sampled: bool
    ) -> tuple[NDArray[np.intp], NDArray[np.void]]:
        trades = np.zeros(len(records), bool) if sampled else records["action"] == b"T"
        trade_place, trade_events = self._trades_of(records, rows, trades)
        place = np.arange(len(records)) if quoted else np.flatnonzero(~trades)
        quotes = np.zeros(len(place), QUOTE_DTYPE)
        level = records["levels"][place, 0]
        for side in ("bid", "ask"):
            present = level[f"{side}_px"] != PRICE_UNDEFINED
            quotes[f"{side}_price_ticks"] = self._ticks(level[f"{side}_px"], rows[place])
            quotes[f"{side}_size_lots"] = np.where(present, level[f"{side}_sz"], 0)
        quotes["kind"] = EventKind.QUOTE
        both = (quotes["bid_size_lots"] > 0) & (quotes["ask_size_lots"] > 0)
        touching = both & (quotes["bid_price_ticks"] >= quotes["ask_price_ticks"])
        quotes["flags"][touching] = EventFlag.CROSSED
        joined = np.concatenate((place, trade_place))
        order = np.argsort(joined, kind="stable")
        return joined[order], np.concatenate((quotes.view(EVENT_DTYPE), trade_events))[order]

    def _orders_of(
        self, records: NDArray[np.void], rows: NDArray[np.intp]
    ) -> tuple[NDArray[np.intp], NDArray[np.void]]:
        """Turn MBO records into order events; a modification is a CANCEL and an ADD, or a REDUCE."""
        action, order_id = records["action"].view(np.uint8), records["order_id"]
        self._require_orders(records, rows, action)
        self._left.pass_over(FILLS, int((action == _FILL).sum()))
        place = np.repeat(np.arange(len(records)), _EVENTS_OF[action])
        events = np.zeros(len(place), EVENT_DTYPE)
        kinds = action[place]
        second = np.append(False, place[1:] == place[:-1])[: len(place)]
        events["kind"] = np.where(second, EventKind.ADD, _KIND_OF[kinds])
        events["order_id"] = np.where(kinds == _TRADE, 0, order_id[place])
        events["price_ticks"] = self._ticks(records["price"], rows)[place]
        events["size_lots"], events["side"] = records["size"][place], self._sides(records, rows)[place]
        events["seq"] = rows[place] & SEQ_MASK
        clears = kinds == _CLEAR
        for name in ("order_id", "price_ticks", "size_lots", "side"):
            events[name][clears] = 0
        # What an order had before it is modified stands in a book of all orders.
        asked = (kinds == _MODIFY) & ~second
        for name in ("price_ticks", "size_lots", "side"):
            events[name][asked] = 0
        self._book.complete(events)
        return self._modified(place, events, asked)

    def _modified(
        self, place: NDArray[np.intp], events: NDArray[np.void], asked: NDArray[np.bool_]
    ) -> tuple[NDArray[np.intp], NDArray[np.void]]:
        """Keep the place in the queue where a modification only takes lots away."""
        before = np.flatnonzero(asked)
        old, new = events[before], events[before + 1]
        unknown = old["side"] == 0
        self._left.pass_over("modifications of unknown orders, taken as additions", int(unknown.sum()))
        lowered = ~unknown & (old["price_ticks"] == new["price_ticks"]) & (old["side"] == new["side"])
        lowered &= new["size_lots"] <= old["size_lots"]
        events["kind"][before[lowered]] = EventKind.REDUCE
        events["size_lots"][before[lowered]] = (old["size_lots"] - new["size_lots"])[lowered]
        kept = np.ones(len(events), bool)
        kept[before[unknown]] = False
        kept[before[lowered & (old["size_lots"] == new["size_lots"])]] = False
        kept[before[lowered] + 1] = False
        kept[before[~lowered & (new["size_lots"] == 0)] + 1] = False
        return place[kept], events[kept]

    def _require_orders(
        self, records: NDArray[np.void], rows: NDArray[np.intp], action: NDArray[np.uint8]
    ) -> None:
        for bad, rule, name in (
            (records["order_id"] > _ID_MAX, "order ids must fit 63 bits", "order_id"),
            (~np.isin(action, _ACTIONS), "action must be one of A, C, M, R, T, F, N", "action"),
        ):
            if bad.any():
                at = int(np.argmax(bad))
                raise DataError(f"{rule}, was {records[name][at]!r}", path=self.path, row=int(rows[at]))

    def _levels_of(
        self, records: NDArray[np.void], rows: NDArray[np.intp]
    ) -> tuple[NDArray[np.intp], NDArray[np.void]]:
        """Turn ten-level books into the levels that changed, and trades."""
        trades, clears = records["action"] == b"T", records["action"] == b"R"
        # Ranks put what one record says in order: the clearing, a side's levels that left, those there now.
        places, parts, ranks = [], [], []

        def add(place: NDArray[np.intp], rank: int, events: NDArray[np.void]) -> None:
            places.append(place)
            parts.append(events)
            ranks.append(np.full(len(place), rank))

        place, events = self._trades_of(records, rows, trades)
        add(place, 0, events)
        cleared = np.zeros(int(clears.sum()), EVENT_DTYPE)
        cleared["kind"] = EventKind.CLEAR
        add(np.flatnonzero(clears), 0, cleared)
        books = np.flatnonzero(~trades)
        for rank, (name, side) in enumerate((("bid", 1), ("ask", -1))):
            levels = records["levels"][books]
            prices = self._ticks(levels[f"{name}_px"].ravel(), np.repeat(rows[books], 10)).reshape(-1, 10)
            sizes = np.where(levels[f"{name}_px"] == PRICE_UNDEFINED, 0, levels[f"{name}_sz"]).astype(
                np.int64
            )
            change = _Change(self._depth[rank], prices, sizes, clears[books])
            self._depth[rank] = (prices[-1], sizes[-1]) if len(books) else self._depth[rank]
            for at, (changed, ticks, lots) in enumerate((change.gone(), change.there())):
                levels_now = np.zeros(len(changed), EVENT_DTYPE)
                levels_now["kind"], levels_now["side"] = EventKind.LEVEL, side
                levels_now["price_ticks"], levels_now["size_lots"] = ticks, lots
                add(books[changed], 1 + 2 * rank + at, levels_now)
        joined, events = np.concatenate(places), np.concatenate(parts)
        order = np.lexsort((np.concatenate(ranks), joined))
        return joined[order], events[order]


class _Change:
    """What changed on one side from each book of ten levels to the next.

    Parameters
    ----------
    before : tuple of (prices, sizes)
        The book that stood; of one row each.
    prices, sizes : array of int, shape (n, 10)
        Size 0 is no level.
    clears : array of bool, shape (n,)
        Nothing stands before these.
    """

    def __init__(
        self, before: _Depth, prices: NDArray[np.int64], sizes: NDArray[np.int64], clears: NDArray[np.bool_]
    ) -> None:
        old_prices = np.concatenate((before[0][None], prices[:-1]))[: len(prices)]
        old_sizes = np.concatenate((before[1][None], sizes[:-1]))[: len(sizes)].copy()
        old_sizes[clears] = 0
        # Most records touch one side: the ten-by-ten comparison is for the rest.
        self._at = np.flatnonzero(((old_prices != prices) | (old_sizes != sizes)).any(axis=1))
        self._old, self._now = (
            (old_prices[self._at], old_sizes[self._at]),
            (prices[self._at], sizes[self._at]),
        )
        self._same = self._old[0][:, :, None] == self._now[0][:, None, :]
        self._same &= (self._old[1] > 0)[:, :, None] & (self._now[1] > 0)[:, None, :]

    def gone(self) -> tuple[NDArray[np.intp], NDArray[np.int64], NDArray[np.int64]]:
        """Return (row, price, 0) of levels that left."""
        row, level = np.nonzero((self._old[1] > 0) & ~self._same.any(axis=2))
        return self._at[row], self._old[0][row, level], np.zeros(len(row), np.int64)

    def there(self) -> tuple[NDArray[np.intp], NDArray[np.int64], NDArray[np.int64]]:
        """Return (row, price, size) of levels that came or changed."""
        unchanged = (self._same & (self._old[1][:, :, None] == self._now[1][:, None, :])).any(axis=1)
        row, level = np.nonzero((self._now[1] > 0) & ~unchanged)
        return self._at[row], self._now[0][row, level], self._now[1][row, level]

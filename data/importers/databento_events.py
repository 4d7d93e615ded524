"""DBN records as events; the rules stand in ``docs/importers/DATABENTO.md``."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ..columns import PRICE_TICKS_MAX, TS_NS_MAX
from ..errors import DataError
from ..instrument import Instrument
from ..schema import EVENT_DTYPE, QUOTE_DTYPE, RECV_NOT_RECORDED, EventFlag, EventKind
from .dbn_records import MBO_DTYPE, MBP10_DTYPE, PRICE_UNDEFINED, SAMPLED_QUOTES, TIME_UNDEFINED, TRADE_DTYPE
from .event_columns import SEQ_MASK
from .grid import Scale

_LAST: Final = 128
_SNAPSHOT: Final = 32
_SIDES: Final = {b"B": 1, b"A": -1, b"N": 0, b"": 0}
_ID_MAX: Final = (1 << 63) - 1


class DbnEvents:
    """Turns runs of records into events, keeping what one run must know of those before.

    Parameters
    ----------
    instrument : Instrument
    left : Counter
        Counts what is left out, by what it is.
    strict : bool
        Make time that runs backwards an error.
    """

    def __init__(self, instrument: Instrument, *, left: Counter[str], strict: bool) -> None:
        scale = Scale.of(instrument.price_increment, name="price_increment")
        self._nano_per_tick = scale.step * 10 ** (9 - scale.decimals)
        self._instrument, self._left, self._strict = instrument, left, strict
        self._orders: dict[int, tuple[int, int, int]] = {}
        self._depth: tuple[dict[int, int], dict[int, int]] = ({}, {})
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
            self._left["times that ran backwards, raised to the time before"] += int(late.sum())
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
            raise DataError(
                f"price must be a multiple of {self._instrument.price_increment:g} within 30 bits of it, "
                f"was {prices[at]} units of 1e-9",
                path=self.path,
                row=int(rows[at]),
            )
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
        """Turn MBO records into order events; a modification needs to know the order it changes."""
        ticks = self._ticks(records["price"], rows).tolist()
        sides = self._sides(records, rows).tolist()
        found: list[tuple[int, int, int, int, int, int]] = []
        orders, left = self._orders, self._left
        for place, (action, order_id, size) in enumerate(
            zip(
                records["action"].tolist(),
                records["order_id"].tolist(),
                records["size"].tolist(),
                strict=True,
            )
        ):
            price, side = ticks[place], sides[place]
            if order_id > _ID_MAX:
                raise DataError(
                    f"order ids must fit 63 bits, was {order_id}", path=self.path, row=int(rows[place])
                )
            if action == b"A":
                orders[order_id] = (price, size, side)
                found.append((place, EventKind.ADD, order_id, price, size, side))
            elif action == b"C":
                known = orders.get(order_id)
                if known is not None and size < known[1]:
                    orders[order_id] = (known[0], known[1] - size, known[2])
                else:
                    orders.pop(order_id, None)
                found.append((place, EventKind.REDUCE, order_id, price, size, side))
            elif action == b"M":
                known = orders.get(order_id)
                orders[order_id] = (price, size, side)
                if known is not None and known[0] == price and known[2] == side and size <= known[1]:
                    # Fewer lots at the same price keep their place in the queue.
                    if size < known[1]:
                        found.append((place, EventKind.REDUCE, order_id, price, known[1] - size, side))
                    continue
                if known is not None:
                    found.append((place, EventKind.CANCEL, order_id, known[0], known[1], known[2]))
                else:
                    left["modifications of unknown orders, taken as additions"] += 1
                found.append((place, EventKind.ADD, order_id, price, size, side))
            elif action == b"T":
                found.append((place, EventKind.TRADE, 0, price, size, side))
            elif action == b"R":
                orders.clear()
                found.append((place, EventKind.CLEAR, 0, 0, 0, 0))
            elif action == b"F":
                left["fills: the cancellation or modification behind each changes the book"] += 1
            elif action != b"N":
                raise DataError(
                    f"action must be one of A, C, M, R, T, F, N, was {action!r}",
                    path=self.path,
                    row=int(rows[place]),
                )
        return _gathered(found)

    def _levels_of(
        self, records: NDArray[np.void], rows: NDArray[np.intp]
    ) -> tuple[NDArray[np.intp], NDArray[np.void]]:
        """Turn ten-level books into the levels that changed, and trades."""
        found: list[tuple[int, int, int, int, int, int]] = []
        sides = self._sides(records, rows).tolist()
        prices = {
            side: self._ticks(records["levels"][f"{name}_px"].ravel(), np.repeat(rows, 10))
            .reshape(-1, 10)
            .tolist()
            for side, name in ((1, "bid"), (-1, "ask"))
        }
        sizes = {
            side: np.where(
                records["levels"][f"{name}_px"] == PRICE_UNDEFINED, 0, records["levels"][f"{name}_sz"]
            ).tolist()
            for side, name in ((1, "bid"), (-1, "ask"))
        }
        trade_ticks = self._ticks(records["price"], rows).tolist()
        for place, (action, size) in enumerate(
            zip(records["action"].tolist(), records["size"].tolist(), strict=True)
        ):
            if action == b"T":
                found.append((place, EventKind.TRADE, 0, trade_ticks[place], size, sides[place]))
                continue
            if action == b"R":
                for held in self._depth:
                    held.clear()
                found.append((place, EventKind.CLEAR, 0, 0, 0, 0))
            for held, side in zip(self._depth, (1, -1), strict=True):
                now = {
                    price: lots
                    for price, lots in zip(prices[side][place], sizes[side][place], strict=True)
                    if lots
                }
                for price in held.keys() - now.keys():
                    found.append((place, EventKind.LEVEL, 0, price, 0, side))
                for price, lots in now.items():
                    if held.get(price) != lots:
                        found.append((place, EventKind.LEVEL, 0, price, lots, side))
                held.clear()
                held.update(now)
        return _gathered(found)


def _gathered(
    found: list[tuple[int, int, int, int, int, int]],
) -> tuple[NDArray[np.intp], NDArray[np.void]]:
    """Return (place of the record, events) of (place, kind, order id, price, size, side)."""
    events = np.zeros(len(found), EVENT_DTYPE)
    if not found:
        return np.empty(0, np.intp), events
    place, kind, order_id, price, size, side = zip(*found, strict=True)
    events["kind"], events["side"] = kind, side
    events["order_id"] = np.array(order_id, np.uint64)
    events["price_ticks"], events["size_lots"] = price, size
    return np.array(place, np.intp), events

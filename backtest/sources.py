"""What a backtest reads: any source of events, checked for what the engine relies on.

Trades alone make no book. `TradeQuotes` therefore states a quote of one tick around each trade: a
buyer's trade was at the offer, a seller's at the bid, and where the side is not recorded the last
change of price tells (Lee & Ready 1991, the tick rule). Both sides show the size of that trade. An
order that takes gets at most that much until the next trade; an order that rests fills from trades
only, never because a stated quote moved over it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from os import PathLike
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from data.errors import DataError
from data.events import EventSource, StoreEvents, open_events
from data.instrument import Instrument
from data.schema import EVENT_DTYPE, QUOTE_DTYPE, EventFlag, EventKind

VENUE_LIMIT: Final = 16
DataLike = str | PathLike[str] | NDArray[np.void] | EventSource

_QUOTE_SIZE_MAX: Final = (1 << 32) - 1


class ArraySource:
    """Events that stand in memory."""

    def __init__(self, events: NDArray[np.void], instrument: Instrument | None = None) -> None:
        if events.dtype != EVENT_DTYPE or events.ndim != 1 or events.size == 0:
            raise DataError(
                "expected a filled one-dimensional array of EVENT_DTYPE, "
                f"was {events.dtype} of shape {events.shape}",
                path="array",
            )
        self._events = np.ascontiguousarray(events)
        self.instrument = instrument or Instrument(
            symbol="ARRAY", instrument_id=int(events["instrument_id"][0])
        )
        self.notes: tuple[str, ...] = ()

    @property
    def source(self) -> str:
        return f"{len(self._events):,} events from memory"

    @property
    def data_hash(self) -> str:
        return hashlib.sha256(self._events.view(np.uint8).data).hexdigest()

    def blocks(self, block_events: int = 65_536) -> Iterator[NDArray[np.void]]:
        """Yield slices of the array."""
        for row in range(0, len(self._events), block_events):
            yield self._events[row : row + block_events]


class TradeQuotes:
    """A source of trades with the quotes they imply (see the module's note)."""

    def __init__(self, trades: EventSource) -> None:
        self._trades = trades
        self.instrument = trades.instrument

    @property
    def source(self) -> str:
        return self._trades.source

    @property
    def data_hash(self) -> str:
        return self._trades.data_hash

    @property
    def notes(self) -> tuple[str, ...]:
        return (
            *self._trades.notes,
            "only trades are recorded: the book is one tick wide around the last trade and shows its size",
        )

    def blocks(self, block_events: int = 65_536) -> Iterator[NDArray[np.void]]:
        """Yield each trade followed by its quote, as one packet."""
        price, side = None, 1
        for trades in self._trades.blocks(max(1, block_events // 2)):
            sides = trade_sides(trades, price_before=price, side_before=side)
            yield with_quotes(trades, sides, step_ticks=self.instrument.tick_size_ticks)
            price, side = int(trades["price_ticks"][-1]), int(sides[-1])


def trade_sides(trades: NDArray[np.void], *, price_before: int | None, side_before: int) -> NDArray[np.int8]:
    """Return the aggressor of each trade: the recorded one, else the sign of the last change of price."""
    prices = trades["price_ticks"].astype(np.int64)
    first = prices[0] if price_before is None else price_before
    moves = np.sign(np.diff(prices, prepend=first)).astype(np.int8)
    sides = np.where(trades["side"] != 0, trades["side"], moves)
    known = np.maximum.accumulate(np.where(sides != 0, np.arange(len(sides)), -1))
    filled: NDArray[np.int8] = np.where(known >= 0, sides[known], side_before).astype(np.int8)
    return filled


def with_quotes(trades: NDArray[np.void], sides: NDArray[np.int8], *, step_ticks: int) -> NDArray[np.void]:
    """Interleave trades with the quotes that stand after them."""
    events = np.zeros(2 * len(trades), EVENT_DTYPE)
    events[0::2] = trades
    events["flags"][0::2] &= np.uint8(~int(EventFlag.LAST_IN_PACKET) & 0xFF)
    quotes = events[1::2].view(QUOTE_DTYPE)
    for name in ("ts_ns", "recv_ns", "seq", "instrument_id", "venue_id"):
        quotes[name] = trades[name]
    buyer = sides > 0
    quotes["ask_price_ticks"] = trades["price_ticks"] + np.where(buyer, 0, step_ticks)
    quotes["bid_price_ticks"] = trades["price_ticks"] - np.where(buyer, step_ticks, 0)
    quotes["ask_size_lots"] = np.minimum(trades["size_lots"], _QUOTE_SIZE_MAX)
    quotes["bid_size_lots"] = np.minimum(trades["size_lots"], _QUOTE_SIZE_MAX)
    quotes["kind"] = EventKind.QUOTE
    # A snapshot states the book and brings nobody: what traded has traded with the trade.
    quotes["flags"] = EventFlag.LAST_IN_PACKET | EventFlag.SNAPSHOT
    return events


@dataclass(frozen=True, kw_only=True, slots=True)
class Feed:
    """A source ready to be run.

    Parameters
    ----------
    source : EventSource
    queue : str
        The queue model that suits the data: flow for quotes, otherwise pessimistic.
    venue_count : int
        Venues of a store, or that occur in the first block.
    """

    source: EventSource
    queue: str
    venue_count: int


def open_source(data: DataLike, instrument: Instrument | None) -> EventSource:
    """Return the source that `data` is or names."""
    if isinstance(data, np.ndarray):
        return ArraySource(data, instrument)
    if isinstance(data, (str, PathLike)):
        return open_events(Path(data), instrument=instrument)
    return data


def open_feed(data: DataLike, instrument: Instrument | None = None) -> Feed:
    """Open a source and look at its first block to tell what it holds.

    Raises
    ------
    DataError
        There are no events, or the files break their format's rules.
    """
    source = open_source(data, instrument)
    first = next(source.blocks(4_096), None)
    if first is None or len(first) == 0:
        raise DataError("expected events, was empty", path=place_of(data))
    venue_count = source.venue_count if isinstance(source, StoreEvents) else int(first["venue_id"].max()) + 1
    kinds = set(np.unique(first["kind"]).tolist())
    if kinds == {int(EventKind.TRADE)}:
        source = TradeQuotes(source)
    queue = "flow" if int(EventKind.QUOTE) in kinds else "pessimistic"
    return Feed(source=source, queue=queue, venue_count=min(venue_count, VENUE_LIMIT))


def place_of(data: Any) -> str:
    """Return what to call the data in an error."""
    return str(data) if isinstance(data, (str, PathLike)) else type(data).__name__


def checked_blocks(
    source: EventSource, *, venue_count: int, place: str, block_events: int = 16_384
) -> Iterator[NDArray[np.void]]:
    """Yield the source's blocks once they hold what the engine relies on.

    Raises
    ------
    DataError
        Time runs backwards, a venue has no configuration, an event is of no known kind, another
        instrument occurs, or no packet ends in the first block (strategies act at the end of packets).
    """
    row, previous_ns = 0, np.iinfo(np.int64).min
    blocks = source.blocks(block_events)
    first = next(blocks, None)
    if first is None:
        return
    if not (first["flags"] & EventFlag.LAST_IN_PACKET).any():
        raise DataError("expected events with the flag LAST_IN_PACKET, was none", path=place, row=0)
    identity = source.instrument.instrument_id
    for events in chain((first,), blocks):
        ts_ns = events["ts_ns"]
        rules = (
            ("ts_ns", ts_ns >= _shifted(ts_ns, previous_ns), "must not run back"),
            (
                "venue_id",
                events["venue_id"] < venue_count,
                f"must be below {venue_count}, the venues configured",
            ),
            ("kind", (events["kind"] >= 1) & (events["kind"] <= max(EventKind)), "must be 1 to 9"),
            (
                "instrument_id",
                events["instrument_id"] == identity,
                f"must be {identity}, the run's instrument",
            ),
        )
        for name, holds, rule in rules:
            if not holds.all():
                at = int(np.argmin(holds))
                raise DataError(f"{name} {rule}, was {events[name][at]}", path=place, row=row + at)
        row, previous_ns = row + len(events), int(ts_ns[-1])
        yield np.ascontiguousarray(events)


def _shifted(ts_ns: NDArray[np.int64], previous_ns: int) -> NDArray[np.int64]:
    return np.concatenate((np.array([previous_ns], np.int64), ts_ns[:-1]))

"""What stood before a Bitstamp log began, which no line of it says.

1. An order that is changed or deleted without having been created stood before.
2. An order that never changes has no event at all. The pushed books show it: where a level holds more than
   the replayed orders whenever the level is within a push's reach, the least surplus stood all along.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ext.order_book import OrderBook

from ..errors import DataError
from .bitstamp_lines import Order, Snapshot, Trade, parse_line, same_number, text_of
from .grid import Grid, is_plain
from .text_lines import lines

EVIDENCE_PUSHES: Final = 10
"""A level that fewer pushes show may be an event that a push overtook."""
_COMPARED_LEVELS: Final = 256

Level = tuple[int, int, int]


@dataclass(frozen=True, kw_only=True, slots=True)
class Beginning:
    """What the first pass found.

    Parameters
    ----------
    standing : list of Order
        Seen without having been created, as first seen.
    executed : dict of int to str
        What the trade behind their first event took of them, by id.
    reordered : frozenset of int
        Ids whose deletion was logged before their creation.
    unchanging : tuple of (side, price in ticks, lots)
        What the pushed books show from beginning to end and no event explains.
    """

    standing: list[Order]
    executed: dict[int, str]
    reordered: frozenset[int]
    unchanging: tuple[Level, ...] = ()


def find_beginning(paths: Sequence[Path], market: str) -> Beginning:
    """Find the orders that stood before the log, and those whose events are logged in the wrong order.

    Parameters
    ----------
    paths : sequence of Path
    market : str
        Of the websocket's channels, "" for a log.
    """
    live: set[int] = set()
    unknown: dict[int, Order] = {}
    reordered: set[int] = set()
    executed: dict[int, str] = {}
    # The unknown order that the next trade is about: fills are logged before their trade.
    lowered: Order | None = None
    first_id: int | None = None
    for path in paths:
        for row, line in lines(path):
            try:
                _, _, told, name, record = parse_line(line, path=path, row=row)
            except DataError:
                continue  # counted and set aside when the events are read
            if told != market or not _is_readable(record):
                continue
            if isinstance(record, Trade) and lowered is not None:
                if same_number(record.price, lowered.price):
                    executed.setdefault(lowered.id, text_of(record.amount))
                lowered = None
            if not isinstance(record, Order):
                continue
            if name == "order_created":
                first_id = record.id if first_id is None else first_id
                if unknown.pop(record.id, None) is not None:
                    reordered.add(record.id)
                else:
                    live.add(record.id)
            elif record.id not in live and record.id not in unknown:
                unknown[record.id] = record
                if name == "order_changed" or not text_of(record.amount).strip("0."):
                    lowered = record
            if name == "order_deleted":
                live.discard(record.id)
    # Ids grow, so one above the first created is an order whose creation the log lost, mostly a market order.
    standing = [order for order in unknown.values() if first_id is None or order.id < first_id]
    return Beginning(standing=standing, executed=executed, reordered=frozenset(reordered))


def _is_readable(record: Order | Trade | Snapshot | None) -> bool:
    if not isinstance(record, Order | Trade):
        return True
    texts = text_of(record.price), text_of(record.amount)
    return all(is_plain(text) and not text.startswith("-") for text in texts)


class Push(NamedTuple):
    """A pushed book, where it stands, and the events since the one before."""

    path: Path
    row: int
    events: NDArray[np.void]
    book: Snapshot


def find_unchanging(pushes: Iterable[Push], grid: Grid) -> tuple[Level, ...]:
    """Return what pushed books hold beyond the replayed orders, at every push that reaches the level."""
    book, surplus = OrderBook(), _Surplus()
    for path, row, events, push in pushes:
        book.apply(events)
        for side, levels in ((1, push.bids), (-1, push.asks)):
            pushed = dict(grid.level(pair, path=path, row=row) for pair in levels)
            known = {price: lots for price, lots in book.depth_array(side, _COMPARED_LEVELS).tolist() if lots}
            surplus.see(side, pushed, known)
    return surplus.lasting()


class _Surplus:
    """The least that each pushed level held beyond the known orders."""

    def __init__(self) -> None:
        self._least: dict[tuple[int, int], int] = {}
        # The prices of each side that still have one: all others are settled, and there are many.
        self._left: dict[int, set[int]] = {1: set(), -1: set()}
        self._seen: Counter[tuple[int, int]] = Counter()
        self._reach: dict[int, int] = {}

    def see(self, side: int, pushed: dict[int, int], known: dict[int, int]) -> None:
        if not pushed:
            return
        for price, lots in pushed.items():
            key = (side, price)
            if key not in self._least:
                # Within an earlier push's reach and not in it: it came later.
                missed = side in self._reach and side * price > side * self._reach[side]
                self._least[key] = 0 if missed else lots
                self._left[side].add(price)
            if price in self._left[side]:
                self._least[key] = min(self._least[key], lots - known.get(price, 0))
                self._seen[key] += 1
        worst = min(pushed, key=lambda price: side * price)
        for price in tuple(self._left[side]):
            if side * price > side * worst and price not in pushed:
                self._least[side, price] = 0
            if self._least[side, price] <= 0:
                self._left[side].discard(price)
        before = self._reach.get(side, worst)
        self._reach[side] = min(before, worst, key=lambda price: side * price)

    def lasting(self) -> tuple[Level, ...]:
        return tuple(
            (side, price, lots)
            for (side, price), lots in sorted(self._least.items())
            if lots > 0 and self._seen[side, price] >= EVIDENCE_PUSHES
        )

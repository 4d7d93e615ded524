"""LOBSTER files of a generated day, with the shares of a recorded one.

Orders stand in a whole book; a file with one level tells of those at the best price of a side, and of that
level after each message. Levels enter and leave this window as they do in recordings, so that an importer has
about as much to state beyond the messages.
"""

from __future__ import annotations

import zipfile
from datetime import date, timedelta
from pathlib import Path
from typing import Final

import numpy as np

_FIRST_DAY: Final = date(2012, 6, 4)
_OPENING_NS: Final = 34_200 * 10**9
_SESSION_NS: Final = 23_400 * 10**9
_CENT: Final = 100
_SPACING: Final = 8 * _CENT
_LEVELS: Final = 12
# Fewer orders join a queue the longer it is, so that levels empty and the touch moves as often as recorded.
_ADD_SHARES: Final = (0.5, 0.2, 0.1)
# Of what remains; hidden executions are the rest.
_DELETED, _EXECUTED = 0.45, 0.82
_SAME_TIME_SHARE: Final = 0.12

Level = list[list[int]]
"""Orders as [id, size], first come first."""


class _Side:
    """One side's levels by price; sign is +1 for bids."""

    def __init__(self, sign: int, best: int) -> None:
        self.sign, self.levels = (
            sign,
            {best - sign * _SPACING * place: [[0, 100]] for place in range(_LEVELS)},
        )

    def best(self) -> int:
        return max(self.levels) if self.sign > 0 else min(self.levels)

    def add(self, price: int, order_id: int, size: int) -> None:
        """Enter an order, and drop the furthest levels, of which the file never tells."""
        self.levels.setdefault(price, []).append([order_id, size])
        while len(self.levels) > 2 * _LEVELS:
            del self.levels[min(self.levels) if self.sign > 0 else max(self.levels)]

    def take(self, price: int, at: int, size: int) -> None:
        """Lower an order; an empty level leaves, and a new one stands at the far end."""
        level = self.levels[price]
        level[at][1] -= size
        if level[at][1] == 0:
            del level[at]
        if not level:
            del self.levels[price]
            self.levels[self.best() - self.sign * _SPACING * _LEVELS] = [[0, 100]]


def lobster_day(rows: int, *, seed: int) -> tuple[bytes, bytes]:
    """Return the message and the orderbook file of one day with one level."""
    draw = np.random.default_rng(seed)
    chance, where = draw.random(rows).tolist(), draw.integers(0, 2, rows).tolist()
    sizes = draw.choice((100, 100, 100, 50, 200, 18, 1, 300), rows).tolist()
    steps = draw.exponential(_SESSION_NS / rows, rows) * (draw.random(rows) > _SAME_TIME_SHARE)
    clocks = (_OPENING_NS + np.cumsum(steps).astype(np.int64)).tolist()
    sides = _Side(1, 5_850_000), _Side(-1, 5_851_500)
    messages, books = [], []
    for place in range(rows):
        side, other = sides if where[place] else sides[::-1]
        told = _step(side, other, chance[place], sizes[place], 16_000_000 + place)
        seconds, ns = divmod(clocks[place], 10**9)
        messages.append(b"%d.%09d,%d,%d,%d,%d,%d\n" % (seconds, ns, *told, side.sign))
        books.append(_window(*sides))
    return b"".join(messages), b"".join(books)


def _step(side: _Side, other: _Side, chance: float, size: int, order_id: int) -> tuple[int, int, int, int]:
    """Change the book; return type, id, size and price,."""
    best = side.best()
    level = side.levels[best]
    adds = _ADD_SHARES[min(len(level), len(_ADD_SHARES)) - 1]
    if chance < adds:
        inside = (other.best() - best) * side.sign > _CENT
        price = best + side.sign * _CENT * inside
        side.add(price, order_id, size)
        return 1, order_id, size, price
    what = (chance - adds) / (1 - adds)
    if what >= _EXECUTED:
        return 5, 0, size, best + _CENT // 2
    deleted = what < _DELETED
    # Deletions are mostly of orders that came last.
    at = -1 if deleted else 0
    found, left = level[at]
    gone = left if deleted else min(left, size)
    side.take(best, at, gone)
    return (3 if deleted else 4), found, gone, best


def _window(bids: _Side, asks: _Side) -> bytes:
    bid, ask = bids.best(), asks.best()
    total = (sum(size for _, size in side.levels[price]) for side, price in ((asks, ask), (bids, bid)))
    ask_size, bid_size = total
    return b"%d,%d,%d,%d\n" % (ask, ask_size, bid, bid_size)


def write_lobster_days(folder: Path, day: tuple[bytes, bytes], *, days: int) -> None:
    """Write one day's files under as many dates."""
    for number in range(days):
        for part, text in zip(("message", "orderbook"), day, strict=True):
            (folder / _name(number, part)).write_bytes(text)


def zip_lobster_days(path: Path, day: tuple[bytes, bytes], *, days: int) -> None:
    """Write one zip with one day's files under as many dates."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for number in range(days):
            for part, text in zip(("message", "orderbook"), day, strict=True):
                archive.writestr(_name(number, part), text)


def _name(number: int, part: str) -> str:
    return f"X_{_FIRST_DAY + timedelta(days=number)}_34200000_57600000_{part}_1.csv"

"""Order-book rows for forecasting: ten levels of price and size on both sides, one row per packet.

Order of columns as in LOBSTER and FI-2010: ask price, ask size, bid price, bid size of level 1, then of
level 2 and so on. No column looks ahead, and none needs a scale from other days:

- Prices are distances, in half ticks, from the mid of the row before. A row therefore shows its own
  shape and the last move of the mid, and a window of rows the whole path, at any price level.
- Sizes are log(1 + lots), since queues span orders of magnitude.

A side with fewer levels is continued one tick further each, with size 0. What scales the columns is part
of the model (`Sub, Mul, Clip` with figures of its training days), as everywhere in this package.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from data.errors import ConfigError
from data.schema import EventFlag
from ext.order_book import OrderBook

from .arrays import Floats32

LEVEL_COUNT: Final = 10
FEATURE_COUNT: Final = 4 * LEVEL_COUNT
WINDOW: Final = 100
"""Rows a windowed model sees; Zhang, Zohren & Roberts (2019) use the same."""

FEATURE_NAMES: Final = tuple(
    f"{side}_{what}_{level}"
    for level in range(1, LEVEL_COUNT + 1)
    for side in ("ask", "bid")
    for what in ("price", "size")
)


@dataclass(frozen=True, kw_only=True)
class BookRows:
    """Rows of one continuous stretch of trading.

    Parameters
    ----------
    features : array of float32, shape (n, 40)
    mid_x2 : array of int64, shape (n,)
        Best bid plus best ask, in half ticks.
    skipped : int
        Packets after which the book had an empty or crossed side; they give no row.
    """

    features: Floats32
    mid_x2: NDArray[np.int64]
    skipped: int


class BookRowMaker:
    """Turns events into rows, block by block; the book carries over from block to block.

    Parameters
    ----------
    tick : int
        Price increments per tick: LOBSTER's prices count 0.0001 USD, and its tick is 100 of them.
    """

    def __init__(self, *, tick: int = 1) -> None:
        if tick < 1:
            raise ConfigError(f"tick must be a positive number of price increments, was {tick}")
        self._tick = tick
        self._book = OrderBook()
        self._mid_x2: int | None = None

    def rows(self, events: NDArray[np.void]) -> BookRows:
        """Apply events and return a row for each packet that leaves both sides of the book sound.

        Parameters
        ----------
        events : array of EVENT_DTYPE, shape (m,)
            Whole packets.
        """
        ends = np.flatnonzero(events["flags"] & EventFlag.LAST_IN_PACKET) + 1
        levels = np.empty((len(ends), 4, LEVEL_COUNT), np.int64)
        book, kept, start = self._book, 0, 0
        for stop in ends.tolist():
            book.apply(events[start:stop])
            start = stop
            if self._snapshot(book, levels[kept]):
                kept += 1
        book.apply(events[start:])
        levels = levels[:kept]
        mid_x2 = levels[:, 0, 0] + levels[:, 2, 0]
        before = np.concatenate([mid_x2[:1] if self._mid_x2 is None else [self._mid_x2], mid_x2[:-1]])
        if kept:
            self._mid_x2 = int(mid_x2[-1])
        return BookRows(
            features=_features(levels, before[:kept], tick=self._tick),
            mid_x2=mid_x2 // self._tick,
            skipped=len(ends) - kept,
        )

    def _snapshot(self, book: OrderBook, row: NDArray[np.int64]) -> bool:
        for place, side in ((0, -1), (2, 1)):
            depth = book.depth_array(side, LEVEL_COUNT)
            found = len(depth)
            if not found:
                return False
            row[place, :found], row[place + 1, :found] = depth.T
            if found < LEVEL_COUNT:
                beyond = np.arange(1, LEVEL_COUNT - found + 1)
                row[place, found:] = row[place, found - 1] - side * self._tick * beyond
                row[place + 1, found:] = 0
        return bool(row[0, 0] > row[2, 0])


def _features(levels: NDArray[np.int64], before_x2: NDArray[np.int64], *, tick: int) -> Floats32:
    """Return (n, 40) from (n, 4, levels): ask prices, ask sizes, bid prices, bid sizes."""
    features = np.empty((len(levels), LEVEL_COUNT, 4), np.float32)
    for place in (0, 2):
        features[:, :, place] = (2 * levels[:, place] - before_x2[:, None]) / tick
        features[:, :, place + 1] = np.log1p(levels[:, place + 1])
    return features.reshape(len(levels), FEATURE_COUNT)


def windows(features: Floats32, ends: NDArray[np.integer[Any]], *, window: int = WINDOW) -> Floats32:
    """Return the windows of rows that end at, and include, the given rows.

    Parameters
    ----------
    features : array of float32, shape (n, d)
    ends : array of int, shape (m,)
        Each at least ``window - 1``.

    Returns
    -------
    array of float32, shape (m, window, d), or (m, d) where the window is one row
    """
    if len(ends) and not window - 1 <= int(ends.min()) <= int(ends.max()) < len(features):
        raise ConfigError(
            f"windows of {window} rows must end within {window - 1} to {len(features) - 1}, "
            f"was {int(ends.min())} to {int(ends.max())}"
        )
    if window == 1:
        return np.ascontiguousarray(features[ends])
    sliding = np.lib.stride_tricks.sliding_window_view(features, window, axis=0)
    return np.ascontiguousarray(sliding[ends - (window - 1)].transpose(0, 2, 1))

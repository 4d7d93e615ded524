"""Kraken's CRC-32 over the ten best levels of either side: all that tells when an update is missing.

Once the checksum has agreed, one that does not says that the book is wrong, whether a line was damaged or
never came. The book is then cleared, and kept out of sight until a checksum agrees with it again: what was
missed changes soon where the touch is, and the venue's own word for ten levels is proof of those.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from ext.order_book import OrderBook

    from .depth_window import DepthWindow
    from .grid import Grid

CHECKED_LEVELS: Final = 10
CHECKSUM_RULE: Final = "the book must have the checksum that comes with an update"


class ChecksumWatch:
    """Whether a book may be shown.

    Attributes
    ----------
    shown : bool
        The book is believed.
    failed : bool
        The latest checksum should have agreed, and did not.
    """

    def __init__(self) -> None:
        self.shown, self.failed = True, False
        self._proven = self._doubted = False

    def begin(self) -> None:
        """Believe a snapshot."""
        self.shown, self._doubted = True, False

    def doubt(self) -> None:
        """Believe the book no more unless a checksum agrees."""
        self._doubted = True

    def look(self, told: int | None, windows: Mapping[int, DepthWindow], decimals: tuple[int, int]) -> None:
        """Compare a checksum with the book; None where an update carries none.

        One that has never agreed proves nothing: its rule may not be ours.
        """
        self.failed = False
        if told is not None and told == window_checksum(windows, decimals):
            self._proven, self._doubted, self.shown = True, False, True
        elif told is not None and self._proven:
            self.failed, self.shown = True, False
        elif self._doubted:
            self.shown = False


def window_checksum(windows: Mapping[int, DepthWindow], decimals: tuple[int, int]) -> int:
    """Return the CRC-32 of two windows of texts, see `book_checksum`."""
    text = "".join(
        _digits(price, decimals[0]) + _digits(size, decimals[1])
        for side in (-1, 1)
        for price, size in windows[side].best(CHECKED_LEVELS)
    )
    return zlib.crc32(text.encode())


@lru_cache(maxsize=1 << 16)
def _digits(text: str, decimals: int) -> str:
    whole, _, fraction = text.partition(".")
    return (whole + fraction.ljust(decimals, "0")).lstrip("0")


def book_checksum(book: OrderBook, grid: Grid, decimals: tuple[int, int]) -> int:
    """Return Kraken's CRC-32: price and volume of ten asks, then ten bids, without point and leading zeros.

    Parameters
    ----------
    book : OrderBook
    grid : Grid
        Of the book.
    decimals : tuple of int
        With which the venue writes prices and volumes.
    """
    price_step = grid.price.step * 10 ** (decimals[0] - grid.price.decimals)
    size_step = grid.size.step * 10 ** (decimals[1] - grid.size.decimals)
    text = "".join(
        f"{price * price_step}{size * size_step}"
        for side in (-1, 1)
        for price, size in book.depth_array(side, CHECKED_LEVELS).tolist()
        if size > 0
    )
    return zlib.crc32(text.encode())

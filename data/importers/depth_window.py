"""A book subscribed to a depth of L levels: the venue does not keep up to date what falls below level L."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Sequence

from ext.decimal_text import DECIMALS_MAX, decimal_units


class DepthWindow:
    """The prices on one side, and which of them an update pushes out.

    Parameters
    ----------
    side : int
        +1 for bids, -1 for asks.
    depth : int
        Levels the venue keeps up to date.
    decimals : int
        Of the prices.
    """

    def __init__(self, *, side: int, depth: int, decimals: int) -> None:
        self._side, self._depth, self._decimals = side, depth, min(decimals, DECIMALS_MAX)
        # Ascending in side * price, so the worst is first for both sides.
        self._ranks: list[int] = []
        self._levels: dict[int, tuple[str, str]] = {}

    def best(self, count: int | None = None) -> list[tuple[str, str]]:
        """Return the best levels, best first, as the venue wrote them; all without a count."""
        ranks = self._ranks if count is None else self._ranks[-count:]
        return [self._levels[rank] for rank in reversed(ranks)]

    def update(self, levels: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
        """Apply levels; return those that left at the bottom, as (price, "0")."""
        prices, good = decimal_units([price for price, _ in levels], self._decimals)
        for rank, level in zip((self._side * prices[:good]).tolist(), levels, strict=False):
            known = rank in self._levels
            if level[1].strip("0.") == "":
                if known:
                    del self._ranks[bisect_left(self._ranks, rank)]
                    del self._levels[rank]
                continue
            if not known:
                insort(self._ranks, rank)
            self._levels[rank] = level
        surplus = max(len(self._ranks) - self._depth, 0)
        gone = [(self._levels.pop(rank)[0], "0") for rank in self._ranks[:surplus]]
        del self._ranks[:surplus]
        return gone

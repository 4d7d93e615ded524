"""The queue as one choice sees it: deadlines ascending, and beside each the bin of its first answer's margin.

A ladder that cascades has dozens of rungs, and any of them may have to be held against a thousand requests.
So nothing here looks at requests one by one: bins are bytes, which are counted, translated and searched as
text is, and a rung's runs are a few array operations.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from operator import mul
from typing import Final

import numpy as np

_TAKEN: Final = 255
"""No variant of any ladder."""
BINS_MAX: Final = 256
_SHORT: Final = 64


class Line:
    """Requests that wait at one moment.

    Parameters
    ----------
    deadlines : sequence of int
        Ascending, not empty.
    bins : bytes
        Of the same requests; empty where they do not matter.
    bin_count : int
        Every bin is below it.
    guard_ns : int
        Kept free before every deadline.
    """

    def __init__(
        self,
        deadlines: Sequence[int],
        bins: bytes | bytearray,
        *,
        bin_count: int,
        now_ns: int,
        guard_ns: int,
        slowdown: float,
    ) -> None:
        self.bins, self.slowdown = bins, slowdown
        self._deadlines, self._spent_ns = deadlines, guard_ns + now_ns
        waiting = len(deadlines)
        marks = (waiting, waiting // 2, waiting // 4) if waiting > _SHORT else (waiting,)
        self._counts = [(mark, [bins.count(own, 0, mark) for own in range(bin_count)]) for mark in marks]

    def __len__(self) -> int:
        return len(self._deadlines)

    def room_ns(self, place: int) -> int:
        """Return the time that is left for the request at a place."""
        return self._deadlines[place] - self._spent_ns

    def head_variant(self, variants: Sequence[int]) -> int:
        """Return what a rung gives the head; its last entry is for requests without a bin."""
        return variants[self.bins[0] if self.bins else -1]

    def count(self, variants: Sequence[int], variant: int) -> int:
        """Return how many requests a rung gives this variant."""
        if not self.bins:
            return len(self)
        counts = self._counts[0][1]
        return sum([counts[own] for own, given in enumerate(variants) if given == variant])

    def places(self, variants: Sequence[int], variant: int, count: int) -> Sequence[int]:
        """Return the first places that a rung gives this variant; there are `count` at least."""
        if not self.bins:
            return range(count)
        given = self._given(variants)
        found, place = [], -1
        for _ in range(count):
            place = given.find(variant, place + 1)
            found.append(place)
        return found

    def at_least(self, variants: Sequence[int], least_ns: Sequence[float]) -> Iterator[tuple[int, float]]:
        """Tell of some places by when they are over at the earliest, if a request takes `least_ns`.

        Yields
        ------
        place : int
        time_ns : float
            For all up to this place, by the variants that the rung gives them.
        """
        for mark, counts in self._counts:
            yield mark - 1, sum(map(mul, counts, [least_ns[variant] for variant in variants]))

    def ends_in_time(
        self,
        variants: Sequence[int],
        head: Sequence[int],
        ready_ns: float,
        usable: float,
        batch_of: Callable[[int, int], tuple[int, float]],
    ) -> bool:
        """Return whether all behind the head's run end within `usable` of their time.

        A run begins with the tightest of its deadlines.

        Parameters
        ----------
        variants : sequence of int
            By bin.
        head : sequence of int
            Places that are over after `ready_ns`.
        batch_of : callable
            Given a variant and how many wait for it; returns how many run at once, and their time.
        """
        given = np.frombuffer(self._given(variants), np.uint8).copy()
        given[head] = _TAKEN
        starts, times = [], [np.array([ready_ns])]
        for variant in set(variants):
            places = np.flatnonzero(given == variant)
            if len(places):
                size, run_ns = batch_of(variant, len(places))
                starts.append(places[::size])
                times.append(np.full(len(starts[-1]), run_ns))
        if not starts:
            return True
        first = np.concatenate(starts)
        order = np.argsort(first)
        done_ns = np.cumsum(np.concatenate(times)[np.append(0, 1 + order)])[1:]
        room_ns = np.asarray(self._deadlines, np.int64)[first[order]] - self._spent_ns
        return not (done_ns > usable * room_ns).any()

    def _given(self, variants: Sequence[int]) -> bytes | bytearray:
        """Return the variant at every place."""
        return self.bins.translate(bytes(variants).ljust(256, bytes([_TAKEN])))

"""The queue as one choice sees it: deadlines ascending, and beside each the bin of its first answer's margin.

A ladder that cascades has dozens of rungs, and any of them may have to be held against a thousand requests.
So bins are bytes, which are counted, translated and searched as text is. Most rungs are refused by counts.
One that is not is walked along until it fails, which it does early if at all; of a long queue only the places
where runs begin are looked at, by array operations, which take longer than the walk up to some 300 requests.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from operator import mul
from typing import Final

import numpy as np
from numpy.typing import NDArray

_TAKEN: Final = 255
"""No variant of any ladder."""
BINS_MAX: Final = 256
_SHORT: Final = 256
"""Queues up to here are walked at once."""


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
    least_of : callable
        Given the slowdown, returns per variant what a request takes at the least; not asked of a short queue.
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
        least_of: Callable[[float], Sequence[float]],
    ) -> None:
        self.bins, self.slowdown = bins, slowdown
        self._least_of = least_of
        self._deadlines, self._spent_ns = deadlines, guard_ns + now_ns
        waiting = len(deadlines)
        self.is_short = waiting <= _SHORT
        marks = () if self.is_short else (waiting, waiting // 2, waiting // 4)
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
        if self.is_short:
            return self._given(variants).count(variant)
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

    @cached_property
    def least_ns(self) -> Sequence[float]:
        """What a request takes at the least, by variant; every rung is held against it."""
        return self._least_of(self.slowdown)

    def at_least(self, variants: Sequence[int]) -> Iterator[tuple[int, float]]:
        """Tell of some places by when they are over at the earliest.

        Of none in a short queue.

        Yields
        ------
        place : int
        time_ns : float
            For all up to this place, by the variants that the rung gives them.
        """
        own_ns = [self.least_ns[variant] for variant in variants]
        for mark, counts in self._counts:
            yield mark - 1, sum(map(mul, counts, own_ns))

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
        given = bytearray(self._given(variants))
        for place in head:
            given[place] = _TAKEN
        if not self.is_short:
            return self._long_ends_in_time(given, ready_ns, usable, batch_of)
        runs: dict[int, tuple[int, float]] = {}
        # By variant: how many more the run begun last takes. A batch is at most 64.
        room = bytearray(_TAKEN + 1)
        deadlines, spent_ns = self._deadlines, self._spent_ns
        for place, variant in enumerate(given):
            if room[variant]:
                room[variant] -= 1
            elif variant != _TAKEN:
                if variant not in runs:
                    runs[variant] = batch_of(variant, given.count(variant))
                size, run_ns = runs[variant]
                room[variant] = size - 1
                ready_ns += run_ns
                if ready_ns > usable * (deadlines[place] - spent_ns):
                    return False
        return True

    def _long_ends_in_time(
        self,
        given: bytearray,
        ready_ns: float,
        usable: float,
        batch_of: Callable[[int, int], tuple[int, float]],
    ) -> bool:
        """Return the same for a long queue, of which only the places where runs begin are looked at."""
        column = np.frombuffer(given, np.uint8)
        starts: list[NDArray[np.intp]] = [np.zeros(1, np.intp)]
        times_ns: list[NDArray[np.float64]] = [np.full(1, ready_ns)]
        for variant in set(given) - {_TAKEN}:
            places = np.flatnonzero(column == variant)
            size, run_ns = batch_of(variant, len(places))
            starts.append(places[::size])
            times_ns.append(np.full(len(starts[-1]), run_ns))
        first = np.concatenate(starts)
        order = np.argsort(first, kind="stable")
        over_ns = np.cumsum(np.concatenate(times_ns)[order])
        room_ns = np.asarray(self._deadlines)[first[order]] - self._spent_ns
        # The head was held against its own deadline before.
        return bool((over_ns[1:] <= usable * room_ns[1:]).all())

    def _given(self, variants: Sequence[int]) -> bytes | bytearray:
        """Return the variant at every place."""
        return self.bins.translate(bytes(variants).ljust(256, bytes([_TAKEN])))

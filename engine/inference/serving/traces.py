"""Loads to judge policies by: steady, bursty, daily, sudden, and made to hurt.

A trace is a list of arrivals and of times at which the machine was slower. Rates are in units of what all
workers can do with the largest model, times in deadlines, so that one trace means the same on any ladder:
its bursts are above what the largest model can do, and below what the smallest can.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import cos, pi

import numpy as np
from numpy.typing import NDArray

_SECOND_NS = 1_000_000_000


@dataclass(frozen=True, kw_only=True, slots=True)
class Trace:
    """One load.

    Parameters
    ----------
    arrivals_ns : array of int64
        Ascending, from 0.
    slow : tuple of (start_ns, end_ns, factor)
        When runs take `factor` times as long, as beside a hog; disjoint, ascending.
    """

    name: str
    family: str
    arrivals_ns: NDArray[np.int64]
    slow: tuple[tuple[int, int, float], ...] = ()

    def slowdown_at(self, now_ns: int) -> float:
        """Return how much longer runs take that start now."""
        for start_ns, end_ns, factor in self.slow:
            if start_ns <= now_ns < end_ns:
                return factor
        return 1.0

    def capacity(self, workers: int) -> Callable[[int], float]:
        """Return the function that gives the worker time available up to an instant."""

        def up_to(now_ns: int) -> float:
            lost = sum(
                (min(end_ns, now_ns) - start_ns) * (1.0 - 1.0 / factor)
                for start_ns, end_ns, factor in self.slow
                if start_ns < now_ns
            )
            return workers * (now_ns - lost)

        return up_to


def arrivals_of(
    rate: Callable[[float], float], peak: float, seconds: float, random: np.random.Generator
) -> NDArray[np.int64]:
    """Draw a Poisson process of changing rate by thinning (Lewis and Shedler, 1979).

    Parameters
    ----------
    rate : callable
        Requests per second at a time in seconds, at most `peak`.
    """
    count = random.poisson(peak * seconds)
    times = np.sort(random.uniform(0.0, seconds, count))
    wanted = np.fromiter((rate(float(time)) for time in times), np.float64, count)
    kept = times[random.uniform(0.0, peak, count) < wanted]
    return (kept * _SECOND_NS).astype(np.int64)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Scale:
    """What a load is drawn in: requests per second, seconds in all, seconds of a deadline."""

    unit: float
    seconds: float
    deadline_s: float


def standard_traces(
    capacity_rate: float, *, seconds: float, seed: int, deadline_ns: int = 50_000_000
) -> tuple[Trace, ...]:
    """Return the 24 loads that policies are compared on.

    Parameters
    ----------
    capacity_rate : float
        Requests per second that all workers together can answer with the largest model.
    seconds : float
        Of each trace; a diurnal trace holds a whole day in it.
    deadline_ns : int
        Bursts and calms last so many of it.
    """
    scale = _Scale(unit=capacity_rate, seconds=seconds, deadline_s=deadline_ns / _SECOND_NS)
    makers = [_poisson, _bursty, _diurnal, _flash, _adversarial]
    found: list[Trace] = []
    for family_index, maker in enumerate(makers):
        for index in range(4 if maker is _poisson else 5):
            random = np.random.default_rng((seed, family_index, index))
            found.append(maker(index, scale, random))
    return tuple(found)


def _poisson(index: int, scale: _Scale, random: np.random.Generator) -> Trace:
    load = (0.5, 1.2, 2.5, 6.0)[index]
    rate = load * scale.unit
    arrivals = arrivals_of(lambda time: rate, rate, scale.seconds, random)
    return Trace(name=f"poisson {load:g}", family="poisson", arrivals_ns=arrivals)


def _bursty(index: int, scale: _Scale, random: np.random.Generator) -> Trace:
    """Two-state MMPP: the rate jumps between calm and burst at exponential times."""
    burst = (3.0, 4.0, 6.0, 8.0, 12.0)[index]
    calm, calm_s, burst_s = 0.4, 20.0 * scale.deadline_s, 8.0 * scale.deadline_s
    changes, bursting, time = [0.0], [False], 0.0
    while time < scale.seconds:
        time += float(random.exponential(burst_s if bursting[-1] else calm_s))
        changes.append(time)
        bursting.append(not bursting[-1])
    starts = np.asarray(changes)

    def rate(at: float) -> float:
        return (burst if bursting[int(np.searchsorted(starts, at, "right")) - 1] else calm) * scale.unit

    arrivals = arrivals_of(rate, burst * scale.unit, scale.seconds, random)
    return Trace(name=f"bursty {burst:g}", family="bursty", arrivals_ns=arrivals)


def _diurnal(index: int, scale: _Scale, random: np.random.Generator) -> Trace:
    """Draw a day: quiet at its ends, busiest in its middle, with ripples of minutes."""
    peak = (2.0, 3.0, 5.0, 8.0, 12.0)[index]
    low, turn = 0.2, 2.0 * pi / scale.seconds

    def rate(at: float) -> float:
        day = 0.5 - 0.5 * cos(turn * at)
        ripple = 1.0 + 0.3 * cos(48.0 * turn * at)
        return (low + (peak - low) * day * day) * ripple * scale.unit

    arrivals = arrivals_of(rate, 1.3 * peak * scale.unit, scale.seconds, random)
    return Trace(name=f"diurnal {peak:g}", family="diurnal", arrivals_ns=arrivals)


def _flash(index: int, scale: _Scale, random: np.random.Generator) -> Trace:
    """Draw a quiet day with one crowd that comes within a deadline and leaves over an eighth of the day."""
    crowd = (4.0, 8.0, 12.0, 20.0, 30.0)[index]
    at_s, fade_s = 0.3 * scale.seconds, 0.12 * scale.seconds

    def rate(at: float) -> float:
        if at < at_s:
            return 0.4 * scale.unit
        rise = min((at - at_s) / scale.deadline_s, 1.0)
        return (0.4 + crowd * rise * float(np.exp(-(at - at_s) / fade_s))) * scale.unit

    arrivals = arrivals_of(rate, (crowd + 0.4) * scale.unit, scale.seconds, random)
    return Trace(name=f"flash {crowd:g}", family="flash", arrivals_ns=arrivals)


def _adversarial(index: int, scale: _Scale, random: np.random.Generator) -> Trace:
    """Draw what hurts a router: packs at one instant, pauses just long enough to step up, hogs."""
    end_ns = int(scale.seconds * _SECOND_NS)
    if index < 2:
        pause_s = (1.2, 5.0)[index] * scale.deadline_s
        pack = max(1, round((0.88, 0.845)[index] * scale.unit * pause_s))
        starts = np.arange(0.0, scale.seconds, pause_s)
        arrivals = np.repeat((starts * _SECOND_NS).astype(np.int64), pack)
        return Trace(name=f"packs of {pack}", family="adversarial", arrivals_ns=arrivals)
    if index == 2:
        # Bursts of half a deadline, pauses of one: each step up meets the next burst.
        def rate(at: float) -> float:
            return (8.0 if at / scale.deadline_s % 1.5 < 0.5 else 0.2) * scale.unit

        arrivals = arrivals_of(rate, 8.0 * scale.unit, scale.seconds, random)
        return Trace(name="see-saw", family="adversarial", arrivals_ns=arrivals)
    load, factor = ((1.5, 2.0), (3.0, 4.0))[index - 3]
    steady = load * scale.unit
    arrivals = arrivals_of(lambda time: steady, steady, scale.seconds, random)
    hogs = tuple((int(share * end_ns), int((share + 0.15) * end_ns), factor) for share in (0.1, 0.4, 0.7))
    return Trace(name=f"hog x{factor:g}", family="adversarial", arrivals_ns=arrivals, slow=hogs)

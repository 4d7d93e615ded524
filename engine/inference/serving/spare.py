"""How much of the machine's spare time others have just taken: who is new on cores that stood idle.

What a service does not use and what is not idle, others use. So a hog on every core shows at once on a
machine with time to spare, at any rate of requests: nothing is idle any more, and it was not us. Own latency
tells that only where there is enough work to be delayed, and the number of runnable threads by many looks.

A rival is new when others use more than of late, and

- either time that was idle is not any more. An own burst takes that too, but others do not use more then;
- or more threads want a core, at every look. That they use more is not enough where nothing is idle: others
  that were there all along, however low their priority, take whatever we leave.

How many they are, the threads say, by the fewest that were seen: one that waits for a disk makes a core not
idle, and wants none. What is idle beside them they cost nobody, as on a machine of many cores of which a
quota gives us few. Where idle time is not told nothing is said, and where its counter stands still, as in
some sandboxes, it is told as others' use from the start.

Counters move in steps of a hundredth of a second, so a window is read for the most that may have been idle,
and for the least that is so beside newcomers: rounding never makes a hog, nor hides one. Only the rise over
the recent level counts, and only until that has followed, as for the crowd in `pressure.py`; by then own time
has told.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import expm1, inf
from typing import Final, NamedTuple

from data.errors import ConfigError

from .readers import STEP_NS, CrowdReader, IdleReader, process_time_ns, usable_cores

# A look that took longer was interrupted, and its counters are of different moments.
_LOOK_NS_MAX: Final = 300_000
# Where more threads want a core, so much less use is news.
_NEWS_PER_CROWD: Final = 4.0


@dataclass(frozen=True, kw_only=True, slots=True)
class SpareLimits:
    """What a rise of others' use has to be like.

    Parameters
    ----------
    first_ns, last_ns : int
        Windows of at least and at most that length are judged. Shorter ones are everybody's housekeeping.
    memory_ns : int
        Time constant of the level that a rise is held against.
    news_min : float
        Share of the capacity that others have to take from what was idle, at the least; a quarter of that
        from what was ours.
    spacing_ns : int
        Looks that follow each other sooner are passed over.
    gap_ns : int
        After so long without a look all begins anew: what happened meanwhile is no news.
    """

    first_ns: int = 12_000_000
    last_ns: int = 40_000_000
    memory_ns: int = 300_000_000
    news_min: float = 0.2
    spacing_ns: int = 1_000_000
    gap_ns: int = 60_000_000

    def __post_init__(self) -> None:
        if not 0 < self.first_ns < self.last_ns < self.memory_ns or self.gap_ns < self.last_ns:
            raise ConfigError(f"windows must be 0 < first < last < memory, last <= gap, was {self}")


class _Look(NamedTuple):
    at_ns: int
    idle_ns: int
    own_ns: int
    # What all cores had by then and was neither, counted from any moment.
    used_ns: int
    others: float


class SpareGauge:
    """Turns counters into one number: how many times the load per core is what it was. Holds no clock.

    Parameters
    ----------
    cores : int
        Over which idle time and own time are counted.
    step_ns : int
        Of the counter of idle time.
    """

    __slots__ = ("_cores", "_crowd", "_idle", "_limits", "_looks", "_others", "_step_ns", "rise")

    def __init__(self, cores: int, *, step_ns: int = STEP_NS, limits: SpareLimits | None = None) -> None:
        self._cores, self._step_ns, self._limits = cores, step_ns, limits or SpareLimits()
        self._looks: deque[_Look] = deque()
        # Shares of the capacity that were idle and others' of late, and how many threads wanted a core.
        # Nothing is news before these are known.
        self._idle, self._others, self._crowd = 0.0, 1.0, float(cores)
        self.rise = 1.0
        """Load per core over its recent level, 1 where there is no news."""

    def observe(self, now_ns: int, *, idle_ns: int, own_ns: int, runnable: int = 0) -> float:
        """Take one look in; return the rise.

        Parameters
        ----------
        idle_ns, own_ns : int
            All cores' idle time, and all our threads' time on them; counted from any moment.
        runnable : int
            Threads that run or want to, this one included; 0 where that is not known.
        """
        limits = self._limits
        used_ns = self._cores * now_ns - idle_ns - own_ns
        look = _Look(now_ns, idle_ns, own_ns, used_ns, runnable - 1 if runnable > 0 else inf)
        if self._looks:
            last = self._looks[-1]
            if now_ns - last.at_ns > limits.gap_ns or idle_ns < last.idle_ns or own_ns < last.own_ns:
                self.forget()
            elif now_ns - last.at_ns < limits.spacing_ns:
                return self.rise
        self._looks.append(look)
        while now_ns - self._looks[0].at_ns > limits.last_ns:
            self._remember(self._looks.popleft(), self._looks[0])
        self.rise, crowd = 1.0, look.others
        # Most windows are no news by their use alone, which is all that is looked at then.
        least = (self._usual + limits.news_min / _NEWS_PER_CROWD) * self._cores
        told_ns, until_ns = used_ns - self._step_ns, now_ns - limits.first_ns
        for first in reversed(self._looks):
            crowd = min(crowd, first.others)
            if first.at_ns <= until_ns and told_ns - first.used_ns >= least * (now_ns - first.at_ns):
                self.rise = max(self.rise, self._rise(first, look, crowd))
        return self.rise

    def passed_over(self, now_ns: int) -> float:
        """Return the rise where a look came to nothing; after too long without one there is no news."""
        if self._looks and now_ns - self._looks[-1].at_ns > self._limits.gap_ns:
            self.forget()
        return self.rise

    def forget(self) -> None:
        """Begin a new window: counters are no longer those that they were."""
        self._looks.clear()
        self.rise = 1.0

    @property
    def _usual(self) -> float:
        return max(self._others, 0.0)

    def _rise(self, first: _Look, last: _Look, crowd: float) -> float:
        """Return the rise since a look after which others used as much more as a larger crowd asks for."""
        capacity_ns = self._cores * (last.at_ns - first.at_ns)
        idle, step = (last.idle_ns - first.idle_ns) / capacity_ns, self._step_ns / capacity_ns
        left, idle = max(idle - step, 0.0), idle + step
        usual, news_min = self._usual, self._limits.news_min
        news = (last.used_ns - first.used_ns) / capacity_ns - step - usual
        # Use says that they came, the crowd how many: one that gets half of a core wants all of it.
        if min(news, self._idle - idle) >= news_min:
            load = news if crowd == inf else crowd / self._cores
        elif crowd < inf:
            load = (crowd - self._crowd) / self._cores
        else:
            return 1.0
        return 1.0 + min(max(load - left, 0.0), 1.0) / (1.0 + usual)

    def _remember(self, first: _Look, last: _Look) -> None:
        """Let a window's oldest part become what is usual: what is judged is not in it yet."""
        past_ns = last.at_ns - first.at_ns
        capacity_ns = self._cores * past_ns
        idle = (last.idle_ns - first.idle_ns) / capacity_ns
        others = (last.used_ns - first.used_ns) / capacity_ns
        follows = -expm1(-past_ns / self._limits.memory_ns)
        self._idle += (idle - self._idle) * follows
        self._others += (others - self._others) * follows
        if last.others < inf:
            self._crowd += (last.others - self._crowd) * follows


class SpareWatch:
    """A gauge with the machine's counters: what a front has of it.

    Without idle times it sees nothing and costs nothing.

    Parameters
    ----------
    clock : callable
        In ns.
    """

    def __init__(self, *, clock: Callable[[], int] = time.monotonic_ns) -> None:
        cores = usable_cores()
        self._clock = clock
        self._idle = IdleReader(cores, machine_cores=os.cpu_count() or len(cores))
        self._crowd = CrowdReader()
        self._gauge = SpareGauge(len(cores), step_ns=self._idle.step_ns)
        self._workers: tuple[int, ...] = ()

    def look(self, workers: Sequence[int]) -> float:
        """Return how many times the load per core is what it was.

        Parameters
        ----------
        workers : sequence of int
            Ids of the processes that are no rivals, this one excepted.
        """
        if tuple(workers) != self._workers:
            self._workers = tuple(workers)
            self._gauge.forget()
        start_ns = self._clock()
        idle_ns = self._idle.read_ns()
        if idle_ns is None:
            return 1.0
        runnable, own_ns = self._crowd.read(), time.process_time_ns()
        for worker in self._workers:
            # One that is gone ran no more; its successor has another id.
            own_ns += process_time_ns(worker) or 0
        now_ns = self._clock()
        if now_ns - start_ns > _LOOK_NS_MAX:
            return self._gauge.passed_over(now_ns)
        return self._gauge.observe(now_ns, idle_ns=idle_ns, own_ns=own_ns, runnable=runnable)

    def close(self) -> None:
        """Give the descriptors back; again is harmless."""
        self._idle.close()
        self._crowd.close()

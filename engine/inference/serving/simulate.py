"""Policies on a simulated clock: a day in seconds, no thread, no sleep, the same answer every time.

A run takes its table time or longer, never less, so that the clairvoyant's bound of `oracle.py` holds: a
twentieth more on average, and twice in a thousand a stall of three times the table.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from heapq import heappop, heappush
from math import nan
from typing import Final

import numpy as np
from numpy.typing import NDArray

from .forecast import CostTable
from .oracle import value_bound
from .planning import ValueTable
from .policies import Policy, SimulatedRun
from .request import Request
from .traces import Trace

_NOISE_MEAN: Final = 0.04
_STALL_CHANCE: Final = 0.002
_STALL: Final = 3.0
_NOISE_COUNT: Final = 8_192
_FOREVER_NS: Final = 2**62


@dataclass(frozen=True, kw_only=True, slots=True)
class SimulatedDay:
    """What one policy made of one trace.

    Parameters
    ----------
    value : float
        Sum over requests answered in time.
    on_time, late, refused, dropped : int
        Add up to the number of requests.
    variant_counts : tuple of int
        On-time answers per variant.
    """

    policy: str
    trace: str
    family: str
    requests: int
    value: float
    on_time: int
    late: int
    refused: int
    dropped: int
    variant_counts: tuple[int, ...]


def requests_of(
    trace: Trace, *, deadline_ns: int, seed: int, margins: NDArray[np.float64] | None = None
) -> tuple[Request, ...]:
    """Return the requests of a trace.

    Parameters
    ----------
    margins : array of float64, optional
        Of first answers, to draw from; without them no request knows its own.
    """
    draw = _margins(margins, len(trace.arrivals_ns), seed)
    return tuple(
        Request(request_id=index, arrival_ns=arrival, deadline_ns=arrival + deadline_ns, margin=margin)
        for index, (arrival, margin) in enumerate(zip(trace.arrivals_ns.tolist(), draw, strict=True))
    )


def simulate(
    policy: Policy,
    trace: Trace,
    requests: Sequence[Request],
    costs: CostTable,
    values: ValueTable,
    *,
    workers: int,
    seed: int,
    watch: Callable[[int, SimulatedRun, int, int], None] | None = None,
) -> SimulatedDay:
    """Run one policy over one trace.

    Parameters
    ----------
    watch : callable, optional
        Called with (worker, run, start_ns, end_ns) of every run.
    """
    machine = _Machine(policy, costs, values, workers, seed, trace.slowdown_at, watch)
    for request in requests:
        machine.advance(request.arrival_ns)
        machine.arrive(request)
    machine.advance(_FOREVER_NS)
    return machine.day(trace.name, trace.family)


def simulate_users(
    policy: Policy,
    users: int,
    costs: CostTable,
    values: ValueTable,
    *,
    seconds: float,
    deadline_ns: int,
    workers: int,
    seed: int,
    margins: NDArray[np.float64] | None = None,
) -> SimulatedDay:
    """Let users ask again as soon as they have their answer; one without an answer asks at its deadline.

    `closed_loop_bound` is what nobody beats here.
    """
    machine = _Machine(policy, costs, values, workers, seed, lambda now_ns: 1.0, None)
    stop_ns, known = int(seconds * 1e9), _margins(margins, _NOISE_COUNT, seed)
    asking = [(user, user) for user in range(users)]
    while asking or machine.ends:
        if machine.ends and (not asking or machine.ends[0][0] <= asking[0][0]):
            machine.advance(machine.ends[0][0])
        else:
            now_ns, user = heappop(asking)
            number = machine.requests
            machine.arrive(
                Request(
                    request_id=number,
                    arrival_ns=now_ns,
                    deadline_ns=now_ns + deadline_ns,
                    stream=user,
                    margin=known[number % _NOISE_COUNT],
                )
            )
        for request, free_ns in machine.ended:
            if free_ns < stop_ns:
                heappush(asking, (free_ns, request.stream))
        machine.ended.clear()
    return machine.day(f"{users} users", "closed")


class _Machine:
    """Workers on a simulated clock, the requests that ended, and what they were worth."""

    def __init__(
        self,
        policy: Policy,
        costs: CostTable,
        values: ValueTable,
        workers: int,
        seed: int,
        slowdown_at: Callable[[int], float],
        watch: Callable[[int, SimulatedRun, int, int], None] | None,
    ) -> None:
        self._policy, self._costs, self._values = policy, costs, values
        self._slowdown_at, self._watch = slowdown_at, watch
        self._noise = _noise(seed)
        self._idle = [True] * workers
        self._counts = [0] * len(costs)
        self._value, self._late, self._refused, self._dropped, self._started = 0.0, 0, 0, 0, 0
        self.ends: list[tuple[int, int, int, SimulatedRun, int]] = []
        self.ended: list[tuple[Request, int]] = []
        """Requests, and when whoever asked is free to ask again."""
        self.requests = 0

    def arrive(self, request: Request) -> None:
        """Hand a request to the policy, at its arrival."""
        now_ns = request.arrival_ns
        self.requests += 1
        worker = self._policy.arrive(request, now_ns)
        if worker is None:
            self._refused += 1
            self.ended.append((request, request.deadline_ns))
        elif self._idle[worker]:
            self._start(worker, now_ns)

    def advance(self, until_ns: int) -> None:
        """Finish the runs that end by then, and what they give room for."""
        while self.ends and self.ends[0][0] <= until_ns:
            self._finish()

    def day(self, trace: str, family: str) -> SimulatedDay:
        """Return the account."""
        return SimulatedDay(
            policy=self._policy.name,
            trace=trace,
            family=family,
            requests=self.requests,
            value=self._value,
            on_time=sum(self._counts),
            late=self._late,
            refused=self._refused,
            dropped=self._dropped,
            variant_counts=tuple(self._counts),
        )

    def _start(self, worker: int, now_ns: int) -> None:
        run, given_up = self._policy.next_run(worker, now_ns)
        self._dropped += len(given_up)
        self.ended += [(request, max(request.deadline_ns, now_ns)) for request in given_up]
        self._idle[worker] = run is None
        if run is None:
            return
        table_ns = self._costs.batch_ns(run.variant, len(run.requests))
        table_ns *= self._noise[self._started % _NOISE_COUNT]
        end_ns = now_ns + int(table_ns * self._slowdown_at(now_ns)) + 1
        heappush(self.ends, (end_ns, self._started, worker, run, now_ns))
        self._started += 1
        if self._watch is not None:
            self._watch(worker, run, now_ns, end_ns)

    def _finish(self) -> None:
        end_ns, _, worker, run, start_ns = heappop(self.ends)
        for request in run.requests:
            self.ended.append((request, end_ns))
            if end_ns <= request.deadline_ns:
                self._value += request.value * self._values.value(run.variant, request.margin)
                self._counts[run.variant] += 1
            else:
                self._late += 1
        took_ns = end_ns - start_ns
        waited_ns = took_ns * (1.0 - 1.0 / self._slowdown_at(start_ns))
        self._policy.finished(worker, run, end_ns, took_ns=took_ns, run_delay_ns=waited_ns)
        self._start(worker, end_ns)


def clairvoyant(
    trace: Trace, requests: Sequence[Request], costs: CostTable, values: ValueTable, *, workers: int
) -> float:
    """Return the bound on the value of any policy on this trace."""
    return value_bound(requests, costs, values, capacity=trace.capacity(workers))


def _margins(known: NDArray[np.float64] | None, count: int, seed: int) -> list[float]:
    if known is None:
        return [nan] * count
    drawn: list[float] = np.random.default_rng((seed, 7)).choice(known, count).tolist()
    return drawn


def _noise(seed: int) -> list[float]:
    random = np.random.default_rng((seed, 11))
    stalls = _STALL * (random.uniform(size=_NOISE_COUNT) < _STALL_CHANCE)
    found: list[float] = (1.0 + random.exponential(_NOISE_MEAN, _NOISE_COUNT) + stalls).tolist()
    return found

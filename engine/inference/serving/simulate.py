"""Policies on a simulated clock: a day in seconds, no thread, no sleep, the same answer every time.

A run takes its table time or longer, never less, so that the clairvoyant's bound of `oracle.py` holds: a
twentieth more on average, and twice in a thousand a stall of three times the table.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from heapq import heappop, heappush
from typing import Final

import numpy as np

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
    trace: Trace, *, deadline_ns: int, seed: int, with_margins: bool = False
) -> tuple[Request, ...]:
    """Return the requests of a trace; margins are uniform on [0, 1) where wanted."""
    margins = np.random.default_rng((seed, 7)).uniform(size=len(trace.arrivals_ns))
    return tuple(
        Request(
            request_id=index,
            arrival_ns=arrival,
            deadline_ns=arrival + deadline_ns,
            margin=float(margins[index]) if with_margins else float("nan"),
        )
        for index, arrival in enumerate(trace.arrivals_ns.tolist())
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
    noise = _noise(seed)
    ends: list[tuple[int, int, int, SimulatedRun, int]] = []
    idle = [True] * workers
    counts = [0] * len(costs)
    value, late, refused, dropped, started = 0.0, 0, 0, 0, 0

    def start(worker: int, now_ns: int) -> None:
        nonlocal dropped, started
        run, given_up = policy.next_run(worker, now_ns)
        dropped += len(given_up)
        idle[worker] = run is None
        if run is None:
            return
        table_ns = costs.batch_ns(run.variant, len(run.requests)) * noise[started % _NOISE_COUNT]
        end_ns = now_ns + int(table_ns * trace.slowdown_at(now_ns)) + 1
        heappush(ends, (end_ns, started, worker, run, now_ns))
        started += 1
        if watch is not None:
            watch(worker, run, now_ns, end_ns)

    def finish() -> None:
        nonlocal value, late
        end_ns, _, worker, run, start_ns = heappop(ends)
        for request in run.requests:
            if end_ns <= request.deadline_ns:
                value += request.value * values.value(run.variant, request.margin)
                counts[run.variant] += 1
            else:
                late += 1
        took_ns = end_ns - start_ns
        waited_ns = took_ns * (1.0 - 1.0 / trace.slowdown_at(start_ns))
        policy.finished(worker, run, end_ns, took_ns=took_ns, run_delay_ns=waited_ns)
        start(worker, end_ns)

    for request in requests:
        while ends and ends[0][0] <= request.arrival_ns:
            finish()
        worker = policy.arrive(request, request.arrival_ns)
        if worker is None:
            refused += 1
        elif idle[worker]:
            start(worker, request.arrival_ns)
    while ends:
        finish()
    return SimulatedDay(
        policy=policy.name,
        trace=trace.name,
        family=trace.family,
        requests=len(requests),
        value=value,
        on_time=sum(counts),
        late=late,
        refused=refused,
        dropped=dropped,
        variant_counts=tuple(counts),
    )


def clairvoyant(
    trace: Trace, requests: Sequence[Request], costs: CostTable, values: ValueTable, *, workers: int
) -> float:
    """Return the bound on the value of any policy on this trace."""
    return value_bound(requests, costs, values, capacity=trace.capacity(workers))


def _noise(seed: int) -> list[float]:
    random = np.random.default_rng((seed, 11))
    stalls = _STALL * (random.uniform(size=_NOISE_COUNT) < _STALL_CHANCE)
    found: list[float] = (1.0 + random.exponential(_NOISE_MEAN, _NOISE_COUNT) + stalls).tolist()
    return found

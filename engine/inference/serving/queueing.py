"""One worker's scheduler and the admission before it. No clock, no process: time comes in as an argument."""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from heapq import heapify, heappop, heapreplace

from .breaker import BreakerLimits, CircuitBreaker
from .forecast import CostTable, LatencyForecast
from .planning import Plan, PlanLimits, Planner, ValueTable
from .pressure import PressureGauge, PressureLimits
from .request import Request

_REFRESH_RUNS = 64


class EdfQueue:
    """Requests in the order of their deadlines, ties by request id.

    What every run asks for is kept, not gathered: a queue of a thousand is looked at for each batch.

    Parameters
    ----------
    bin_of : callable, optional
        Bins the margin of a first answer, below 256; all are in one bin without it.
    """

    __slots__ = ("_bin_of", "_bins", "_deadlines", "_entries", "_values")

    def __init__(self, bin_of: Callable[[float], int] | None = None) -> None:
        self._entries: list[tuple[int, int, Request]] = []
        self._deadlines = array("q")
        self._bins = bytearray()
        self._bin_of = bin_of
        self._values: dict[float, int] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def push(self, request: Request) -> None:
        """Put one request in its place."""
        entry = (request.deadline_ns, request.request_id, request)
        own = 0 if self._bin_of is None else self._bin_of(request.margin)
        if not self._entries or entry > self._entries[-1]:
            # Where all have the same time, whoever comes last is due last.
            self._entries.append(entry)
            self._deadlines.append(request.deadline_ns)
            self._bins.append(own)
        else:
            place = bisect_right(self._entries, entry)
            self._entries.insert(place, entry)
            self._deadlines.insert(place, request.deadline_ns)
            self._bins.insert(place, own)
        self._values[request.value] = self._values.get(request.value, 0) + 1

    def pop(self, count: int) -> list[Request]:
        """Take the `count` most urgent out."""
        return self.take(range(min(count, len(self._entries))))

    def take(self, places: Sequence[int]) -> list[Request]:
        """Take out the requests at some places in deadline order, ascending."""
        taken = [self._entries[place][2] for place in places]
        head = len(places) > 0 and places[-1] == len(places) - 1
        for gone in [slice(0, len(places))] if head else reversed(places):
            del self._entries[gone], self._deadlines[gone], self._bins[gone]
        for request in taken:
            left = self._values[request.value] - 1
            if left:
                self._values[request.value] = left
            else:
                del self._values[request.value]
        return taken

    def deadlines(self) -> Sequence[int]:
        """Return all deadlines, ascending; the queue's own list, which follows it."""
        return self._deadlines

    def bins(self) -> bytearray:
        """Return the bins of the first answers' margins, in the same order and as little a copy."""
        return self._bins

    def first(self) -> Request:
        """Return the most urgent request; the queue is not empty."""
        return self._entries[0][2]

    def first_deadline_ns(self) -> int:
        """Return the tightest deadline; the queue is not empty."""
        return self._deadlines[0]

    def values_differ(self) -> bool:
        """Return whether some requests are worth more than others."""
        return len(self._values) > 1

    def pop_least_valuable(self, count: int) -> list[Request]:
        """Take out the `count` of least value, the later deadline first where values tie."""
        order = sorted(range(len(self._entries)), key=lambda place: (self._entries[place][2].value, -place))[
            :count
        ]
        chosen = [self._entries[place][2] for place in order]
        self.take(sorted(order))
        return chosen


@dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    """A batch to run now."""

    plan: Plan
    requests: tuple[Request, ...]


class WorkerScheduler:
    """Everything one worker decides: order, variant, batch, what cannot be met any more.

    The live worker and the simulation drive the same object; one on the machine's clock, the other on its
    own.
    """

    def __init__(
        self,
        costs: CostTable,
        values: ValueTable,
        *,
        plan_limits: PlanLimits | None = None,
        pressure_limits: PressureLimits | None = None,
        breaker_limits: BreakerLimits | None = None,
    ) -> None:
        self.queue = EdfQueue(values.bin_of)
        self.forecast = LatencyForecast(costs)
        self.gauge = PressureGauge(pressure_limits)
        self.breakers = [CircuitBreaker(breaker_limits) for _ in range(len(costs))]
        self._now_ns = 0
        self.planner = Planner(
            self.forecast,
            values,
            limits=plan_limits,
            allowed=lambda variant: self.breakers[variant].allows(self._now_ns),
        )
        self._runs = 0
        self._opened = False

    def offer(self, request: Request) -> None:
        """Queue a request that admission let in."""
        self.queue.push(request)

    def next_run(self, now_ns: int) -> tuple[Run | None, list[Request]]:
        """Return what to run now, and the requests that can no longer be met.

        The latter are taken out as soon as the forecast of the cheapest variant passes their deadline, while
        there is still time to give them another answer.
        """
        self._now_ns = now_ns
        if self._opened or self._runs % _REFRESH_RUNS == 0:
            self.planner.refresh()
            self._opened = any(not breaker.allows(now_ns) for breaker in self.breakers)
        slowdown = self.gauge.slowdown
        hopeless: list[Request] = []
        guard_ns = self.planner.guard_ns
        # Too many even for the cheapest: those worth least go, an eighth at a time. Where all are worth the
        # same, deadline order and the test below shed the fewest.
        while self.queue.values_differ() and not self.planner.affords_all(
            self.queue.deadlines(), now_ns, slowdown
        ):
            hopeless += self.queue.pop_least_valuable(1 + len(self.queue) // 8)
        # All at once: under overload there are hundreds, and what they cost is time that the others lack.
        soonest_ns = now_ns + self.planner.cheapest_ns(slowdown) + guard_ns
        hopeless += self.queue.pop(bisect_left(self.queue.deadlines(), soonest_ns))
        while self.queue:
            plan = self.planner.choose(self.queue.deadlines(), self.queue.bins(), now_ns, slowdown)
            if plan is None:
                hopeless += self.queue.pop(1)
                continue
            self._runs += 1
            return Run(plan=plan, requests=tuple(self.queue.take(plan.places))), hopeless
        return None, hopeless

    def finished(
        self,
        run: Run,
        now_ns: int,
        *,
        took_ns: float,
        run_delay_ns: float,
        good: Sequence[bool],
        wake_delay_ns: float = 0.0,
        runnable: int = 0,
        psi_share: float = 0.0,
    ) -> bool:
        """Learn from a run; return whether it tripped the variant's breaker.

        Parameters
        ----------
        took_ns, run_delay_ns : float
            How long the turn took, and how much of it the thread waited for a core.
        wake_delay_ns : float
            How long it had waited for a core before the turn began, since the last one.
        runnable : int
            Threads of the machine that run or want to, 0 where that is not known.
        good : sequence of bool
            Per request, whether the model gave finite numbers.
        """
        self._now_ns = now_ns
        variant, count = run.plan.variant, len(run.requests)
        table_ns = self.forecast.table_ns(variant, count)
        self.forecast.observe(variant, count, self.gauge.slowdown, took_ns)
        self.gauge.observe(
            now_ns,
            span_ns=took_ns + wake_delay_ns,
            run_delay_ns=run_delay_ns + wake_delay_ns,
            table_ns=table_ns,
            runnable=runnable,
            queue_share=self.queue_share(now_ns),
            psi_share=psi_share,
        )
        tripped = self.breakers[variant].record_all(now_ns, good)
        if tripped:
            self._opened = True
        return tripped

    def queue_share(self, now_ns: int) -> float:
        """Return the queue's time at the cheapest variant over the time to its last deadline."""
        if not self.queue or not self.planner.frontier:
            return 0.0
        left_ns = self.queue.deadlines()[-1] - now_ns
        if left_ns <= 0:
            return 1.0
        return len(self.queue) * self.forecast.costs.item_ns(self.planner.frontier[0]) / left_ns


class Admission:
    """Says at once whether and where a request is taken, from what each worker already holds.

    A worker's backlog at the cheapest variant is a lower bound on when a new request can be served there,
    so a refusal is never premature: no order of service would have met the deadline by forecast.

    Parameters
    ----------
    item_ns, single_ns : float
        Table times of the cheapest variant: per item in efficient batches, and of a batch of one.
    outstanding_max : int
        Requests at one worker, queued or running.
    """

    def __init__(
        self,
        workers: int,
        *,
        item_ns: float,
        single_ns: float,
        guard_ns: int = 2_000_000,
        outstanding_max: int = 1_024,
    ) -> None:
        self.outstanding = [0] * workers
        self.slowdowns = [1.0] * workers
        self.open = [True] * workers
        self._item_ns, self._single_ns, self._guard_ns = item_ns, single_ns, guard_ns
        self._outstanding_max = outstanding_max

    def place(self, deadline_ns: int, now_ns: int) -> int | None:
        """Return the worker that takes a request, None to refuse it."""
        best, best_ns = None, float("inf")
        for worker, outstanding in enumerate(self.outstanding):
            if not self.open[worker] or outstanding >= self._outstanding_max:
                continue
            # The count decides between workers of one speed, so that a quiet pair shares evenly.
            wait_ns = (outstanding + 1) * self.slowdowns[worker]
            if wait_ns < best_ns:
                best, best_ns = worker, wait_ns
        if best is None:
            return None
        ready_ns = now_ns + self.slowdowns[best] * (self.outstanding[best] * self._item_ns + self._single_ns)
        return best if ready_ns <= deadline_ns - self._guard_ns else None

    def place_many(self, deadlines_ns: Sequence[int], now_ns: int) -> list[int]:
        """Take requests in turn and count them; return each one's worker, −1 where it is refused.

        As `place` would one by one, from a heap instead of a search: this is the front's cost per request.
        """
        outstanding, slowdowns = self.outstanding, self.slowdowns
        waits = [
            ((held + 1) * slowdowns[worker], worker)
            for worker, held in enumerate(outstanding)
            if self.open[worker] and held < self._outstanding_max
        ]
        heapify(waits)
        workers = []
        for deadline_ns in deadlines_ns:
            chosen = -1
            if waits:
                best = waits[0][1]
                slowdown = slowdowns[best]
                ready_ns = now_ns + slowdown * (outstanding[best] * self._item_ns + self._single_ns)
                if ready_ns <= deadline_ns - self._guard_ns:
                    chosen = best
                    outstanding[best] += 1
                    if outstanding[best] < self._outstanding_max:
                        heapreplace(waits, ((outstanding[best] + 1) * slowdown, best))
                    else:
                        heappop(waits)
            workers.append(chosen)
        return workers

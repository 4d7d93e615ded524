"""Policies side by side: ours, fixed choices, and two from the literature restated for one host.

All of them get the same workers, the same table of times, and workers chosen by the shortest queue. The
fixed ones also get deadline order, batches and the dropping of what is late already, so that what is
compared is the choice of the variant.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Final, Protocol

from .forecast import BATCHES, CostTable
from .planning import PlanLimits, ValueTable
from .queueing import Admission, EdfQueue, WorkerScheduler
from .queueing import Run as ScheduledRun
from .request import Request

_ENDLESS: Final = 2**62


class SimulatedRun:
    """A batch under way. `scheduled` is the scheduler's own object where there is one."""

    __slots__ = ("requests", "scheduled", "variant")

    def __init__(
        self, variant: int, requests: Sequence[Request], scheduled: ScheduledRun | None = None
    ) -> None:
        self.variant, self.requests, self.scheduled = variant, requests, scheduled


class Policy(Protocol):
    """What the simulator asks."""

    name: str

    def arrive(self, request: Request, now_ns: int) -> int | None:
        """Take a request in and return its worker, None to refuse it."""

    def next_run(self, worker: int, now_ns: int) -> tuple[SimulatedRun | None, Sequence[Request]]:
        """Return what an idle worker runs, and the requests given up."""

    def finished(
        self, worker: int, run: SimulatedRun, now_ns: int, *, took_ns: float, run_delay_ns: float
    ) -> None:
        """Learn from a run."""


class LadderPolicy:
    """Ours: admission, then one `WorkerScheduler` per worker."""

    def __init__(
        self,
        costs: CostTable,
        values: ValueTable,
        *,
        workers: int,
        limits: PlanLimits | None = None,
        name: str = "anytick",
    ) -> None:
        self.name = name
        limits = limits or PlanLimits()
        self.schedulers = [WorkerScheduler(costs, values, plan_limits=limits) for _ in range(workers)]
        cheapest = self.schedulers[0].planner.frontier[0]
        self._admission = Admission(
            workers,
            item_ns=costs.item_ns(cheapest),
            single_ns=costs.batch_ns(cheapest, 1),
            guard_ns=limits.guard_ns,
            # A live worker's ring has an end; here nobody's line has one.
            outstanding_max=_ENDLESS,
        )

    def arrive(self, request: Request, now_ns: int) -> int | None:
        worker = self._admission.place(request.deadline_ns, now_ns)
        if worker is not None:
            self._admission.outstanding[worker] += 1
            self.schedulers[worker].offer(request)
        return worker

    def next_run(self, worker: int, now_ns: int) -> tuple[SimulatedRun | None, Sequence[Request]]:
        scheduler = self.schedulers[worker]
        run, hopeless = scheduler.next_run(now_ns)
        self._admission.outstanding[worker] -= len(hopeless)
        if run is None:
            return None, hopeless
        return SimulatedRun(run.plan.variant, run.requests, run), hopeless

    def finished(
        self, worker: int, run: SimulatedRun, now_ns: int, *, took_ns: float, run_delay_ns: float
    ) -> None:
        assert run.scheduled is not None, "this policy gave the run out"
        scheduler, good = self.schedulers[worker], [True] * len(run.requests)
        scheduler.finished(run.scheduled, now_ns, took_ns=took_ns, run_delay_ns=run_delay_ns, good=good)
        self._admission.outstanding[worker] -= len(run.requests)
        self._admission.slowdowns[worker] = scheduler.gauge.slowdown


class FixedPolicy:
    """Always the same variant: deadline order, efficient batches, late requests dropped."""

    def __init__(self, costs: CostTable, variant: int, *, workers: int, name: str) -> None:
        self.name = name
        self._costs, self._variant = costs, variant
        self._queues = [EdfQueue() for _ in range(workers)]
        self._running = [0] * workers

    def arrive(self, request: Request, now_ns: int) -> int | None:
        worker = _shortest(self._queues, self._running)
        self._queues[worker].push(request)
        return worker

    def next_run(self, worker: int, now_ns: int) -> tuple[SimulatedRun | None, Sequence[Request]]:
        queue, dropped = self._queues[worker], []
        soonest_ns = now_ns + self._costs.batch_ns(self._variant, 1)
        while queue and queue.first_deadline_ns() < soonest_ns:
            dropped += queue.pop(1)
        if not queue:
            return None, dropped
        requests = queue.pop(self._costs.efficient[self._variant])
        self._running[worker] = len(requests)
        return SimulatedRun(self._variant, requests), dropped

    def finished(
        self, worker: int, run: SimulatedRun, now_ns: int, *, took_ns: float, run_delay_ns: float
    ) -> None:
        self._running[worker] = 0


class ClockworkPolicy:
    """After Clockwork (Gujarati et al., OSDI 2020), one fixed variant.

    The time of a run is predicted as the longest of the last ten. A request that would end late behind what
    is queued is refused on arrival, one that has become hopeless is dropped, and a run takes the largest
    batch that still meets its tightest deadline.
    """

    def __init__(self, costs: CostTable, variant: int, *, workers: int, name: str) -> None:
        self.name = name
        self._costs, self._variant = costs, variant
        self._queues = [EdfQueue() for _ in range(workers)]
        self._free_ns = [0.0] * workers
        self._ratios = [deque([1.0], maxlen=10) for _ in range(workers)]

    def arrive(self, request: Request, now_ns: int) -> int | None:
        item_ns = self._costs.item_ns(self._variant)
        waits = [
            max(free_ns - now_ns, 0.0)
            + max(ratios) * (item_ns * len(queue) + self._costs.batch_ns(self._variant, 1))
            for free_ns, ratios, queue in zip(self._free_ns, self._ratios, self._queues, strict=True)
        ]
        worker = min(range(len(waits)), key=waits.__getitem__)
        if now_ns + waits[worker] > request.deadline_ns:
            return None
        self._queues[worker].push(request)
        return worker

    def next_run(self, worker: int, now_ns: int) -> tuple[SimulatedRun | None, Sequence[Request]]:
        queue, dropped, ratio = self._queues[worker], [], max(self._ratios[worker])
        while queue:
            room_ns = queue.first_deadline_ns() - now_ns
            fitting = [
                size
                for size in BATCHES
                if size <= max(len(queue), 1) and ratio * self._costs.batch_ns(self._variant, size) <= room_ns
            ]
            if not fitting:
                dropped += queue.pop(1)
                continue
            count = fitting[-1]
            self._free_ns[worker] = now_ns + ratio * self._costs.batch_ns(self._variant, count)
            return SimulatedRun(self._variant, queue.pop(count)), dropped
        return None, dropped

    def finished(
        self, worker: int, run: SimulatedRun, now_ns: int, *, took_ns: float, run_delay_ns: float
    ) -> None:
        table_ns = self._costs.batch_ns(self._variant, len(run.requests))
        self._ratios[worker].append(took_ns / table_ns)
        self._free_ns[worker] = now_ns


class InfaasPolicy:
    """After INFaaS (Romero et al., ATC 2021): the variant is chosen on arrival.

    Every `window_ns` a monitor finds the most accurate variant whose throughput, from the profile, carries
    the load since the last look; on arrival the choice steps down further while the queue in front would not
    meet the deadline. A queued request keeps its variant.
    """

    def __init__(
        self,
        costs: CostTable,
        values: ValueTable,
        *,
        workers: int,
        window_ns: int = 1_000_000_000,
        name: str = "INFaaS-style",
    ) -> None:
        self.name, self._span_ns = name, window_ns
        self._costs = costs
        self._order = sorted(range(len(costs)), key=values.values.__getitem__, reverse=True)
        self._queues = [EdfQueue() for _ in range(workers)]
        self._running = [0] * workers
        self._variants: dict[int, int] = {}
        self._backlog_ns = [0.0] * workers
        self._ceiling = 0
        self._window_ns, self._arrived = 0, 0

    def arrive(self, request: Request, now_ns: int) -> int | None:
        self._monitor(now_ns)
        worker = min(range(len(self._queues)), key=self._backlog_ns.__getitem__)
        for variant in self._order[self._ceiling :]:
            ready_ns = now_ns + self._backlog_ns[worker] + self._costs.batch_ns(variant, 1)
            if ready_ns <= request.deadline_ns:
                break
        self._variants[request.request_id] = variant
        self._backlog_ns[worker] += self._costs.item_ns(variant)
        self._queues[worker].push(request)
        return worker

    def _monitor(self, now_ns: int) -> None:
        self._arrived += 1
        if now_ns - self._window_ns < self._span_ns:
            return
        rate = self._arrived / (now_ns - self._window_ns)
        places = range(len(self._order))
        carrying = [
            place for place in places if len(self._queues) / self._costs.item_ns(self._order[place]) >= rate
        ]
        self._ceiling = carrying[0] if carrying else len(self._order) - 1
        self._window_ns, self._arrived = now_ns, 0

    def next_run(self, worker: int, now_ns: int) -> tuple[SimulatedRun | None, Sequence[Request]]:
        queue, dropped = self._queues[worker], []
        while queue and queue.first_deadline_ns() < now_ns + self._single_ns(queue):
            dropped += self._taken(worker, queue.pop(1))
        if not queue:
            return None, dropped
        head = queue.pop(1)
        variant = self._variants[head[0].request_id]
        # Only neighbours in line that chose the same variant share a run.
        while queue and len(head) < self._costs.efficient[variant] and self._next_variant(queue) == variant:
            head += queue.pop(1)
        self._taken(worker, head)
        return SimulatedRun(variant, head), dropped

    def _single_ns(self, queue: EdfQueue) -> float:
        return self._costs.batch_ns(self._next_variant(queue), 1)

    def _next_variant(self, queue: EdfQueue) -> int:
        return self._variants[queue.first().request_id]

    def _taken(self, worker: int, requests: list[Request]) -> list[Request]:
        for request in requests:
            variant = self._variants.pop(request.request_id)
            self._backlog_ns[worker] -= self._costs.item_ns(variant)
        return requests

    def finished(
        self, worker: int, run: SimulatedRun, now_ns: int, *, took_ns: float, run_delay_ns: float
    ) -> None:
        """Learn nothing: the profile is all this policy knows of times."""


def _shortest(queues: Sequence[EdfQueue], running: Sequence[int]) -> int:
    return min(range(len(queues)), key=lambda worker: len(queues[worker]) + running[worker])

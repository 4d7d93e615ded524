"""What nobody can beat: a proven upper bound on the value of any schedule, known after the fact.

The bound relaxes the problem three times, each time in the schedule's favour: runs may be interrupted and
split at will, all workers serve one request together, and every item costs what it costs in the best batch on
a quiet machine. What is left is to share work among requests, each of which turns work into value along its
efficient frontier (concave, piecewise linear), between its arrival and its deadline.

The shares that fit between arrivals and deadlines form a polymatroid, so the greedy order is optimal
(Edmonds, 1970): give work to the steepest pieces first. The most work that fits when every request may take
at most c_j is what preemptive earliest-deadline-first processes (Glover's greedy for convex bipartite
graphs, 1967). Hence

    bound = Σ over slopes g, steepest first, of  g · (R(pieces at least as steep as g) − R(steeper pieces)),

with R the work that earliest-deadline-first gets done. One pass per distinct slope.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from heapq import heappop, heappush

from .forecast import BATCHES, CostTable
from .planning import ValueTable, efficient_frontier
from .request import Request


def value_bound(
    requests: Sequence[Request],
    costs: CostTable,
    values: ValueTable,
    *,
    capacity: Callable[[int], float],
) -> float:
    """Return the most value that any schedule could have got from these requests.

    Parameters
    ----------
    requests : sequence of Request
        By arrival.
    capacity : callable
        Worker time available from the start to an instant, in ns; ascending.

    Returns
    -------
    float
        Sum over requests; each counts at most its own value times the best variant's.
    """
    cheapest = [
        min(costs.batch_ns(variant, size) / size for size in BATCHES) for variant in range(len(costs))
    ]
    pieces: dict[tuple[float, ...], list[tuple[float, float]]] = {}
    jobs: list[tuple[float, float, list[tuple[float, float]]]] = []
    for request in requests:
        worth = tuple(request.value * values.value(variant, request.margin) for variant in range(len(costs)))
        if worth not in pieces:
            pieces[worth] = frontier_pieces(cheapest, worth)
        start, end = capacity(request.arrival_ns), capacity(request.deadline_ns)
        jobs.append((start, end, pieces[worth]))
    slopes = sorted({slope for found in pieces.values() for _, slope in found}, reverse=True)
    bound = done_before = 0.0
    for slope in slopes:
        caps = {id(found): sum(work for work, steep in found if steep >= slope) for found in pieces.values()}
        done = work_done([(start, end, caps[id(found)]) for start, end, found in jobs])
        bound += slope * (done - done_before)
        done_before = done
    return bound


def frontier_pieces(costs: Sequence[float], values: Sequence[float]) -> list[tuple[float, float]]:
    """Return (work, value per work) of every straight piece of the efficient frontier, steepest first."""
    found, last_cost, last_value = [], 0.0, 0.0
    for variant in efficient_frontier(costs, values):
        work = costs[variant] - last_cost
        found.append((work, (values[variant] - last_value) / work))
        last_cost, last_value = costs[variant], values[variant]
    return found


def work_done(jobs: Sequence[tuple[float, float, float]]) -> float:
    """Return the work that preemptive earliest-deadline-first does on one machine of speed 1.

    Parameters
    ----------
    jobs : sequence of (arrival, deadline, work)
        By arrival. What a job has not got by its deadline is lost.
    """
    waiting: list[tuple[float, int]] = []
    left = [job[2] for job in jobs]
    now = done = 0.0
    upcoming = 0
    while upcoming < len(jobs) or waiting:
        if not waiting:
            now = max(now, jobs[upcoming][0])
        while upcoming < len(jobs) and jobs[upcoming][0] <= now:
            heappush(waiting, (jobs[upcoming][1], upcoming))
            upcoming += 1
        deadline, index = waiting[0]
        if deadline <= now or left[index] <= 0.0:
            heappop(waiting)
            continue
        until = min(deadline, now + left[index])
        if upcoming < len(jobs):
            until = min(until, jobs[upcoming][0])
        if until <= now:
            # What is left is less than the clock can tell apart.
            heappop(waiting)
            continue
        if until - now >= left[index]:
            left[index] = 0.0
        else:
            left[index] -= until - now
        done += until - now
        now = until
    return done


def closed_loop_bound(
    costs: CostTable, values: ValueTable, *, users: int, deadline_ns: int, workers: float
) -> float:
    """Return the most mean value per request for users who ask again at once, within the deadline.

    `users` requests are always open and none longer than the deadline, so at least users / deadline
    requests end per second (Little), which leaves workers · deadline / users of work for each on average. The
    frontier is concave, so nothing beats giving every request just that.

    Parameters
    ----------
    workers : float
        Cores' worth of time that the workers could use.
    """
    budget = workers * deadline_ns / users
    cheapest = [
        min(costs.batch_ns(variant, size) / size for size in BATCHES) for variant in range(len(costs))
    ]
    # Sure and unsure requests come in their shares; the steepest pieces of all are worth most.
    pieces = sorted(
        (
            (slope, share * work)
            for share, column in zip(values.shares, zip(*values.by_margin, strict=True), strict=True)
            for work, slope in frontier_pieces(cheapest, column)
        ),
        reverse=True,
    )
    total = 0.0
    for slope, work in pieces:
        total += slope * min(work, budget)
        budget -= min(work, budget)
    return total

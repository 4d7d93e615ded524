"""Policies on a simulated clock, beside fixed choices and the clairvoyant's bound."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from router_samples import COSTS, DEADLINE_NS, VALUES, WORKERS, request
from scipy.optimize import linprog

from engine.inference.serving.forecast import BATCHES, CostTable
from engine.inference.serving.oracle import closed_loop_bound, frontier_pieces, value_bound, work_done
from engine.inference.serving.planning import ValueTable
from engine.inference.serving.policies import ClockworkPolicy, FixedPolicy, InfaasPolicy, LadderPolicy, Policy
from engine.inference.serving.simulate import (
    SimulatedDay,
    SimulatedRun,
    clairvoyant,
    requests_of,
    simulate,
    simulate_users,
)
from engine.inference.serving.traces import Trace, standard_traces

MILLISECOND = 1_000_000
UNIT = WORKERS * 1e9 / COSTS.item_ns(5)


def linear_bound(jobs: list[tuple[int, int]], pieces: list[tuple[float, float]], step: int) -> float:
    """The same relaxation as a linear program on a grid of time."""
    slots = range(0, max(end for _, end in jobs), step)
    cells = [
        (job, piece, slot)
        for (job, (start, end)), piece, slot in product(enumerate(jobs), range(len(pieces)), slots)
        if start <= slot and slot + step <= end
    ]
    if not cells:
        return 0.0
    gains = np.array([-pieces[piece][1] for _, piece, _ in cells])
    rows, limits = [], []
    for slot in slots:
        rows.append([cell[2] == slot for cell in cells])
        limits.append(step)
    for job, piece in product(range(len(jobs)), range(len(pieces))):
        rows.append([cell[:2] == (job, piece) for cell in cells])
        limits.append(pieces[piece][0])
    found = linprog(gains, A_ub=np.array(rows, float), b_ub=np.array(limits, float), bounds=(0, None))
    return -float(found.fun)


@given(st.lists(st.tuples(st.integers(0, 12), st.integers(1, 8)), min_size=1, max_size=7))
@settings(max_examples=25, deadline=None)
def test_the_greedy_bound_is_the_linear_programs(drawn: list[tuple[int, int]]) -> None:
    costs = CostTable(
        [[1.0 * size for size in (1, 2, 4, 8, 16, 32, 64)], [4.0 * s for s in (1, 2, 4, 8, 16, 32, 64)]]
    )
    values = ValueTable((0.6, 1.0))
    jobs = sorted((start, start + room) for start, room in drawn)
    requests = [request(n, arrival_ns=start, deadline_ns=end) for n, (start, end) in enumerate(jobs)]
    bound = value_bound(requests, costs, values, capacity=float)
    pieces = frontier_pieces([1.0, 4.0], [0.6, 1.0])
    assert bound == pytest.approx(linear_bound(jobs, pieces, 1), abs=1e-6)


@given(st.lists(st.tuples(st.integers(0, 20), st.integers(1, 9), st.integers(1, 6)), max_size=9))
def test_earliest_deadline_first_gets_the_most_work_done(drawn: list[tuple[int, int, int]]) -> None:
    jobs = sorted((start, start + room, work) for start, room, work in drawn)
    # Unit work to unit slots: the largest matching, by augmenting paths.
    slots = [list(range(start, end)) for start, end, _ in jobs]
    matched: dict[int, int] = {}

    def place(job: int, tried: set[int]) -> bool:
        for slot in slots[job]:
            if slot not in tried:
                tried.add(slot)
                if slot not in matched or place(matched[slot], tried):
                    matched[slot] = job
                    return True
        return False

    total = sum(place(job, set()) for job, (_, _, work) in enumerate(jobs) for _ in range(work))
    assert work_done([(float(a), float(b), float(w)) for a, b, w in jobs]) == pytest.approx(total)


def days(trace: Trace, policy: Policy) -> tuple[SimulatedDay, float]:
    requests = requests_of(trace, deadline_ns=DEADLINE_NS, seed=1)
    bound = clairvoyant(trace, requests, COSTS, VALUES, workers=WORKERS)
    return simulate(policy, trace, requests, COSTS, VALUES, workers=WORKERS, seed=1), bound


TRACES = standard_traces(UNIT, seconds=0.6, seed=1)


def test_there_are_enough_loads_of_every_family() -> None:
    assert len(TRACES) == 24
    assert {trace.family for trace in TRACES} == {"poisson", "bursty", "diurnal", "flash", "adversarial"}
    for trace in TRACES:
        assert (np.diff(trace.arrivals_ns) >= 0).all()


@pytest.mark.parametrize("trace", TRACES, ids=lambda trace: trace.name)
def test_ours_is_close_to_the_clairvoyant_and_in_time(trace: Trace) -> None:
    day, bound = days(trace, LadderPolicy(COSTS, VALUES, workers=WORKERS))
    assert day.on_time + day.late + day.refused + day.dropped == day.requests
    assert day.value <= bound + 1e-9
    assert day.value >= 0.9 * bound
    assert day.on_time >= 0.99 * day.requests


@pytest.mark.parametrize("index", [0, 6, 16, 20, 23])
def test_nobody_beats_the_bound_and_all_requests_are_accounted_for(index: int) -> None:
    trace = TRACES[index]
    policies: list[Policy] = [
        *(FixedPolicy(COSTS, v, workers=WORKERS, name=str(v)) for v in range(len(COSTS))),
        *(ClockworkPolicy(COSTS, v, workers=WORKERS, name=str(v)) for v in range(len(COSTS))),
        InfaasPolicy(COSTS, VALUES, workers=WORKERS),
    ]
    for policy in policies:
        day, bound = days(trace, policy)
        assert day.value <= bound + 1e-9
        assert day.on_time + day.late + day.refused + day.dropped == day.requests


def test_runs_serve_no_request_twice_and_in_order_of_deadline() -> None:
    trace = TRACES[22]
    requests = requests_of(trace, deadline_ns=DEADLINE_NS, seed=3)
    served: list[int] = []
    ends: dict[int, int] = {}

    def watch(worker: int, run: SimulatedRun, start_ns: int, end_ns: int) -> None:
        assert start_ns >= ends.get(worker, 0), "a worker runs one batch at a time"
        ends[worker] = end_ns
        deadlines = [one.deadline_ns for one in run.requests]
        assert deadlines == sorted(deadlines)
        served.extend(one.request_id for one in run.requests)

    policy = LadderPolicy(COSTS, VALUES, workers=WORKERS)
    simulate(policy, trace, requests, COSTS, VALUES, workers=WORKERS, seed=3, watch=watch)
    assert len(served) == len(set(served))


def test_capacity_is_the_time_that_hogs_leave() -> None:
    arrivals = np.zeros(1, np.int64)
    trace = Trace(name="hogs", family="", arrivals_ns=arrivals, slow=((10, 20, 4.0), (30, 40, 2.0)))
    capacity = trace.capacity(2)
    left, found = 0.0, []
    for now_ns in range(51):
        found.append(capacity(now_ns) == pytest.approx(left))
        left += 2.0 / trace.slowdown_at(now_ns)
    assert all(found)


def test_an_answer_counts_up_to_its_deadline_and_not_a_moment_later() -> None:
    trace = TRACES[3]
    requests = requests_of(trace, deadline_ns=DEADLINE_NS, seed=3)
    late_by: list[int] = []

    def watch(worker: int, run: SimulatedRun, start_ns: int, end_ns: int) -> None:
        late_by.extend(end_ns - one.deadline_ns for one in run.requests)

    policy = FixedPolicy(COSTS, 4, workers=WORKERS, name="overloaded")
    day = simulate(policy, trace, requests, COSTS, VALUES, workers=WORKERS, seed=3, watch=watch)
    in_time = sum(late_ns <= 0 for late_ns in late_by)
    assert (day.on_time, day.late) == (in_time, len(late_by) - in_time)
    assert 0 < min(late_ns for late_ns in late_by if late_ns > 0) < MILLISECOND, "some miss by a moment"
    assert day.value == pytest.approx(in_time * VALUES.values[4])
    assert day.dropped == len(requests) - len(late_by)


def test_the_same_seed_gives_the_same_day() -> None:
    again = standard_traces(UNIT, seconds=0.6, seed=1)[7]
    first, _ = days(TRACES[7], LadderPolicy(COSTS, VALUES, workers=WORKERS))
    second, _ = days(again, LadderPolicy(COSTS, VALUES, workers=WORKERS))
    assert first == second


def test_a_cascade_gains_where_first_answers_know_how_sure_they_are() -> None:
    """Same average values; the tiny model is as good as the large one where it is sure."""
    tiny, large = VALUES.values[0], VALUES.values[5]
    edges = (0.3,)
    by_margin = []
    for value in VALUES.values:
        sure = large
        unsure = (value - 0.7 * sure) / 0.3
        by_margin.append((unsure, sure))
    assert tiny < large
    cascade = ValueTable(VALUES.values, margin_edges=edges, by_margin=by_margin)
    trace = TRACES[3]
    requests = requests_of(
        trace, deadline_ns=DEADLINE_NS, seed=1, margins=np.random.default_rng(7).uniform(size=1_000)
    )
    taken = []
    for table in (cascade, VALUES):
        policy = LadderPolicy(COSTS, table, workers=WORKERS)
        day = simulate(policy, trace, requests, COSTS, cascade, workers=WORKERS, seed=1)
        taken.append(day.value)
        assert day.on_time >= 0.99 * day.requests
    assert taken[0] > 1.02 * taken[1]


@pytest.mark.parametrize("users", [1, 4, 16, 64, 256])
def test_users_get_nearly_what_a_clairvoyant_could_give_and_all_their_answers(users: int) -> None:
    policy = LadderPolicy(COSTS, VALUES, workers=WORKERS)
    day = simulate_users(
        policy, users, COSTS, VALUES, seconds=1.0, deadline_ns=DEADLINE_NS, workers=WORKERS, seed=1
    )
    bound = closed_loop_bound(COSTS, VALUES, users=users, deadline_ns=DEADLINE_NS, workers=WORKERS)
    assert day.requests == day.on_time + day.late + day.refused + day.dropped >= 20 * users
    assert day.on_time >= 0.99 * day.requests
    assert 0.9 * bound <= day.value / day.requests <= bound + 1e-9
    again = simulate_users(
        LadderPolicy(COSTS, VALUES, workers=WORKERS),
        users,
        COSTS,
        VALUES,
        seconds=1.0,
        deadline_ns=DEADLINE_NS,
        workers=WORKERS,
        seed=1,
    )
    assert again == day


def test_a_user_without_an_answer_waits_for_its_deadline() -> None:
    slow = CostTable([[20 * MILLISECOND * size for size in BATCHES]])
    values = ValueTable((1.0,))
    policy = FixedPolicy(slow, 0, workers=1, name="slow")
    day = simulate_users(
        policy, 8, slow, values, seconds=1.0, deadline_ns=30 * MILLISECOND, workers=1, seed=1
    )
    # One in 20 ms is all that one worker can do; the others ask once in 30 ms, not at once.
    assert 40 <= day.on_time <= 51
    assert day.requests <= 8 * 50


def test_the_closed_loop_bound_gives_every_user_an_equal_share() -> None:
    alone = closed_loop_bound(COSTS, VALUES, users=1, deadline_ns=DEADLINE_NS, workers=2)
    crowd = closed_loop_bound(COSTS, VALUES, users=64, deadline_ns=DEADLINE_NS, workers=2)
    mob = closed_loop_bound(COSTS, VALUES, users=10_000, deadline_ns=DEADLINE_NS, workers=2)
    assert alone == pytest.approx(1.0)
    assert alone > crowd > mob > 0
    assert closed_loop_bound(COSTS, VALUES, users=10**9, deadline_ns=DEADLINE_NS, workers=2) < 1e-3

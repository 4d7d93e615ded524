"""The laws of the scheduler: order, deadlines, the frontier, admission, and who is answered how often."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from router_samples import COSTS, DEADLINE_NS, VALUES, request

from data.errors import ConfigError
from engine.inference.serving.forecast import BATCHES, LatencyForecast
from engine.inference.serving.planning import PlanLimits, Planner, ValueTable, efficient_frontier, ladder_of
from engine.inference.serving.queueing import Admission, EdfQueue, WorkerScheduler
from engine.inference.serving.request import Request

MILLISECOND = 1_000_000


def mixed_value(budget: float, costs: list[float], values: list[float]) -> float:
    """The best mix of two variants (or of one and nothing) within a mean cost, by trying all pairs."""
    points = [(0.0, 0.0), *zip(costs, values, strict=True)]
    best = max(value for cost, value in points if cost <= budget)
    for low_cost, low_value in points:
        for high_cost, high_value in points:
            if low_cost <= budget < high_cost:
                share = (budget - low_cost) / (high_cost - low_cost)
                best = max(best, low_value + share * (high_value - low_value))
    return best


@given(
    st.lists(st.tuples(st.floats(0.1, 100.0), st.floats(0.01, 1.0)), min_size=1, max_size=7),
    st.floats(0.0, 120.0),
)
def test_the_frontier_loses_nothing_that_a_mix_could_give(
    points: list[tuple[float, float]], budget: float
) -> None:
    costs, values = [cost for cost, _ in points], [value for _, value in points]
    hull = efficient_frontier(costs, values)
    kept = mixed_value(budget, [costs[i] for i in hull], [values[i] for i in hull])
    assert kept == pytest.approx(mixed_value(budget, costs, values), abs=1e-9)
    for lower, upper in pairwise(hull):
        assert costs[lower] < costs[upper]
        assert values[lower] < values[upper]


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 5)), max_size=40))
def test_the_queue_gives_requests_in_order_of_deadline(drawn: list[tuple[int, int]]) -> None:
    queue = EdfQueue()
    requests = [request(number, deadline_ns=deadline) for number, (deadline, _) in enumerate(drawn)]
    for one in requests:
        queue.push(one)
    assert list(queue.deadlines()) == sorted(one.deadline_ns for one in requests)
    out = queue.pop(len(requests))
    assert out == sorted(requests, key=lambda one: (one.deadline_ns, one.request_id))


offsets = st.lists(st.integers(0, 80 * MILLISECOND), min_size=1, max_size=64)


@given(offsets, st.floats(1.0, 8.0))
def test_a_run_never_ends_past_its_tightest_deadline_by_forecast(
    deadlines: list[int], slowdown: float
) -> None:
    planner = Planner(LatencyForecast(COSTS), VALUES)
    deadlines.sort()
    plan = planner.choose(deadlines, b"", 0, slowdown)
    if plan is None:
        assert planner.cheapest_ns(slowdown) > deadlines[0] - planner.limits.guard_ns
    else:
        assert 1 <= plan.count <= len(deadlines)
        assert plan.tail_ns <= deadlines[0] - planner.limits.guard_ns


@given(offsets, st.floats(1.0, 8.0))
def test_a_longer_queue_never_buys_a_better_variant(deadlines: list[int], slowdown: float) -> None:
    deadlines.sort()
    values = []
    for length in (len(deadlines), max(1, len(deadlines) // 2)):
        planner = Planner(LatencyForecast(COSTS), VALUES)
        plan = planner.choose(deadlines[:length], b"", 0, slowdown)
        values.append(-1.0 if plan is None else VALUES.values[plan.variant])
    assert values[0] <= values[1]


def test_a_quiet_worker_uses_the_best_and_a_full_one_the_cheapest() -> None:
    planner = Planner(LatencyForecast(COSTS), VALUES)
    alone = planner.choose([DEADLINE_NS], b"", 0, 1.0)
    assert alone is not None
    assert alone.variant == 5
    crowd = planner.choose([10 * MILLISECOND] * 20_000, b"", 0, 4.0)
    assert crowd is not None
    assert (crowd.variant, crowd.count) == (0, 64)


def test_stepping_up_needs_slack_that_stepping_down_does_not() -> None:
    forecast = LatencyForecast(COSTS)
    # The longest queue that the largest model affords from a fresh start.
    limits = PlanLimits()

    def best_for(planner: Planner, count: int) -> int:
        plan = planner.choose([DEADLINE_NS] * count, b"", 0, 1.0)
        assert plan is not None
        return plan.variant

    longest = max(count for count in range(1, 64) if best_for(Planner(forecast, VALUES), count) == 5)
    planner = Planner(forecast, VALUES, limits=limits)
    assert best_for(planner, longest + 1) == 4
    stepped = next(count for count in range(longest, 0, -1) if best_for(planner, count) == 5)
    assert stepped < longest
    assert best_for(planner, longest) == 5


def test_the_cascade_spends_time_on_the_unsure() -> None:
    values = ValueTable((0.5, 1.0), margin_edges=(0.5,), by_margin=((0.1, 0.9), (1.0, 1.0)))
    costs = type(COSTS)([[90_000.0 + 9_000.0 * size for size in BATCHES], [2e6 * size for size in BATCHES]])
    planner = Planner(LatencyForecast(costs), values)
    deadlines = [DEADLINE_NS] * 60
    unsure = planner.choose(deadlines, bytes((0, 1)) * 30, 0, 1.0)
    sure = planner.choose(deadlines, bytes((1, 0)) * 30, 0, 1.0)
    assert unsure is not None
    assert sure is not None
    assert (unsure.variant, sure.variant) == (1, 0)
    # All that keep to the small one share its run, wherever they stand in line.
    assert list(unsure.places) == [0]
    assert list(sure.places) == list(range(0, 60, 2))
    # With nobody unsure in line there is time for the large model.
    assert planner.choose(deadlines[:20], bytes([1]) * 20, 0, 1.0).variant == 1  # type: ignore[union-attr]


columns = st.lists(st.lists(st.floats(0.0, 1.0), min_size=3, max_size=3), min_size=4, max_size=4)


@given(columns, st.lists(st.floats(0.0, 1.0), min_size=24, max_size=24))
def test_a_longer_queue_with_margins_never_buys_a_dearer_rung_and_keeps_its_first_deadline(
    by_margin: list[list[float]], margins: list[float]
) -> None:
    average = [sum(row) / 3 for row in by_margin]
    values = ValueTable(average, margin_edges=(0.3, 0.6), by_margin=by_margin)
    costs = type(COSTS)([[1e5 * 8**v * size for size in (1, 2, 4, 8, 16, 32, 64)] for v in range(4)])
    means = []
    for length in (8, 24):
        planner = Planner(LatencyForecast(costs), values)
        bins = bytes(map(values.bin_of, margins[:length]))
        plan = planner.choose([DEADLINE_NS] * length, bins, 0, 1.0)
        if plan is None:
            assert not planner.frontier or planner.cheapest_ns(1.0) > DEADLINE_NS - planner.guard_ns
            return
        assert plan.places[0] == 0
        assert list(plan.places) == sorted(set(plan.places))
        assert plan.tail_ns <= DEADLINE_NS - planner.guard_ns
        rung = min(planner.rungs, key=lambda rung: abs(rung.item_ns - planner._last_item_ns))
        assert all(rung.variants[bins[p]] == plan.variant for p in plan.places)
        means.append(rung.item_ns)
    assert means[1] <= means[0]


def test_rungs_exchange_the_variant_that_gains_most_for_its_time() -> None:
    values = ValueTable(
        (0.5, 0.8, 1.0),
        margin_edges=(0.5,),
        by_margin=((0.2, 0.8), (0.7, 0.9), (1.0, 1.0)),
        shares=(0.5, 0.5),
    )
    rungs = ladder_of((0, 1, 2), (1.0, 2.0, 4.0), values, (0, 1, 2))
    assert [rung.variants for rung in rungs] == [
        (0, 0, 0), (1, 0, 0), (1, 0, 1), (2, 0, 1), (2, 1, 1), (2, 1, 2), (2, 2, 2),
    ]  # fmt: skip
    assert rungs[0].item_ns == 1.0
    assert rungs[-1].item_ns == 4.0
    with pytest.raises(ConfigError, match="shares must be 2"):
        ValueTable((0.5,), margin_edges=(0.5,), by_margin=((0.2, 0.8),), shares=(0.5, 0.6))
    with pytest.raises(ConfigError, match="values must be finite"):
        ValueTable((float("nan"),))


def test_a_tripped_variant_is_planned_around_until_its_time_is_up() -> None:
    scheduler = WorkerScheduler(COSTS, VALUES)
    now_ns, used = 0, []
    for number in range(6):
        scheduler.offer(request(number, arrival_ns=now_ns, deadline_ns=now_ns + DEADLINE_NS))
        run, hopeless = scheduler.next_run(now_ns)
        assert run is not None
        assert not hopeless
        used.append(run.plan.variant)
        now_ns += 3 * MILLISECOND
        bad = run.plan.variant == 5
        scheduler.finished(run, now_ns, took_ns=run.plan.typical_ns, run_delay_ns=0.0, good=[not bad])
    assert used == [5, 5, 5, 4, 4, 4]
    scheduler.offer(request(9, arrival_ns=10**10, deadline_ns=10**10 + DEADLINE_NS))
    run, _ = scheduler.next_run(10**10)
    assert run is not None
    assert run.plan.variant == 5


@given(st.lists(st.tuples(st.integers(1, 60), st.integers(1, 60)), min_size=1, max_size=80))
@settings(max_examples=60)
def test_a_scheduler_loses_no_request_and_gives_none_twice(drawn: list[tuple[int, int]]) -> None:
    scheduler, seen, now_ns = WorkerScheduler(COSTS, VALUES), [], 0
    for number, (gap_ms, room_ms) in enumerate(drawn):
        now_ns += gap_ms * MILLISECOND // 20
        scheduler.offer(request(number, arrival_ns=now_ns, deadline_ns=now_ns + room_ms * MILLISECOND))
        if number % 3 == 0:
            run, hopeless = scheduler.next_run(now_ns)
            seen += [one.request_id for one in hopeless]
            if run is not None:
                seen += [one.request_id for one in run.requests]
                now_ns += int(run.plan.typical_ns)
    while scheduler.queue:
        run, hopeless = scheduler.next_run(now_ns)
        seen += [one.request_id for one in (*hopeless, *(run.requests if run else ()))]
        now_ns += int(run.plan.typical_ns) if run else 0
    assert sorted(seen) == list(range(len(drawn)))


def test_an_overload_sheds_what_is_worth_least() -> None:
    scheduler = WorkerScheduler(
        type(COSTS)([[1e6 * size for size in (1, 2, 4, 8, 16, 32, 64)]]), ValueTable([1.0])
    )
    for number in range(100):
        worth = 5.0 if number % 2 else 1.0
        scheduler.offer(Request(request_id=number, arrival_ns=0, deadline_ns=DEADLINE_NS, value=worth))
    run, hopeless = scheduler.next_run(0)
    assert run is not None
    assert {one.value for one in hopeless[:50]} == {1.0}
    assert len(scheduler.queue) + len(run.requests) + len(hopeless) == 100
    assert len(scheduler.queue) + len(run.requests) >= 35


def test_admission_refuses_what_no_order_of_service_would_meet() -> None:
    admission = Admission(2, item_ns=1e6, single_ns=2e6, guard_ns=0)
    taken = 0
    while (worker := admission.place(10 * MILLISECOND, 0)) is not None:
        admission.outstanding[worker] += 1
        taken += 1
    assert taken == 2 * 9
    assert max(admission.outstanding) - min(admission.outstanding) == 0
    admission.open[:] = [False, False]
    assert admission.place(10**12, 0) is None


def test_admission_prefers_the_worker_that_is_not_slowed() -> None:
    admission = Admission(2, item_ns=1e6, single_ns=1e6)
    admission.slowdowns = [4.0, 1.0]
    places = []
    for _ in range(5):
        worker = admission.place(10**9, 0)
        assert worker is not None
        admission.outstanding[worker] += 1
        places.append(worker)
    assert places == [1, 1, 1, 0, 1]


def test_least_valuable_go_first_when_all_cannot_be_kept() -> None:
    queue = EdfQueue()
    requests = [
        Request(request_id=n, arrival_ns=0, deadline_ns=n, value=v)
        for n, v in enumerate((3.0, 1.0, 2.0, 1.0))
    ]
    for one in requests:
        queue.push(one)
    assert [one.request_id for one in queue.pop_least_valuable(2)] == [3, 1]
    assert len(queue) == 2


def test_admission_keeps_the_guard_free_and_refuses_no_sooner() -> None:
    for deadline_ns, expected in ((1_000, 0), (999, None)):
        for held, extra_ns in ((0, 0), (3, 3 * 50)):
            admission = Admission(1, item_ns=50.0, single_ns=200.0, guard_ns=800)
            admission.outstanding[0] = held
            assert admission.place(7 + extra_ns + deadline_ns, 7) == expected
            assert admission.place_many([7 + extra_ns + deadline_ns], 7) == [-1 if expected is None else 0]


def test_the_first_run_behind_the_head_counts() -> None:
    """Two due at once and the rest much later: the head's run must leave time for the second."""
    planner = Planner(LatencyForecast(COSTS), VALUES)
    tight, loose = 7 * MILLISECOND, 500 * MILLISECOND
    alone = planner.choose([tight, *[loose] * 5], b"", 0, 1.0)
    assert alone is not None
    assert alone.variant == len(COSTS) - 1
    beside = planner.choose([tight, tight, *[loose] * 5], b"", 0, 1.0)
    assert beside is not None
    assert beside.variant < len(COSTS) - 1


@given(
    st.lists(st.integers(2 * MILLISECOND, 60 * MILLISECOND), min_size=1, max_size=300),
    st.floats(1.0, 8.0),
)
def test_no_run_is_forecast_to_end_after_its_tightest_deadline(offsets: list[int], slowdown: float) -> None:
    planner = Planner(LatencyForecast(COSTS), VALUES)
    plan = planner.choose(sorted(offsets), b"", 0, slowdown)
    room_ns = min(offsets) - planner.guard_ns
    if plan is None:
        assert planner.cheapest_ns(slowdown) > room_ns
    else:
        assert plan.places[0] == 0
        assert plan.tail_ns <= room_ns

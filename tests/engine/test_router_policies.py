"""The rivals decide as their pages say: what beats them must beat the real thing."""

from __future__ import annotations

import pytest
from router_samples import COSTS, VALUES, request

from engine.inference.serving.policies import ClockworkPolicy, FixedPolicy, InfaasPolicy, SimulatedRun

MILLISECOND = 1_000_000
LARGE, INT8, MEDIUM = 5, 4, 2


def run_of(policy: ClockworkPolicy | FixedPolicy | InfaasPolicy, now_ns: int = 0) -> SimulatedRun:
    run, dropped = policy.next_run(0, now_ns)
    assert run is not None
    assert not dropped
    return run


def test_clockwork_refuses_what_would_end_late_and_nothing_else() -> None:
    policy = ClockworkPolicy(COSTS, LARGE, workers=1, name="clockwork")
    single_ns = round(COSTS.batch_ns(LARGE, 1))
    assert policy.arrive(request(1, deadline_ns=single_ns - 1), 0) is None
    assert policy.arrive(request(2, deadline_ns=single_ns), 0) == 0
    behind_ns = round(COSTS.item_ns(LARGE)) + single_ns
    assert policy.arrive(request(3, deadline_ns=behind_ns - 1), 0) is None
    assert policy.arrive(request(4, deadline_ns=behind_ns + 1), 0) == 0


def test_clockwork_takes_the_largest_batch_that_meets_the_tightest_deadline() -> None:
    policy = ClockworkPolicy(COSTS, MEDIUM, workers=1, name="clockwork")
    tight_ns = round(COSTS.batch_ns(MEDIUM, 8)) + 1
    for number in range(40):
        assert policy.arrive(request(number, deadline_ns=tight_ns + number * MILLISECOND), 0) == 0
    assert len(run_of(policy).requests) == 8


def test_clockwork_expects_the_longest_of_the_last_ten_runs() -> None:
    policy = ClockworkPolicy(COSTS, LARGE, workers=1, name="clockwork")
    single_ns = round(COSTS.batch_ns(LARGE, 1))

    def takes(deadline_ns: int) -> bool:
        found = policy.arrive(request(99, deadline_ns=deadline_ns), 0) is not None
        if found:
            policy.next_run(0, 0)
            policy.finished(0, SimulatedRun(LARGE, [request(99)]), 0, took_ns=single_ns, run_delay_ns=0.0)
        return found

    policy.finished(0, SimulatedRun(LARGE, [request(1)]), 0, took_ns=3.0 * single_ns, run_delay_ns=0.0)
    for _ in range(9):
        assert not takes(3 * single_ns - 10)
        assert takes(3 * single_ns + 10)
    # The tenth run after it has pushed it out.
    assert takes(3 * single_ns + 10)
    assert takes(single_ns)


def test_a_fixed_choice_runs_efficient_batches_and_drops_what_is_late() -> None:
    policy = FixedPolicy(COSTS, MEDIUM, workers=1, name="always")
    for number in range(100):
        policy.arrive(request(number, deadline_ns=50 * MILLISECOND), 0)
    assert len(run_of(policy).requests) == COSTS.efficient[MEDIUM]
    run, dropped = policy.next_run(0, 50 * MILLISECOND)
    assert run is None
    assert len(dropped) == 100 - COSTS.efficient[MEDIUM]


@pytest.mark.parametrize(("share", "expected"), [(0.95, LARGE), (1.05, INT8)])
def test_infaas_carries_the_load_with_the_best_variant_that_can(share: float, expected: int) -> None:
    window_ns = 1_000 * MILLISECOND
    policy = InfaasPolicy(COSTS, VALUES, workers=1, window_ns=window_ns)
    rate = share / COSTS.item_ns(LARGE)
    count = round(rate * window_ns)
    for number in range(count):
        policy.arrive(request(number, deadline_ns=2**60), number * window_ns // count)
        policy.finished(0, run_of(policy), 0, took_ns=1.0, run_delay_ns=0.0)
    policy.arrive(request(count, deadline_ns=2**60), window_ns)
    assert run_of(policy).variant == expected


def test_infaas_steps_down_while_the_queue_would_not_meet_the_deadline() -> None:
    policy = InfaasPolicy(COSTS, VALUES, workers=1)
    deadline_ns = round(1.6 * COSTS.batch_ns(LARGE, 1))
    for expected in (LARGE, INT8):
        policy.arrive(request(expected, deadline_ns=deadline_ns), 0)
    assert [run_of(policy).variant, run_of(policy).variant] == [INT8, LARGE]
    # What was taken out weighs no more.
    policy.arrive(request(9, deadline_ns=deadline_ns), 0)
    assert run_of(policy).variant == LARGE

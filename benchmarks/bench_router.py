"""The inference router: what a decision costs, what a look at pressure costs, and what decisions are worth.

Floors: for decisions, sorting the same deadlines; for pressure, the system call alone.
"""

from __future__ import annotations

import os
import threading
from typing import Final

import numpy as np

from engine.inference.serving.forecast import LatencyForecast
from engine.inference.serving.planning import Planner
from engine.inference.serving.pressure import RunDelayReader, StallReader

from .harness import Bench, scenario
from .router_days import (
    NO_CASCADE,
    OURS,
    Comparison,
    compare_days,
    compare_users,
    policies,
    ratio_interval,
    with_and_without_cascade,
)
from .router_ladders import REFERENCE, RouterLadder, reference_with_margins, shipped_ladder

GAIN_MIN: Final = 1.15
SHARE_MIN: Final = 0.9
LOSS_MIN: Final = 0.995


@scenario(
    "router-plan",
    "Inference router: choose variant and batch for a queue",
    conditions="one planner in Python, deadlines spread over 50 ms; floor: sorting the same deadlines.",
)
def router_plan(bench: Bench) -> None:
    count = bench.parameter("decisions", smoke=20, full=5_000)
    random = np.random.default_rng(bench.seed)
    for waiting in (1, 8, 32):
        queues = [
            sorted(random.integers(5_000_000, REFERENCE.deadline_ns, waiting).tolist())
            for _ in range(min(count, 64))
        ]
        planner = Planner(LatencyForecast(REFERENCE.costs), REFERENCE.values)

        def plan(queues: list[list[int]] = queues, planner: Planner = planner) -> None:
            for turn in range(count):
                planner.choose(queues[turn % len(queues)], b"", 0, 1.0)

        def order(queues: list[list[int]] = queues) -> None:
            for turn in range(count):
                sorted(queues[turn % len(queues)])

        bench.throughput(f"{waiting} waiting", plan, count=count, floor=order)
        answer = planner.choose(queues[0], b"", 0, 1.0)
        bench.verify(answer is None or answer.tail_ns <= queues[0][0], "a run ends before its first deadline")


@scenario(
    "router-pressure",
    "Inference router: one look at CPU pressure",
    conditions="kept descriptors, parsed in Python; floor: the same read without parsing.",
)
def router_pressure(bench: Bench) -> None:
    count = bench.parameter("reads", smoke=20, full=20_000)
    path = f"/proc/self/task/{threading.get_native_id()}/schedstat"
    if not os.path.exists(path):
        path = os.devnull
    descriptor = os.open(path, os.O_RDONLY)
    delay, stall = RunDelayReader(), StallReader()
    try:

        def floor() -> None:
            for _ in range(count):
                os.pread(descriptor, 64, 0)

        def read(reader: RunDelayReader | StallReader) -> None:
            for _ in range(count):
                reader.read_ns()

        bench.throughput("run-delay", lambda: read(delay), count=count, floor=floor, goal=2_000.0)
        bench.throughput("PSI", lambda: read(stall), count=count, floor=floor)
        first = delay.read_ns()
        bench.verify(delay.read_ns() >= first >= 0, "run-delay never runs backwards")
    finally:
        delay.close()
        stall.close()
        os.close(descriptor)


@scenario(
    "router-days",
    "Inference router: value of answers over 24 loads, simulated",
    conditions="a reference ladder (times measured, values assumed), 2 workers, 50 ms; one sample per trace; "
    "floor: the clairvoyant's bound, 1.",
)
def router_days(bench: Bench) -> None:
    tenths = bench.parameter("tenths_of_seconds", smoke=1, full=40)
    found = compare_days(REFERENCE, policies(REFERENCE), seconds=tenths / 10.0, seed=bench.seed)
    _record_days(bench, found)
    _verify_goals(bench, found, REFERENCE)


@scenario(
    "router-cascade",
    "Inference router: what the cascade gains, simulated",
    conditions="24 loads, 2 workers; margins of first answers, and what larger models gain by them, measured "
    "on a generated day that no build uses; the reference ladder with these, 50 ms, and the shipped one with "
    "80 us a turn, 10 ms; one sample per trace; floor: the bound of a clairvoyant who knows the margins, 1.",
)
def router_cascade(bench: Bench) -> None:
    tenths = bench.parameter("tenths_of_seconds", smoke=1, full=10)
    rows = bench.parameter("judged_windows", smoke=200, full=12_000)
    shipped = shipped_ladder(rows=rows, seed=bench.seed)
    for name, ladder in (("reference", reference_with_margins(shipped)), ("shipped", shipped)):
        found = compare_days(ladder, with_and_without_cascade(ladder), seconds=tenths / 10.0, seed=bench.seed)
        for row, policy in enumerate(found.policies):
            bench.record(
                f"{name}, {policy}", "of bound", (found.value[row] / found.bound).tolist(), floor=1.0
            )
        gain, low, high = ratio_interval(found.of(OURS), found.of(NO_CASCADE), seed=bench.seed)
        for figure, value in (("ratio", gain), ("2.5 %", low), ("97.5 %", high)):
            bench.record(f"{name}, cascade over none: {figure}", "times", (value,), floor=1.0)
        # The shipped rungs lie so close that the cascade may be worth nothing; it must not cost anything.
        least = 1.0 if name == "reference" else LOSS_MIN
        bench.verify(
            bench.smoke or low > least, f"{name}: a gain above {least}, was {gain:.4f}, at least {low:.4f}"
        )
        _verify_share(bench, found)


@scenario(
    "router-users",
    "Inference router: closed-loop users, simulated",
    conditions="2 workers, users who ask again at once, 50 ms (reference) and 10 ms (shipped); value over "
    "the clairvoyant's bound, then the share of answers per variant; floor: that bound, 1.",
)
def router_users(bench: Bench) -> None:
    seconds = bench.parameter("seconds", smoke=1, full=10)
    rows = bench.parameter("judged_windows", smoke=200, full=12_000)
    for name, ladder in (("reference", REFERENCE), ("shipped", shipped_ladder(rows=rows, seed=bench.seed))):
        for users in (1, 4, 16, 64, 256):
            day, bound = compare_users(ladder, users, seconds=seconds, seed=bench.seed)
            share = day.value / day.requests / bound
            title = f"{name}, {users} users"
            bench.record(f"{title}: value", "of bound", (share,), floor=1.0)
            bench.verify(
                bench.smoke or share >= SHARE_MIN, f"{title}: {SHARE_MIN} of the bound, was {share:.3f}"
            )
            bench.verify(day.on_time >= 0.99 * day.requests, f"{title}: 99 % in time")
            for variant, count in zip(ladder.names, day.variant_counts, strict=True):
                if count:
                    bench.record(f"{title}: {variant}", "share", (count / day.requests,), floor=1.0)
            smallest = day.variant_counts[ladder.small] / day.requests
            bench.verify(smallest < 0.5, f"{title}: not the smallest for most, was {smallest:.2f}")


def _record_days(bench: Bench, found: Comparison) -> None:
    for row, policy in enumerate(found.policies):
        bench.record(policy, "of bound", (found.value[row] / found.bound).tolist(), floor=1.0)
    bench.verify(bool((found.value <= found.bound + 1e-9).all()), "nobody beats the bound")


def _verify_goals(bench: Bench, found: Comparison, ladder: RouterLadder) -> None:
    ours = found.of(OURS)
    chosen = (ladder.small, ladder.int8, ladder.large)
    static = found.best_of([f"always {ladder.names[variant]}" for variant in chosen])
    gain, low, _ = ratio_interval(ours, found.of(static), seed=bench.seed)
    bench.verify(low > 1.0 and (bench.smoke or gain >= GAIN_MIN), f"{GAIN_MIN} x {static}, was {gain:.3f}")
    _verify_share(bench, found)


def _verify_share(bench: Bench, found: Comparison) -> None:
    share = float(found.of(OURS).sum() / found.bound.sum())
    bench.verify(bench.smoke or share >= SHARE_MIN, f"{SHARE_MIN} of the bound, was {share:.3f}")

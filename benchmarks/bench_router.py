"""The inference router: what a decision costs, what a look at pressure costs, and what decisions are worth.

Floors: for decisions, sorting the same deadlines; for pressure, the system call alone.
"""

from __future__ import annotations

import os
import threading
from array import array
from itertools import product
from typing import Final

import numpy as np

from engine.inference.ladder import load_ladder
from engine.inference.serving.forecast import LatencyForecast
from engine.inference.serving.measure import value_table
from engine.inference.serving.planning import Planner
from engine.inference.serving.readers import IdleReader, RunDelayReader, StallReader, usable_cores
from engine.inference.serving.spare import SpareGauge

from .harness import Bench, scenario
from .router_days import (
    NO_CASCADE,
    OURS,
    Comparison,
    compare_days,
    compare_users,
    policies,
    ratio_interval,
    rivals,
    with_and_without_cascade,
)
from .router_ladders import (
    REFERENCE,
    RouterLadder,
    reference_with_margins,
    shipped_costs,
    shipped_ladder,
)

GAIN_MIN: Final = 1.15
SHARE_MIN: Final = 0.9
LOSS_MIN: Final = 0.995


@scenario(
    "router-plan",
    "Inference router: choose variant and batch for a queue",
    conditions="one planner in Python, deadlines spread over 50 ms; the reference ladder, and the package's, "
    "which cascades; floor: sorting the same deadlines.",
)
def router_plan(bench: Bench) -> None:
    count = bench.parameter("decisions", smoke=20, full=5_000)
    random = np.random.default_rng(bench.seed)
    variants = load_ladder()
    shipped = LatencyForecast(shipped_costs([variant.name for variant in variants]))
    planners = {
        "": Planner(LatencyForecast(REFERENCE.costs), REFERENCE.values),
        ", cascade": Planner(shipped, value_table(variants)),
    }
    for (kind, planner), waiting in product(planners.items(), (1, 8, 32, 1_024)):
        queues: list[tuple[array[int], bytes]] = []
        for _ in range(min(count, 64)):
            deadlines = sorted(random.integers(5_000_000, REFERENCE.deadline_ns, waiting).tolist())
            queues.append((array("q", deadlines), bytes(random.integers(0, 8, waiting).tolist())))

        def plan(queues: list[tuple[array[int], bytes]] = queues, planner: Planner = planner) -> None:
            for turn in range(count):
                planner.choose(*queues[turn % len(queues)], 0, 1.0)

        def order(queues: list[tuple[array[int], bytes]] = queues) -> None:
            for turn in range(count):
                sorted(queues[turn % len(queues)][0])

        bench.throughput(f"{waiting:,} waiting{kind}", plan, count=count, floor=order)
        answer = planner.choose(*queues[0], 0, 1.0)
        bench.verify(
            answer is None or answer.tail_ns <= queues[0][0][0], "a run ends before its first deadline"
        )


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
    cores = usable_cores()
    idle, spare = IdleReader(cores, machine_cores=os.cpu_count() or len(cores)), SpareGauge(len(cores))
    try:

        def floor() -> None:
            for _ in range(count):
                os.pread(descriptor, 64, 0)

        def read(reader: RunDelayReader | StallReader) -> None:
            for _ in range(count):
                reader.read_ns()

        bench.throughput("run-delay", lambda: read(delay), count=count, floor=floor, goal=2_000.0)
        bench.throughput("PSI", lambda: read(stall), count=count, floor=floor)

        def read_idle() -> None:
            for _ in range(count):
                idle.read_ns()

        def judge() -> None:
            for turn in range(count):
                now_ns = turn * 4_000_000
                spare.observe(now_ns, idle_ns=now_ns, own_ns=now_ns // 2, runnable=2)
            spare.forget()

        bench.throughput("idle time", read_idle, count=count, floor=floor, goal=2_000.0)
        bench.throughput("what the gauge of spare time makes of it", judge, count=count, floor=floor)
        first = delay.read_ns()
        bench.verify(delay.read_ns() >= first >= 0, "run-delay never runs backwards")
    finally:
        delay.close()
        stall.close()
        idle.close()
        os.close(descriptor)


@scenario(
    "router-days",
    "Inference router: value of answers over 24 loads, simulated",
    conditions="2 workers; loads from 0.2 to 30 times what they can do with the largest model, the same for "
    "each ladder; the reference ladder (times measured, values assumed), 50 ms, and the package's (times and "
    "values measured, 80 us a turn), 10 ms; one sample per trace, and of a ratio of means the ends of its "
    "paired 95 % interval as minimum and maximum; floor: the clairvoyant's bound, 1.",
)
def router_days(bench: Bench) -> None:
    lengths = {
        "reference": bench.parameter("reference_deadlines", smoke=2, full=80),
        "shipped": bench.parameter("shipped_deadlines", smoke=2, full=30),
    }
    for name, ladder in _ladders(bench).items():
        found = compare_days(ladder, policies(ladder), deadlines=lengths[name], seed=bench.seed)
        _record_days(bench, name, found)
        bench.verify(bool((found.value <= found.bound + 1e-9).all()), f"{name}: nobody beats the bound")
        for what, rival in rivals(ladder, found).items():
            gain, low, high = ratio_interval(found.of(OURS), found.of(rival), seed=bench.seed)
            bench.record(f"{name}, anytick over {what}: {rival}", "times", (low, gain, high), floor=1.0)
            least = GAIN_MIN if what.startswith("best of") else LOSS_MIN
            bench.verify(
                bench.smoke or (gain >= least and low > min(least, 1.0)),
                f"{name}: {least} x {rival}, was {gain:.3f}, at least {low:.3f}",
            )
        _verify_share(bench, name, found)


@scenario(
    "router-cascade",
    "Inference router: what the cascade gains, simulated",
    conditions="24 loads, 2 workers; margins of first answers, and what larger models gain by them, measured "
    "on a generated day that no build uses; the reference ladder with these, 50 ms, and the package's with "
    "80 us a turn, 10 ms; one sample per trace, and of a ratio of means the ends of its paired 95 % interval "
    "as minimum and maximum; floor: the bound of a clairvoyant who knows the margins, 1.",
)
def router_cascade(bench: Bench) -> None:
    deadlines = bench.parameter("deadlines", smoke=2, full=20)
    shipped = _ladders(bench)["shipped"]
    for name, ladder in (("reference", reference_with_margins(shipped)), ("shipped", shipped)):
        found = compare_days(ladder, with_and_without_cascade(ladder), deadlines=deadlines, seed=bench.seed)
        _record_days(bench, name, found)
        gain, low, high = ratio_interval(found.of(OURS), found.of(NO_CASCADE), seed=bench.seed)
        bench.record(f"{name}, cascade over none", "times", (low, gain, high), floor=1.0)
        # The shipped rungs lie so close that the cascade may be worth nothing; it must not cost anything.
        least = 1.0 if name == "reference" else LOSS_MIN
        bench.verify(
            bench.smoke or low > least, f"{name}: a gain above {least}, was {gain:.4f}, at least {low:.4f}"
        )
        _verify_share(bench, name, found)


@scenario(
    "router-users",
    "Inference router: closed-loop users, simulated",
    conditions="2 workers, users who ask again at once, 50 ms (reference) and 10 ms (shipped); value over "
    "the clairvoyant's bound, then the share of answers per variant; floor: that bound, 1.",
)
def router_users(bench: Bench) -> None:
    seconds = bench.parameter("seconds", smoke=1, full=4)
    for name, ladder in _ladders(bench).items():
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


def _ladders(bench: Bench) -> dict[str, RouterLadder]:
    rows = bench.parameter("judged_windows", smoke=200, full=6_000)
    return {"reference": REFERENCE, "shipped": shipped_ladder(rows=rows, seed=bench.seed)}


def _record_days(bench: Bench, name: str, found: Comparison) -> None:
    for row, policy in enumerate(found.policies):
        bench.record(f"{name}, {policy}", "of bound", (found.value[row] / found.bound).tolist(), floor=1.0)


def _verify_share(bench: Bench, name: str, found: Comparison) -> None:
    share = float(found.of(OURS).sum() / found.bound.sum())
    bench.verify(bench.smoke or share >= SHARE_MIN, f"{name}: {SHARE_MIN} of the bound, was {share:.3f}")

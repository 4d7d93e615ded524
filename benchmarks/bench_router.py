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
    DEADLINE_NS,
    INT8,
    LARGE,
    NAMES,
    REFERENCE_COSTS,
    REFERENCE_VALUES,
    SMALL,
    compare_days,
    ratio_interval,
)

GAIN_MIN: Final = 1.15
SHARE_MIN: Final = 0.9


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
            sorted(random.integers(5_000_000, DEADLINE_NS, waiting).tolist()) for _ in range(min(count, 64))
        ]
        planner = Planner(LatencyForecast(REFERENCE_COSTS), REFERENCE_VALUES)

        def plan(queues: list[list[int]] = queues, planner: Planner = planner) -> None:
            for turn in range(count):
                planner.choose(queues[turn % len(queues)], (), 0, 1.0)

        def order(queues: list[list[int]] = queues) -> None:
            for turn in range(count):
                sorted(queues[turn % len(queues)])

        bench.throughput(f"{waiting} waiting", plan, count=count, floor=order)
        answer = planner.choose(queues[0], (), 0, 1.0)
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
    found = compare_days(seconds=tenths / 10.0, seed=bench.seed)
    for row, policy in enumerate(found.policies):
        bench.record(policy, "of bound", (found.value[row] / found.bound).tolist(), floor=1.0)
    bench.verify(bool((found.value <= found.bound + 1e-9).all()), "nobody beats the bound")
    ours = found.of("anytick")
    static = found.best_of([f"always {NAMES[variant]}" for variant in (SMALL, INT8, LARGE)])
    gain, low, _ = ratio_interval(ours, found.of(static), seed=bench.seed)
    bench.verify(low > 1.0 and (bench.smoke or gain >= GAIN_MIN), f"{GAIN_MIN} x {static}, was {gain:.3f}")
    share = float(ours.sum() / found.bound.sum())
    bench.verify(share >= SHARE_MIN, f"{SHARE_MIN} of the bound, was {share:.3f}")

"""Rings beside the limit of the machine: round trips, events a second, between threads and processes.

The two sides run on two pinned cores and spin, without the interpreter, in `ext/ring_probe.pyx`. The limit
of a round trip is a number that travels over two cache lines and back, and of throughput the same bytes in
two halves of a block that take turns. Python's own queues stand in `peers/peer_rings.py`.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from data.schema import EVENT_DTYPE
from ext.ring_buffer import SpscRing
from ext.ring_memory import unlink_ring
from ext.ring_probe import CacheLines, HalvesInTurn, pop_cycling, push_cycling, ring_ping, ring_pong

from .harness import Bench, scenario
from .other_process import other_process

CAPACITY: Final = 4_096
BATCH: Final = 256
TURNS: Final = 5

Side = Callable[[], Any]


def pin(core: int) -> None:
    """Keep the calling thread on one of the cores that this process may use."""
    if hasattr(os, "sched_setaffinity"):
        allowed = sorted(os.sched_getaffinity(os.getpid()))
        os.sched_setaffinity(0, {allowed[core % len(allowed)]})


def both(first: Side, second: Side) -> tuple[Any, Any]:
    """Run two sides on two pinned threads; return what they returned, or raise what one raised."""
    found: list[Any] = [None, None]
    errors: list[Exception] = []

    def side(index: int, work: Side) -> None:
        pin(index)
        try:
            found[index] = work()
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=side, args=pair) for pair in enumerate((first, second))]
    for thread in threads:
        thread.start()
    try:
        for thread in threads:
            thread.join()
    except KeyboardInterrupt:
        # Each side needs the other to its end, and the interpreter waits for both.
        for thread in threads:
            thread.join()
        raise
    if errors:
        raise errors[0]
    return found[0], found[1]


def cycling_events() -> NDArray[np.void]:
    """Return one ring of events whose order_id is their position."""
    events = np.zeros(CAPACITY, EVENT_DTYPE)
    events["order_id"] = np.arange(CAPACITY)
    return events


def line_round_trips(lines: int, rounds: int) -> NDArray[np.int64]:
    pair = CacheLines(lines)
    took, _ = both(lambda: pair.ping(rounds), lambda: pair.pong(rounds))
    return np.asarray(took, np.int64)


def record_distance(bench: Bench, when: str) -> None:
    """Note how far apart the two cores are just now: a hypervisor moves virtual cores while we measure.

    Neighbours that share a core exchange a line in 100 ns, cores of two chiplets in 450, and every rate
    between them follows.
    """
    rounds = 50 if bench.smoke else 20_000
    trips = line_round_trips(1, rounds)
    bench.record(
        f"distance of the cores, {when}: round trip of one cache line",
        "ns",
        trips.tolist(),
        floor=float(np.median(trips)),
    )


def hand_over(events: NDArray[np.void], count: int) -> int:
    """Move `count` events from core to core in halves of a ring; return how many were wrong."""
    block, halves = HalvesInTurn(CAPACITY), 2 * count // CAPACITY
    return int(both(lambda: block.fill(events, halves), lambda: block.read(halves))[1])


def ring_round_trips(there: SpscRing, back: SpscRing, rounds: int) -> NDArray[np.int64]:
    took, _ = both(lambda: ring_ping(there, back, rounds), lambda: ring_pong(there, back, rounds))
    return np.asarray(took, np.int64)


@scenario(
    "ring-latency",
    "ring buffer: round trip of one event, beside the cache's own",
    conditions="two pinned threads that spin, one 48-byte event there and back, the clock's cost (tens of "
    f"ns) in every figure; capacity {CAPACITY}; floor: a number there and back over two cache lines.",
)
def ring_latency(bench: Bench) -> None:
    rounds = bench.parameter("rounds", smoke=50, full=20_000)
    found: dict[str, list[NDArray[np.int64]]] = {"one line": [], "two lines": [], "stamped": [], "index": []}
    for _ in range(1 if bench.smoke else TURNS):
        for lines, name in ((1, "one line"), (2, "two lines")):
            found[name].append(line_round_trips(lines, rounds))
        for mode in ("stamped", "index"):
            there, back = (SpscRing(CAPACITY, mode=mode) for _ in range(2))
            found[mode].append(ring_round_trips(there, back, rounds))
    floor = float(np.median(np.concatenate(found["two lines"])))
    for name, runs in found.items():
        bench.record(f"round trip, {name}", "ns", np.concatenate(runs).tolist(), floor=floor)
    turns = [
        float(np.median(ours) / np.median(lines))
        for ours, lines in zip(found["stamped"], found["two lines"], strict=True)
    ]
    bench.record("round trip, stamped over two lines", "times", turns, floor=1.0, goal=1.2)
    answered = all(len(run) == rounds for runs in found.values() for run in runs)
    bench.verify(answered, "every round trip came back with its own number plus one")


@scenario(
    "ring-rate",
    "ring buffer: events from core to core",
    conditions="two pinned threads that spin and stand back some microseconds when they find nothing, "
    f"capacity {CAPACITY}, 48-byte events; batches of {BATCH}, or one push and one pop an event; floor: "
    "the same bytes from core to core in halves of a block, one signal for 2,048 events.",
)
def ring_rate(bench: Bench) -> None:
    count = bench.parameter("events", smoke=CAPACITY, full=1_000 * CAPACITY)
    events = cycling_events()
    wrong = 0
    record_distance(bench, "before")

    def limit() -> None:
        nonlocal wrong
        wrong += hand_over(events, count)

    goals_ns = {("index", BATCH): 5.0, ("index", 1): 10.0}
    for mode in ("index", "stamped"):
        for title, batch in ((f"batches of {BATCH}", BATCH), ("singly", 1)):

            def hop(mode: Any = mode, batch: int = batch) -> None:
                nonlocal wrong
                ring = SpscRing(CAPACITY, mode=mode)
                wrong += both(
                    lambda: push_cycling(ring, events, count, batch),
                    lambda: pop_cycling(ring, CAPACITY, count, batch),
                )[1]

            goal_ns = goals_ns.get((mode, batch))
            bench.throughput(f"event, {mode}, {title}", hop, count=count, floor=limit, goal=goal_ns)
    record_distance(bench, "after")
    bench.verify(wrong == 0, "every event arrived once, in order")


def _produce(name: str, count: int, batch: int, passes: int) -> None:
    """Be the producing process: one pass for every token on the ring of tokens."""
    pin(0)
    ring, tokens = SpscRing.attach(name, "producer"), SpscRing.attach(f"{name}-tokens", "consumer")
    events = cycling_events()
    for _ in range(passes):
        while not len(tokens.pop(1)):
            pass
        push_cycling(ring, events, count, batch)


@scenario(
    "ring-processes",
    "ring buffer: events between processes, through shared memory",
    conditions=f"two pinned processes that spin, capacity {CAPACITY}, batches of {BATCH}; peer: the same "
    "ring between threads; floor: the same bytes from core to core in halves of a block.",
)
def ring_processes(bench: Bench) -> None:
    count = bench.parameter("events", smoke=CAPACITY, full=1_000 * CAPACITY)
    passes = bench.passes
    events, token = cycling_events(), np.zeros(1, EVENT_DTYPE)
    name = f"anytick-bench-{os.getpid()}"
    wrong = 0
    record_distance(bench, "before")
    ring = SpscRing(CAPACITY, name=name, role="consumer")
    tokens = SpscRing(16, name=f"{name}-tokens")

    def limit() -> None:
        nonlocal wrong
        wrong += hand_over(events, count)

    def across() -> None:
        nonlocal wrong
        tokens.push(token)
        # The first side has nothing to do here: its core is the other process's.
        wrong += both(lambda: None, lambda: pop_cycling(ring, CAPACITY, count, BATCH))[1]

    def within() -> None:
        nonlocal wrong
        local = SpscRing(CAPACITY)
        wrong += both(
            lambda: push_cycling(local, events, count, BATCH),
            lambda: pop_cycling(local, CAPACITY, count, BATCH),
        )[1]

    try:
        with other_process(_produce, name, count, BATCH, passes) as producer:
            # The consumer of the tokens is the last thing that the other process opens.
            while not (ring.peer_alive and tokens.peer_alive) and producer.is_alive():
                time.sleep(0)
            bench.throughput("event, shared memory", across, count=count, floor=limit, peer=within, goal=0.9)
            producer.join()
    finally:
        unlink_ring(name)
        unlink_ring(f"{name}-tokens")
    record_distance(bench, "after")
    bench.verify(wrong == 0 and producer.exitcode == 0, "every event arrived once, in order")
